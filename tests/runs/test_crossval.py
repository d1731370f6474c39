"""Cross-validation end to end, and runs that keep their last epoch."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

from jmer.base.errors import UserError
from jmer.base.options import from_config
from jmer.dataset import store
from jmer.runs import crossval, directory, scoring
from jmer.training import metrics
from jmer.training.calibration import cross_scaled
from jmer.training.options import TrainOptions

SMALL = {"encoder": "none", "graph": "none", "fusion": "early", "epochs": 3}


def read(file: Path):
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """One speaker a dialogue, no dev split."""
    dialogues = [replace(d, speakers=(f"p{i % 3}",) * len(d)) for i, d in enumerate(tiny.dialogues([6, 5, 7] * 4))]
    dialogues = [replace(d, dialogue_id=f"d{i}") for i, d in enumerate(dialogues)]
    return tiny.write_dataset(tmp_path_factory.mktemp("data") / "folds", splits={"train": dialogues})


def cross_validate(data: Path, workdir: Path, **options) -> None:
    chosen = from_config(TrainOptions, tiny.config(data, **{**SMALL, "cv": "speaker", "folds": 3, **options}))
    with jax.numpy_dtype_promotion("standard"):
        crossval.cross_validate(chosen, store.load(data), workdir)


def test_all_folds_are_scored_together_and_each_is_a_run(data: Path, tmp_path: Path, capsys):
    run = tmp_path / "cv"
    cross_validate(data, run, choose="last", seeds=2, vote=True)
    shown = capsys.readouterr().out
    assert "dev weighted" not in shown
    assert "calibration error" in shown
    result = read(run / "eval/cv/metrics.json")
    whole = store.load(data)
    runs = [directory.load(run / "folds" / str(n)) for n in range(3)]
    found = [scoring.predicted([r], scoring.dataset_of(r, None), "test", vote=False) for r in runs]
    labels = np.concatenate([f.labels for f in found])
    assert sorted(row.utterance for f in found for row in f.rows) == sorted(
        u for d in whole.split("train") for u in d.utterance_ids
    )
    probs = np.concatenate([f.probs for f in found], axis=1)
    for seed in range(2):
        expected = metrics.classification_report(labels, probs[seed].argmax(-1), 3)["weighted_f1"]
        assert result["weighted_f1"]["values"][seed] == expected
    fold = np.repeat(np.arange(3), [len(f.rows) for f in found])
    error = metrics.expected_calibration_error(labels, cross_scaled(probs[0], labels, fold))
    assert result["ece"]["values"][0] == pytest.approx(error)
    voted = metrics.classification_report(labels, probs.mean(axis=0).argmax(-1), 3)["weighted_f1"]
    assert read(run / "eval/cv-vote/metrics.json")["weighted_f1"]["values"] == [voted]
    # The temperature of a fold fits the other folds alone.
    others = fold != 1
    assert runs[1].calibration.seeds[0] == scoring.fit_temperature(probs[0][others], labels[others])
    before = result
    cross_validate(data, run, choose="last", seeds=2, vote=True)  # done already
    assert read(run / "eval/cv/metrics.json") == before


def test_a_fold_chooses_its_epoch_on_the_next_one(data: Path, tmp_path: Path):
    cross_validate(data, tmp_path / "cv")
    run = directory.load(tmp_path / "cv/folds/2")
    splits = scoring.dataset_of(run, None).manifest["splits"]
    assert set(splits) == {"train", "dev", "test"}
    lines = [json.loads(line) for line in (tmp_path / "cv/folds/2/metrics.jsonl").read_text().splitlines()]
    assert max(line["dev_weighted_f1"] for line in lines) == run.progress.best_score[0][0]


def test_the_last_epoch_is_kept_whatever_dev_says(tiny_dataset: Path, tmp_path: Path):
    tiny.train(tiny_dataset, tmp_path / "last", choose="last", patience=1, **SMALL)
    tiny.train(tiny_dataset, tmp_path / "best", patience=3, keep_epochs=3, **SMALL)
    last, best = directory.load(tmp_path / "last"), directory.load(tmp_path / "best")
    assert last.progress.best_epoch == ((3,),)
    slot = best.progress.best_epoch[0].index(3)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0, 0], b[0, slot]), last.params, best.params)


def test_without_dev_the_best_epoch_is_not_known(data: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"has no dev split.*--config.choose=last, or make folds with --config.cv"):
        tiny.train(data, tmp_path / "run", **SMALL)


def test_a_run_on_one_split_is_not_mixed_with_folds(data: Path, tmp_path: Path):
    tiny.train(data, tmp_path / "run", choose="last", **{**SMALL, "epochs": 1})
    with pytest.raises(UserError, match="holds a run on one split; give another --workdir"):
        cross_validate(data, tmp_path / "run", choose="last")


def test_a_number_of_a_fold_must_fit():
    for options, message in (
        (TrainOptions(fold=1), "config.cv is none"),
        (TrainOptions(cv="speaker", fold=6), r"below config\.folds"),
    ):
        with pytest.raises(UserError, match=message):
            options.check()
