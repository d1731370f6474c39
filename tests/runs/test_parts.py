"""Every optional part of the model and of the objective, trained from the config."""

import json

import numpy as np
import pytest
import tiny

from jmer.base.options import from_config
from jmer.config import base
from jmer.runs import building, directory
from jmer.training.options import TrainOptions


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


def test_each_option_of_the_objective_reaches_its_place():
    config = base()
    config.update_from_flattened_dict(
        {
            "focal_gamma": 2.0, "label_smoothing": 0.1, "logit_adjustment": 0.5, "class_weights": "inverse",
            "sentiment": 0.3, "specialist": "glad,cross", "specialist_weight": 0.4, "contrastive.weight": 0.6,
            "contrastive.temperature": 0.7, "consistency.passes": 3, "consistency.weight": 0.8,
            "consistency.temperature": 0.9, "consistency.confidence": 0.2,
        }
    )  # fmt: skip
    counts = np.array([6, 2, 0])
    options = from_config(TrainOptions, config)
    objective = building.make_objective(options, labels=tiny.LABELS, counts=counts)
    assert (objective.focal_gamma, objective.label_smoothing, objective.sentiment_weight) == (2.0, 0.1, 0.3)
    assert objective.class_weights == pytest.approx((2 / 3, 2, 0))  # 1 / n, scaled to a mean of 1 an utterance
    assert objective.log_prior == pytest.approx(0.5 * np.log([6 / 8, 2 / 8, 0.5 / 8]))
    assert (objective.specialist, objective.specialist_weight) == ((1, 2), 0.4)
    assert objective.specialist_class_weights is not None
    glad, cross, others = objective.specialist_class_weights
    assert (cross, glad / others) == (0, pytest.approx(3**0.5))
    assert (objective.contrastive_weight, objective.contrastive_temperature) == (0.6, 0.7)
    assert (objective.augmentations, objective.consistency_weight) == (3, 0.8)
    assert (objective.consistency_temperature, objective.consistency_confidence) == (0.9, 0.2)
    assert building.make_objective(TrainOptions(), labels=tiny.LABELS, counts=counts).class_weights is None
