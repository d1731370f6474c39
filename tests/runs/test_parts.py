"""Every optional part of the model and of the objective, trained from the config."""

import json

import numpy as np
import pytest
import tiny

from jmer.runs import directory


def test_every_part_trains_from_the_config(rich):
    lines = [json.loads(line) for line in (rich / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["train_loss"]) for line in lines)
    weights = {line["graph_weight"] for line in lines}
    assert len(weights) > 3  # lambda is learned, and logged
    assert all(abs(w - 1) < 0.5 for w in weights)
    run = directory.load(rich)
    assert run.params["prototypes"].shape == (2, 2, len(tiny.LABELS), 8)
    assert {"sentiment", "specialist", "embedding", "graph_weight"} <= set(run.params)
    assert {name: leaf.shape[-1] for name, leaf in run.stats.items()} == {
        "text_mean": 6, "text_scale": 6, "audio_mean": 5, "audio_scale": 5,
    }  # fmt: skip
    assert run.model.gate_names == ("text", "audio", "joint")


def test_classes_are_described(rich):
    classes = json.loads((rich / "classes.json").read_text())
    assert list(classes) == list(tiny.LABELS)
    for key in ("share", "drawn_share"):
        assert sum(row[key] for row in classes.values()) == pytest.approx(1)
    assert any(row["share"] != row["drawn_share"] for row in classes.values())
    average = sum(row["weight"] * row["utterances"] for row in classes.values())
    assert average == pytest.approx(sum(row["utterances"] for row in classes.values()))
