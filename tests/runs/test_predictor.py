"""Prediction from Python: the same probabilities as evaluation, the vote of seeds and runs, and what is refused."""

import csv
import json
import logging
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
import tiny

import jmer
from jmer import evaluate
from jmer.base import cli
from jmer.base.types import Dialogue, Features, Utterance
from jmer.dataset import store
from jmer.runs import directory, scoring, voting
from jmer.training import metrics
from jmer.training.calibration import scaled


def mappings(dialogue: Features, *, modalities=tuple(tiny.DIMS)) -> list[dict]:
    """A dialogue's ready features, as a user gives them."""
    return [
        {"speaker": speaker, "features": {m: dialogue.values[m][i] for m in modalities if dialogue.present[m][i]}}
        for i, speaker in enumerate(dialogue.speakers)
    ]


def probabilities(predictions) -> np.ndarray:
    return np.array([[p.probs[label] for label in tiny.LABELS] for p in predictions])


def weighted_f1(loaded: jmer.Predictor, dialogues) -> float:
    """The score of a predictor on dialogues."""
    found = [[tiny.LABELS.index(p.label) for p in loaded.predict(mappings(d))] for d in dialogues]
    labels = np.concatenate([d.labels for d in dialogues])
    return metrics.classification_report(labels, np.concatenate(found), len(tiny.LABELS))["weighted_f1"]


def test_prediction_equals_evaluation_whatever_the_mapping(tiny_dataset, trained):
    run, loaded = directory.load(trained), jmer.load(trained)
    split = store.load(tiny_dataset).split("test")
    probs = voting.predict_features(run, split)[1][0][0]
    given = mappings(split[1])
    found = loaded.predict(given)
    np.testing.assert_allclose(probabilities(found), probs, atol=1e-5)
    assert [p.label for p in found] == [tiny.LABELS[i] for i in probs.argmax(-1)]
    for p, utterance in zip(found, given, strict=True):
        assert sum(p.gates.values()) == pytest.approx(1, abs=1e-5)
        assert all(p.gates[m] == 0 for m in tiny.DIMS if m not in utterance["features"])
    assert loaded.predict([]) == []
    assert len(loaded.predict([{"speaker": "a", "features": {"audio": np.ones(5)}}] * 200)) == 200


def test_the_vote_is_the_same_in_evaluation_and_prediction(tiny_dataset, trained, tmp_path):
    first, second = (shutil.copytree(trained, tmp_path / name) for name in ("first", "second"))
    tiny.train(tiny_dataset, tmp_path / "third", seed=7, seeds=3, epochs=2, encoder="none", graph="none")
    dialogues = store.load(tiny_dataset).split("train")
    for arguments, loaded in (
        ([f"--with={tmp_path / 'third'}"], jmer.load(first, tmp_path / "third")),
        (["--vote"], jmer.load(first, vote=True)),
        ([], jmer.load(first)),
    ):
        assert cli.run(evaluate.main, [f"--workdir={first}", "--split=train", *arguments]) == 0
        name = "train-vote" if arguments else "train"
        score = json.loads((first / f"eval/{name}/metrics.json").read_text())["weighted_f1"]["values"][0]
        assert weighted_f1(loaded, dialogues) == score
    # Five seeds vote, not the first of each run.
    (d,) = store.load(tiny_dataset).split("dev")[:1]
    runs = [directory.load(tmp_path / name) for name in ("first", "third")]
    pooled = np.concatenate([voting.predict_features(run, [d])[0][0] for run in runs])
    assert len(pooled) == 5
    found = probabilities(jmer.load(first, tmp_path / "third").predict(mappings(d)))
    np.testing.assert_allclose(found, pooled.mean(axis=0), atol=1e-5)
    assert np.abs(found - pooled[[0, 2]].mean(axis=0)).max() > 1e-3
    found = probabilities(jmer.load(first, second).predict(mappings(d)))
    np.testing.assert_allclose(found, pooled[:2].mean(axis=0), atol=1e-5)


def test_probabilities_are_scaled_alike_in_evaluation_and_prediction(tiny_dataset, trained, tmp_path):
    """By the temperature of dev, for a seed, for the vote and for several runs; the predicted class stays."""
    first, second = (shutil.copytree(trained, tmp_path / name) for name in ("first", "second"))
    dataset = store.load(tiny_dataset)
    (d,) = dataset.split("dev")[:1]
    before = {vote: probabilities(jmer.load(first, vote=vote).predict(mappings(d))) for vote in (False, True)}
    run = scoring.calibrate(directory.load(first), dataset)
    assert directory.load(first).calibration == run.calibration
    for vote, temperature in ((False, run.calibration.seeds[0]), (True, run.calibration.vote)):
        assert abs(np.log(temperature)) > 0.05  # so that something is scaled
        found = probabilities(jmer.load(first, vote=vote).predict(mappings(d)))
        np.testing.assert_allclose(found, scaled(before[vote], temperature), atol=1e-5)
        np.testing.assert_array_equal(found.argmax(axis=1), before[vote].argmax(axis=1))
    scoring.score([run], dataset, "dev", vote=False)
    with (first / "eval/dev/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))[: len(d)]
    shown = np.array([[float(row[label]) for label in tiny.LABELS] for row in rows])
    np.testing.assert_allclose(shown, scaled(before[False], run.calibration.seeds[0]), atol=1e-5)
    # The second run has not been calibrated: the temperature of both together is the geometric mean with 1.
    both = probabilities(jmer.load(first, second).predict(mappings(d)))
    np.testing.assert_allclose(both, scaled(before[True], run.calibration.vote**0.5), atol=1e-5)
    # Going on with training makes the temperatures those of another model.
    tiny.train(tiny_dataset, first, seeds=2, epochs=5)
    assert directory.load(first).calibration.seeds == (1.0, 1.0)


def test_the_first_of_several_seeds_predicts_and_says_so(trained, caplog):
    with caplog.at_level(logging.WARNING, logger="jmer"):
        loaded = jmer.load(trained)
        for _ in range(2):
            loaded.predict([{"speaker": "a", "features": {"audio": np.ones(5)}}])
    assert [r.getMessage() for r in caplog.records] == [
        f"{trained} holds 2 seeds, and the first one (0) predicts; jmer.load(..., vote=True) lets all of them vote"
    ]
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="jmer"):
        jmer.load(trained, vote=False)
        jmer.load(trained, vote=True)
        jmer.load(trained, trained)
    assert not caplog.records
    with pytest.raises(jmer.UserError, match="several runs can only predict by a vote"):
        jmer.load(trained, trained, vote=False)


def test_a_run_that_was_trained_to_vote_votes(rich):
    run = directory.load(rich)
    d = tiny.dialogues([6], seed=4)[0]
    each = voting.predict_features(run, [d])[0][0]
    found = jmer.load(rich).predict(mappings(d, modalities=("text", "audio")))
    np.testing.assert_allclose(probabilities(found), each.mean(axis=0), atol=1e-5)
    first = jmer.load(rich, vote=False).predict(mappings(d, modalities=("text", "audio")))
    np.testing.assert_allclose(probabilities(first), each[0], atol=1e-5)


def test_labels_and_features_of_a_modality_that_no_model_reads_are_ignored(rich, trained):
    d = tiny.dialogues([6], seed=4)[0]
    plain, loaded = mappings(d, modalities=("text", "audio")), jmer.load(rich)
    assert loaded.modalities == ("text", "audio")
    expected = probabilities(loaded.predict(plain))
    np.testing.assert_array_equal(probabilities(loaded.predict(mappings(d))), expected)
    labelled = Dialogue(
        id="d",
        utterances=tuple(
            Utterance(id=f"u{i}", label="neutral" if i else "glad", sentiment="positive", **given)
            for i, given in enumerate(plain)
        ),
    )
    np.testing.assert_array_equal(probabilities(loaded.predict(labelled)), expected)
    # In a vote with a run that does read it, the features count for that run.
    both = jmer.load(rich, trained)
    assert set(both.predict(mappings(d))[0].gates) == {*tiny.DIMS, "joint"}
    assert (probabilities(both.predict(mappings(d))) != probabilities(both.predict(plain))).any()


@pytest.mark.parametrize(
    ("utterance", "message"),
    [
        ({"speaker": "a", "txt": "hello"}, "unknown field 'txt'"),
        ({"speaker": "a", "features": {"text": np.ones(5)}}, "text.*5.*6"),
        ({"speaker": "a", "features": {"smell": np.ones(5)}}, "utt0: features of 'smell'; expected text, audio, video"),
    ],
)
def test_bad_dialogues_are_refused(trained, utterance, message):
    with pytest.raises(jmer.UserError, match=message):
        jmer.load(trained).predict([utterance])


def test_runs_that_do_not_fit_together_do_not_vote(rich, trained, tmp_path, edited):
    other = shutil.copytree(trained, tmp_path / "other")
    modalities = json.loads((other / "features.json").read_text())["modalities"]
    for change, message in (
        ({"labels": ["calm", "glad", "bored"]}, "only runs of one label set"),
        ({"labels": list(tiny.LABELS), "modalities": modalities | {"text": tiny.modality("text", fingerprint="x")}},
         "the same features"),
        ({"format": 1}, "has run format 1"),
    ):  # fmt: skip
        edited(other / "features.json", **change)
        with pytest.raises(jmer.UserError, match=message):
            jmer.load(rich, other)


def test_kept_epochs_vote_or_are_averaged(rich, tmp_path, edited):
    run, d = directory.load(rich), tiny.dialogues([6], seed=4)
    each = []  # probabilities of every seed's every kept epoch
    for k in range(2):
        one = jax.tree.map(lambda x, k=k: x[:, k : k + 1], run.params)
        each.append(voting.predict_features(replace(run, params=one), d)[0][0])
    assert np.abs(each[0] - each[1]).max() > 1e-3
    np.testing.assert_allclose(voting.predict_features(run, d)[0][0], np.mean(each, axis=0), atol=1e-5)

    averaged = shutil.copytree(rich, tmp_path / "averaged")
    edited(averaged / "config.json", merge_epochs="average")
    means = jax.tree.map(lambda x: x.mean(axis=1, keepdims=True), run.params)
    for a, b in zip(*(jax.tree.leaves(x) for x in (directory.load(averaged).params, means)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-7)
