"""Trainings as processes that are killed or signalled: a few of the faults of benchmarks/faults."""

import random
import signal
from pathlib import Path

import pytest

from benchmarks.faults import training_kills, training_signals, trainings


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> trainings.Subject:
    return trainings.Subject.prepared(tmp_path_factory.mktemp("trainings"), {"seeds": 2, "epochs": 3})


def test_killed_and_run_again_it_leaves_what_an_unbroken_one_leaves(subject: trainings.Subject):
    row = training_kills.killed("two seeds", subject, random.Random(0), count=1, phases=("saving",))
    assert row.held, row.outcome


def test_a_signal_is_obeyed_and_costs_nothing(subject: trainings.Subject):
    subject.forget_run()
    found = training_signals.signalled(
        subject, random.Random(0), count=1, phases=("epochs",), signals=(signal.SIGTERM,)
    )
    assert all(row.held for row in found), found


def test_what_two_trainings_differ_in_is_named(subject: trainings.Subject, tmp_path: Path):
    run = subject.training.run
    assert trainings.content(run) == subject.expected
    scores = run / "eval/test/predictions.csv"
    whole = scores.read_text()
    scores.write_text(whole + " ")
    (run / "left").touch()
    differing = {name for name, found in trainings.content(run).items() if found != subject.expected[name]}
    assert differing == {"files", "predictions of test"}
    scores.write_text(whole)
    (run / "left").unlink()
