import json
import socket
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
import tiny

from jmer.base import files
from jmer.base.errors import UserError
from jmer.dataset import manifest, store


def contents(folder):
    return {f.name: f.read_bytes() for f in folder.iterdir()}


def test_what_was_written_is_read_and_tfds_reads_it_too(tmp_path):
    out = tiny.write_dataset(tmp_path / "d", rows=[{"split": "train", "status": "ok"}], notes=["a note"])
    dataset = store.load(out)
    assert dataset.labels == tiny.LABELS
    assert dataset.dims == tiny.DIMS
    assert dataset.manifest["splits"]["test"] == {"dialogues": 3, "utterances": 18}
    for found, expected in zip(dataset.split("test"), tiny.dialogues([6, 11, 1], seed=3), strict=True):
        assert (found.dialogue_id, found.utterance_ids) == (expected.dialogue_id, expected.utterance_ids)
        assert (found.speakers, found.texts) == (expected.speakers, expected.texts)
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_array_equal(found.sentiments, expected.sentiments)
        assert found.sentiments.dtype == np.int32
        for m in tiny.DIMS:
            np.testing.assert_array_equal(found.values[m], expected.values[m])
            np.testing.assert_array_equal(found.present[m], expected.present[m])
        assert list(found.sequences) == list(tiny.SEQUENCE_DIMS)
        for one, other in zip(found.sequences["audio"], expected.sequences["audio"], strict=True):
            np.testing.assert_array_equal(one, other)
    builder: Any = tfds.builder_from_directory(out)
    source = builder.as_data_source("train")
    assert len(source) == 10
    assert source[1]["values"]["audio"].shape == (7, 5)


def test_bytes_are_the_same_each_time(tmp_path):
    assert contents(tiny.write_dataset(tmp_path / "a")) == contents(tiny.write_dataset(tmp_path / "b"))


def test_views_are_splits_and_train_stays_what_it_is(tmp_path):
    train, dev = tiny.dialogues([3, 5, 4], seed=1), tiny.dialogues([2], seed=2)
    views = {store.view_split(i): tiny.dialogues([3, 5, 4], seed=1 + i) for i in (1, 2)}
    augmentation = {"text": {"version": 1, "share": 0.1}}
    splits = {"train": train, "dev": dev} | views
    out = tiny.write_dataset(tmp_path / "d", splits=splits, views=2, augmentation=augmentation)
    dataset = store.load(out)
    assert list(views) == ["train_view1", "train_view2"]
    assert (dataset.manifest["views"], dataset.manifest["augmentation"]) == (2, augmentation)
    for split, dialogues in splits.items():
        found = dataset.split(split)
        assert [d.dialogue_id for d in found] == [d.dialogue_id for d in dialogues]
        for one, other in zip(found, dialogues, strict=True):
            np.testing.assert_array_equal(one.values["audio"], other.values["audio"])
    entries = store.load(tiny.write_dataset(tmp_path / "none")).manifest
    assert (entries["views"], entries["augmentation"]) == (0, {})


def test_an_absent_modality_is_left_out(tmp_path):
    absent = {"dim": 0, "extractor": None, "fingerprint": "", "reason": "no clips"}
    modalities = {m: tiny.modality(m) for m in tiny.DIMS} | {"video": absent}
    dataset = store.load(tiny.write_dataset(tmp_path / "d", modalities=modalities))
    assert list(dataset.dims) == ["text", "audio"]
    assert set(dataset.split("dev")[0].values) == {"text", "audio"}


def test_the_longest_sequences_are_in_the_manifest(tmp_path, monkeypatch: pytest.MonkeyPatch):
    out = tiny.write_dataset(tmp_path / "d")
    dataset = store.load(out)
    sequences = [s for split in dataset.manifest["splits"] for d in dataset.split(split) for s in d.sequences["audio"]]
    expected = {"audio": max(map(len, sequences))}
    assert expected["audio"] > 1
    with monkeypatch.context() as closed:
        closed.setattr(store.Dataset, "stored", None)  # nothing is decoded for them
        assert store.load(out).sequence_lengths == expected
    # A dataset of an earlier jmer has no such entry: it is read once.
    entries = json.loads((out / store.MANIFEST).read_text())
    del entries["sequence_lengths"]
    files.save_sealed(out / store.MANIFEST, entries)
    earlier = store.load(out)
    assert earlier.sequence_lengths == expected
    assert earlier.sequence_lengths is earlier.sequence_lengths
    assert store.load(tiny.write_dataset(tmp_path / "none", sequence_dims={})).sequence_lengths == {}


def test_a_process_hashes_each_file_once(tmp_path, monkeypatch: pytest.MonkeyPatch):
    out, hashed = tiny.write_dataset(tmp_path / "d"), []
    sha256 = manifest.files.sha256
    monkeypatch.setattr(manifest.files, "sha256", lambda file: hashed.append(file.name) or sha256(file))
    for _ in range(3):
        store.load(out)
    assert sorted(hashed) == sorted(store.load(out).manifest["files"])
    shard = next(out.glob("*train*"))
    hashed.clear()
    shard.write_bytes(shard.read_bytes())  # the same content, written anew
    store.load(out)
    assert hashed == [shard.name]


def test_a_flipped_bit_is_found(tmp_path):
    out = tiny.write_dataset(tmp_path / "d")
    shard = next(out.glob("*train*"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match=shard.name):
        store.load(out)
    shard.unlink()
    with pytest.raises(UserError, match="missing"):
        store.load(out)


def test_another_schema_version_is_refused(tmp_path):
    out = tiny.write_dataset(tmp_path / "d")
    entries = json.loads((out / store.MANIFEST).read_text())
    files.save_sealed(out / store.MANIFEST, entries | {"schema_version": 99})
    with pytest.raises(UserError, match=r"schema_version is 99.*reads 3 and 4.*jmer\.extract"):
        store.load(out)
    (out / store.MANIFEST).write_text("[]")
    with pytest.raises(UserError, match=r"manifest.json is damaged"):
        store.load(out)


def test_what_is_not_a_dataset_is_never_replaced(tmp_path):
    precious = tmp_path / "d" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("...")
    with pytest.raises(UserError, match="not a dataset"):
        tiny.write_dataset(tmp_path / "d")
    assert precious.is_file()


def test_a_failed_write_leaves_the_old_dataset_and_no_litter(tmp_path):
    out = tiny.write_dataset(tmp_path / "d")
    before = contents(out)

    def broken():
        yield tiny.dialogues([3])[0]
        raise RuntimeError("the power is out")

    with pytest.raises(RuntimeError):
        tiny.write_dataset(out, splits={"train": broken()})
    assert contents(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    names = [f".{name}-{socket.gethostname()}-{pid}-x" for name, pid in (("d", dead.pid), ("d", 1), ("e", dead.pid))]
    for name in names:
        (tmp_path / name / "new").mkdir(parents=True)
    tiny.write_dataset(tmp_path / "d")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*names[1:], "d"])


@pytest.mark.parametrize("there", ["nothing", "an older one"])
@pytest.mark.parametrize("lengths", [(3, 4), (5,)])
def test_another_process_may_be_quicker(tmp_path, monkeypatch: pytest.MonkeyPatch, there: str, lengths: tuple):
    out, whole, replace = tmp_path / "d", {"train": tiny.dialogues([3, 4])}, store.os.replace
    if there == "an older one":
        tiny.write_dataset(out, notes=["old"])

    def overtaken(source, target):
        monkeypatch.setattr(store.os, "replace", replace)
        tiny.write_dataset(out, splits={"train": tiny.dialogues(lengths)})
        replace(source, target)

    monkeypatch.setattr(store.os, "replace", overtaken)
    tiny.write_dataset(out, splits=whole)
    assert contents(out) == contents(tiny.write_dataset(tmp_path / "alone", splits=whole))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["alone", "d"]


def test_missing_dataset_and_split(tmp_path):
    with pytest.raises(UserError, match=r"nowhere does not exist.*jmer\.extract"):
        store.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no split 'other' \\(it has train, dev, test\\)"):
        store.load(tiny.write_dataset(tmp_path / "d")).split("other")
