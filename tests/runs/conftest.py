"""Small runs that several test files open; none of them changes these."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny

from jmer import extract
from jmer.base import files
from jmer.base.options import from_config
from jmer.dataset import build
from jmer.dataset.options import ExtractOptions
from jmer.training import checkpoint


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory):
    return tiny.write_dataset(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="session")
def trained(tiny_dataset, tmp_path_factory):
    """Two seeds, four epochs, each of them saved, never interrupted."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "PAUSE", 0)
        tiny.train(tiny_dataset, workdir, seeds=2)
    return workdir


@pytest.fixture(scope="session")
def rich(tmp_path_factory):
    """A run with the parts that the default leaves out, on data with augmented views; of one shape, to compile once."""
    splits = {"train": tiny.dialogues([5, 7, 6, 8, 5]), "dev": tiny.dialogues([5, 8], seed=2)}
    splits["train_view1"] = tiny.dialogues([5, 7, 6, 8, 5], seed=7)
    data = tiny.write_dataset(tmp_path_factory.mktemp("data") / "views", splits=splits, views=1)
    workdir = tmp_path_factory.mktemp("runs") / "rich"
    tiny.train(
        data, workdir, seeds=2, epochs=3, keep_epochs=2, vote=True, specialist="glad", sentiment=0.3, sampler="sqrt",
        class_weights="effective", focal_gamma=1.0, learn_graph_weight=True, logit_adjustment=0.5, fusion="hybrid",
        mixup=0.2, feature_noise=0.1, modality_dropout=0.1, modalities="text,audio", graph="gat",
        **{"contrastive.weight": 0.1, "consistency.passes": 2},
    )  # fmt: skip
    return workdir


@pytest.fixture(scope="session")
def run_of_texts(tmp_path_factory) -> Path:
    """A run on a handful of texts, which looks at one utterance at a time."""
    folder = tmp_path_factory.mktemp("texts")
    splits = ["train", "train", "dev"]
    rows = [
        f"d{d},{i},a,{'Lovely' if i % 2 else 'Awful'} day.,{tiny.LABELS[i % 3]},{split}"
        for d, split in enumerate(splits)
        for i in range(3)
    ]
    (folder / "table.csv").write_text("\n".join(["dialogue,utterance,speaker,text,label,split", *rows]) + "\n")
    config: Any = extract.default_config()
    config.source, config.root, config.out = "table", str(folder / "table.csv"), str(folder / "packed")
    config.text.model, config.audio.model, config.video.model = "vader", "none", "none"
    config.workers, config.cache = 1, str(folder / "cache")
    tiny.train(build.extract_dataset(from_config(ExtractOptions, config)), folder / "run", encoder="none", graph="none")
    return folder / "run"


@pytest.fixture
def edited():
    """A function that changes fields of a JSON file; one that holds its hash then holds the new one."""

    def edited(file, **changes):
        content = json.loads(file.read_text())
        (files.save_sealed if files.SEAL in content else files.save_json)(file, content | changes)

    return edited
