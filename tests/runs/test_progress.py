"""Which epochs each seed keeps, and when training ends."""

import importlib
import json

import numpy as np
import pytest

from jmer.base.errors import UserError
from jmer.runs.directory import RunDirectory
from jmer.runs.log import Log
from jmer.runs.progress import Progress
from jmer.training.options import TrainOptions

SCORES = np.array([[0.1, 0.5], [0.3, 0.6], [0.3, 0.4], [0.2, 0.1], [0.4, 0.5], [0.35, 0.9]])  # epoch, seed


def after(scores, *, keep, patience) -> Progress:
    progress = Progress.start(seeds=scores.shape[1], keep=keep)
    for f1 in scores:
        chosen, progress = progress.after_epoch(f1, patience=patience)
        assert (chosen.sum(axis=1) <= 1).all()
        assert [epoch == progress.epoch for kept in progress.best_epoch for epoch in kept] == chosen.ravel().tolist()
    return progress


def test_the_best_epochs_are_kept_seed_by_seed():
    progress = after(SCORES, keep=2, patience=3)
    # Seed 0 keeps the later of equal epochs. Seed 1 last improved in epoch 2, so it stopped looking after epoch 5.
    assert [sorted(kept) for kept in progress.best_epoch] == [[5, 6], [2, 5]]
    assert [sorted(kept) for kept in progress.best_score] == [[0.35, 0.4], [0.5, 0.6]]
    assert progress.improved_epoch == (5, 2)


def test_it_ends_after_the_last_epoch_or_when_no_seed_is_patient():
    progress = after(SCORES[:4], keep=1, patience=9)
    assert progress.improved_epoch == (2, 2)
    for epochs, patience, finished in ((4, 9, True), (5, 9, False), (5, 3, False), (5, 2, True)):
        assert progress.finished(epochs=epochs, patience=patience) is finished
    assert not after(SCORES[:5], keep=1, patience=9).finished(epochs=6, patience=2)  # seed 0 improved in epoch 5


def test_it_is_the_same_after_json():
    progress = after(SCORES, keep=2, patience=3)
    assert Progress.from_json(json.loads(json.dumps(progress.to_json()))) == progress


def test_why_it_ended():
    progress = after(SCORES[:4], keep=1, patience=2)
    assert progress.why_finished(epochs=4, patience=2) == "all 4 epochs are done"
    assert progress.why_finished(epochs=60, patience=2) == (
        "stopped after epoch 4: dev weighted F1 has not risen for 2 epochs, the last time in epoch 2 "
        "(config.patience=2)"
    )


def test_the_line_of_an_epoch_says_how_long_the_rest_takes(tmp_path, said):
    log = Log(RunDirectory(tmp_path), after=0, epochs=12)
    dev = [{"weighted_f1": 0.5, "macro_f1": 0.25}, {"weighted_f1": 0.6, "macro_f1": 0.35}]
    for epoch, seconds in ((1, 40.0), (2, 3.0), (3, 2.0), (12, 2.5)):
        log.show(epoch, loss=1.25, dev=dev, best=np.array([0.6, 0.7]), seconds=seconds)
    log.close()
    scores = "loss 1.2500  dev weighted F1 0.5500  macro-F1 0.3000  best 0.6500"
    assert said.readouterr().out.splitlines() == [
        f"epoch  1/12  {scores}  40.00 s",
        f"epoch  2/12  {scores}  3.00 s  30 s left at most",
        f"epoch  3/12  {scores}  2.00 s  22 s left at most",
        f"epoch 12/12  {scores}  2.50 s",
    ]


def test_a_tracker_is_told_every_figure(tmp_path, monkeypatch):
    """A module with the interface of wandb, of the version at hand."""
    (tmp_path / "run 1").mkdir()
    (tmp_path / "mytracker.py").write_text(
        "heard = []\n"
        "def init(*, project, name, config, resume):\n"
        "    heard.append((project, name, config['lr'], resume))\n"
        "    import mytracker\n"
        "    return mytracker\n"
        "def log(figures, step):\n"
        "    heard.append((step, figures))\n"
        "def finish():\n"
        "    heard.append('finished')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    options = TrainOptions(tracker="mytracker", lr=0.25)
    log = Log(RunDirectory(tmp_path / "run 1"), after=0, epochs=2, options=options)
    log.write(1, seeds=[3, 4], figures={"train_loss": np.array([0.5, 0.25])}, dev=[], seconds=1.0)
    log.close()
    heard = importlib.import_module("mytracker").heard
    assert heard == [
        ("jmer", "run 1", 0.25, "allow"),
        (1, {"seed_3/train_loss": 0.5, "seed_4/train_loss": 0.25}),
        "finished",
    ]
    with pytest.raises(UserError, match=r"config\.tracker: there is no Python module 'no_such'"):
        Log(RunDirectory(tmp_path / "run 1"), after=0, epochs=2, options=TrainOptions(tracker="no_such"))
