"""Small runs that several test files open; none of them changes these."""

import json

import pytest
import tiny

from jmer.base import files
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


@pytest.fixture
def edited():
    """A function that changes fields of a JSON file; one that holds its hash then holds the new one."""

    def edited(file, **changes):
        content = json.loads(file.read_text())
        (files.save_sealed if files.SEAL in content else files.save_json)(file, content | changes)

    return edited
