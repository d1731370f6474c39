"""Folds: every labelled dialogue is tested once, and no speaker is in two folds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny

from jmer.base.errors import UserError
from jmer.base.types import UNLABELLED, Features
from jmer.dataset import store
from jmer.dataset.folds import fold_of


def named(dialogues: list[Features], *, speakers: int, split: str) -> list[Features]:
    """The dialogues with one speaker each, in turns."""
    return [
        replace(d, dialogue_id=f"{split} {d.dialogue_id}", speakers=(f"p{i % speakers}",) * len(d))
        for i, d in enumerate(dialogues)
    ]


@pytest.fixture
def dataset(tmp_path: Path) -> store.Dataset:
    train = named(tiny.dialogues([2, 3, 1, 4, 2, 3, 1, 2]), speakers=4, split="train")
    dev = named(tiny.dialogues([5, 1]), speakers=2, split="dev")
    silent = replace(tiny.dialogues([3])[0], labels=np.full(3, UNLABELLED, np.int32))
    return store.load(tiny.write_dataset(tmp_path / "d", splits={"train": [*train, silent], "dev": dev}))


def ids(dataset: store.Dataset, split: str) -> list[str]:
    return [d.dialogue_id for d in dataset.split(split)]


@pytest.mark.parametrize("dev", [False, True])
def test_speakers_are_apart_and_everything_is_tested_once(dataset: store.Dataset, dev: bool):
    tested = []
    for number in range(4):
        fold = fold_of(dataset, number, by="speaker", count=4, dev=dev)
        assert set(fold.manifest["splits"]) == ({"train", "dev", "test"} if dev else {"train", "test"})
        speakers = {name: {s for d in fold.split(name) for s in d.speakers} for name in fold.manifest["splits"]}
        assert sum(map(len, speakers.values())) == len(set().union(*speakers.values())) == 4
        for name, size in fold.manifest["splits"].items():
            assert size == {"dialogues": len(fold.split(name)), "utterances": sum(map(len, fold.split(name)))}
        tested += ids(fold, "test")
        if dev:
            assert ids(fold, "dev") == ids(fold_of(dataset, (number + 1) % 4, by="speaker", count=4, dev=dev), "test")
    assert len(tested) == len(set(tested)) == 10
    assert fold_of(dataset, 0, by="speaker", count=4, dev=dev).fingerprint == dataset.fingerprint


def test_what_is_read_is_what_was_stored(dataset: store.Dataset):
    stored = {d.dialogue_id: d for split in ("train", "dev") for d in dataset.split(split)}
    for found in fold_of(dataset, 1, by="dialogue", count=5, dev=False).split("test"):
        np.testing.assert_array_equal(found.values["text"], stored[found.dialogue_id].values["text"])
        np.testing.assert_array_equal(found.labels, stored[found.dialogue_id].labels)


def test_folds_have_about_equally_many_utterances(dataset: store.Dataset):
    sizes = [
        fold_of(dataset, n, by="dialogue", count=4, dev=False).manifest["splits"]["test"]["utterances"]
        for n in range(4)
    ]
    assert sum(sizes) == 24
    assert max(sizes) - min(sizes) <= 2


def test_speakers_who_talk_with_each_other_are_one_group(tmp_path: Path):
    dialogues = [replace(d, speakers=("a", "b")) for d in tiny.dialogues([2, 2])]
    dialogues += [
        replace(tiny.dialogues([2])[0], speakers=("b", "c")),
        replace(tiny.dialogues([1])[0], speakers=("d",)),
    ]
    dataset = store.load(tiny.write_dataset(tmp_path / "d", splits={"train": dialogues}))
    assert fold_of(dataset, 0, by="speaker", count=2, dev=False).manifest["splits"]["test"]["dialogues"] in (1, 3)
    with pytest.raises(UserError, match=r"config.folds is 3, but only 2 groups of dialogues .* --config.cv=dialogue"):
        fold_of(dataset, 0, by="speaker", count=3, dev=False)
    with pytest.raises(UserError, match=r"config.folds is 9, but only 4 dialogues have a label"):
        fold_of(dataset, 0, by="dialogue", count=9, dev=False)


def test_views_are_of_the_dialogues_in_train(tmp_path: Path):
    lengths = [2, 3, 2, 3]
    splits = {
        "train": tiny.dialogues(lengths),
        "dev": tiny.dialogues([2, 3], seed=1),
        "train_view1": tiny.dialogues(lengths, seed=2),
    }
    dataset = store.load(tiny.write_dataset(tmp_path / "d", splits=splits, views=1))
    stored = {split: [d.values["text"] for d in dataset.split(split)] for split in splits}
    view_of = dict(zip(map(bytes, stored["train"]), stored["train_view1"], strict=True))
    scored = 0
    for number in range(3):
        fold = fold_of(dataset, number, by="dialogue", count=3, dev=False)
        assert fold.manifest["splits"]["train_view1"] == fold.manifest["splits"]["train"]
        for original, view in zip(fold.split("train"), fold.split("train_view1"), strict=True):
            expected = view_of.get(bytes(original.values["text"]), original.values["text"])
            np.testing.assert_array_equal(view.values["text"], expected)
        tested = {bytes(d.values["text"]) for d in fold.split("test")}
        assert not tested & {bytes(d.values["text"]) for d in fold.split("train")}
        scored += len(tested)
    assert scored == len(stored["train"]) + len(stored["dev"])
