"""jmer.sweep: the space that it reads, what it leaves, and how it goes on after an interruption."""

import csv
import re
import sys
from pathlib import Path

import pytest

import jmer
from jmer import sweep, train
from jmer.base import cli
from jmer.base.options import to_config
from jmer.runs import directory
from jmer.runs.side_by_side import SideBySide
from jmer.runs.space import Choice, Range, read_space, traced
from jmer.training.options import TrainOptions

SMALL = ["--config.epochs=2", "--config.encoder=none", "--config.graph=none"]

pytestmark = pytest.mark.usefixtures("optax_promotion")


@pytest.fixture
def arguments(tiny_dataset, tmp_path: Path) -> list[str]:
    """The arguments of a sweep of small models."""
    file = tmp_path / "small.py"
    body = f"return tiny.config(Path({str(tiny_dataset)!r}))"
    file.write_text(f"from pathlib import Path\nimport tiny\ndef get_config():\n    {body}\n")
    return [f"--config={file}", f"--workdir={tmp_path / 'sweep'}", "--width=2", *SMALL]


def trials(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_space_is_read_by_the_types_of_the_options():
    texts = ["lr=log:1e-4..1e-2", "hidden=8..32", "focal_gamma=0/1/2", "graph=none/rgcn,gat", "l2=0.1/1", "mixup=0..1"]
    space = read_space(texts, to_config(TrainOptions()))
    assert space == {
        "lr": Range(1e-4, 1e-2, True),
        "hidden": Range(8, 32, False),
        "focal_gamma": Choice((0.0, 1.0, 2.0)),
        "graph": Choice(("none", "rgcn,gat")),
        "l2": Choice((0.1, 1.0)),
        "mixup": Range(0.0, 1.0, False),
    }
    assert traced(space) == ("lr", "l2", "mixup")
    assert Range(1e-4, 0.123456, True).short(0.0012345678) == 0.001235
    assert Range(1e-4, 0.12344, True).short(0.12344) == 0.1234
    assert Range(0.12346, 1.0, True).short(0.12346) == 0.1235
    assert Range(0.12344, 1.0, True).short(0.12344) == 0.12344  # never out of the range


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "there is nothing to search"),
        ("lr", "expected NAME=LOW..HIGH"),
        ("lr=", "expected NAME=LOW..HIGH"),
        ("lr=1..2..3", "expected NAME=LOW..HIGH"),
        ("lr=2..1", "expected a lower end below the higher one"),
        ("lr=log:0.1..0.1", "and above 0"),
        ("lr=0..1", "config.lr is 0.0; expected above 0"),
        ("drpout=0.1..0.2", "did you mean 'dropout'"),
        ("fusion=early..late", "fusion is no number"),
        ("graph=rgcn..gat", "graph is no number"),
        ("class_weights=none/inverted", "expected one of none, inverse"),
        ("dropout=0.1/0.1", "has a value twice"),
        ("dropout=0.1/x", "does not read as float"),
        ("learn_graph_weight=false..true", "learn_graph_weight is no number"),
        ("seeds=1/2", "seeds is not to be searched"),
        ("vote=true/false", "vote is not to be searched"),
        ("dataset=a/b", "dataset is not to be searched"),
        ("folds=2/3", "folds is not to be searched"),
    ],
)
def test_a_wrong_space_is_refused(text: str, expected: str):
    with pytest.raises(jmer.UserError, match=re.escape(expected)):
        read_space([text] if text else [], to_config(TrainOptions()))


def test_an_option_is_searched_once():
    with pytest.raises(jmer.UserError, match="names lr twice"):
        read_space(["lr=0.1..0.2", "lr=0.1/0.2"], to_config(TrainOptions()))


def test_the_best_config_trains_to_the_score_that_the_sweep_gave_it(arguments, tmp_path, capsys):
    search = ["--search", "lr=log:1e-3..1e-1", "--search", "dropout=0.1..0.5", "--search", "fusion=gated/late"]
    assert cli.run(sweep.main, [*arguments, *search, "--trials=6", "--config.seeds=2"]) == cli.EXIT_OK
    said = capsys.readouterr().out
    rows = trials(tmp_path / "sweep")
    assert [row["trial"] for row in rows] == [str(i) for i in range(6)]
    scores = [float(row["dev_weighted_f1"]) for row in rows]
    assert "the best of 6 settings on dev:" in said
    assert f"{max(scores):.4f} +- " in said
    assert all(1e-3 <= float(row["lr"]) <= 1e-1 and 0.1 <= float(row["dropout"]) <= 0.5 for row in rows)

    config, run = tmp_path / "sweep/best.py", tmp_path / "best"
    assert cli.run(train.main, [f"--config={config}", f"--workdir={run}"]) == cli.EXIT_OK
    found = directory.load(run)
    best = rows[scores.index(max(scores))]
    assert (found.options.lr, found.options.dropout) == (float(best["lr"]), float(best["dropout"]))
    assert found.options.fusion == best["fusion"]
    reached = [score for (score,) in found.progress.best_score]
    assert sum(reached) / 2 == pytest.approx(max(scores), abs=1e-6)
    assert " ".join(str(epoch) for (epoch,) in found.progress.best_epoch) == best["epochs"]


def test_a_small_space_is_tried_whole(arguments, tmp_path):
    search = ["--search=lr=0.01/0.1/0.2", "--search=dropout=0/0.2"]
    assert cli.run(sweep.main, [*arguments, *search, "--trials=8"]) == cli.EXIT_OK
    rows = trials(tmp_path / "sweep")
    assert len(rows) == len({(row["lr"], row["dropout"]) for row in rows}) == 6


def test_an_interrupted_sweep_goes_on_with_the_settings_that_it_was_at(arguments, tmp_path, monkeypatch, capsys):
    search, calls, train_them = ["--search=lr=log:1e-3..1e-1"], [], SideBySide.train

    def interrupted(self, settings):
        calls.append([setting.lr for setting in settings])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train_them(self, settings)

    monkeypatch.setattr(SideBySide, "train", interrupted)
    assert cli.run(sweep.main, [*arguments, *search, "--trials=4"]) == cli.EXIT_INTERRUPTED
    assert len(trials(tmp_path / "sweep")) == 2
    assert cli.run(sweep.main, [*arguments, *search, "--trials=6"]) == cli.EXIT_OK
    rows = trials(tmp_path / "sweep")
    assert calls[2] == calls[1]
    assert [float(row["lr"]) for row in rows] == [*calls[0], *calls[1], *calls[3]]
    assert cli.run(sweep.main, [*arguments, *search, "--trials=6"]) == cli.EXIT_OK  # all is done
    assert len(calls) == 4

    capsys.readouterr()
    for other, named in (
        (["--search=lr=log:1e-3..1"], "--search lr was Range(low=0.001, high=0.1, log=True), is"),
        ([*search, "--config.hidden=16"], "config.hidden was 8, is 16"),
        ([*search, "--search=dropout=0.1..0.2"], "--search dropout was None, is"),
    ):
        assert cli.run(sweep.main, [*arguments, *other, "--trials=8"]) == cli.EXIT_USER_ERROR
        said = capsys.readouterr().err
        assert "holds another sweep" in said
        assert named in said


def test_settings_that_fail_are_named_and_the_others_go_on(arguments, tmp_path, capsys):
    search = ["--search=hidden=8/9", "--search=lr=0.01/3e38"]
    assert cli.run(sweep.main, [*arguments, *search, "--trials=4"]) == cli.EXIT_OK
    rows = trials(tmp_path / "sweep")
    faults = {(row["hidden"], row["lr"]): row["fault"] for row in rows}
    assert faults["8", "0.01"] == ""
    assert "diverged" in faults["8", "3e+38"]
    assert "expected a multiple of 2" in faults["9", "0.01"]
    assert "of which 3 failed" in capsys.readouterr().out

    arguments[1] = f"--workdir={tmp_path / 'all-fail'}"
    assert cli.run(sweep.main, [*arguments, "--search=hidden=7/9", "--trials=2"]) == cli.EXIT_USER_ERROR
    assert "none of 2 settings could be trained" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        (["--search=lr=0.1..0.2", "--trials=0"], "--trials is 0; expected at least 1"),
        (["--search=lr=0.1..0.2", "--width=-1"], "--width is -1; expected at least 0"),
        (["--search=lr=0.1..0.2", "--config.cv=dialogue"], "name one fold with --config.fold"),
        ([], "there is nothing to search"),
    ],
)
def test_wrong_arguments_are_refused(arguments, added, expected, capsys):
    assert cli.run(sweep.main, [*arguments, *added]) == cli.EXIT_USER_ERROR
    assert expected in capsys.readouterr().err


def test_a_dataset_without_dev_is_refused(arguments, tmp_path, capsys):
    arguments = [argument for argument in arguments if not argument.startswith("--config=")]
    tiny_folds = ["--config=" + str(tmp_path / "small.py"), "--config.cv=dialogue", "--config.fold=0"]
    given = [*arguments, *tiny_folds, "--config.choose=last", "--search=lr=0.1..0.2"]
    assert cli.run(sweep.main, given) == cli.EXIT_USER_ERROR
    assert "has no dev split; a sweep needs one" in capsys.readouterr().err


def test_optuna_is_asked_for_where_it_is_missing(arguments, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    for name in [name for name in sys.modules if name.startswith("jmer.runs.study")]:
        monkeypatch.delitem(sys.modules, name)
    assert cli.run(sweep.main, [*arguments, "--search=lr=0.1..0.2"]) == cli.EXIT_USER_ERROR
    assert "pip install 'jmer[sweep]'" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_damaged_study_is_named(arguments, tmp_path, damage, capsys):
    search = ["--search=lr=0.01/0.1", "--trials=2"]
    assert cli.run(sweep.main, [*arguments, *search]) == cli.EXIT_OK
    file = tmp_path / "sweep/study.db"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] if damage == "cut" else b"\xff" * len(content))
    capsys.readouterr()
    assert cli.run(sweep.main, [*arguments, *search]) == cli.EXIT_USER_ERROR
    said = capsys.readouterr().err.strip()
    assert f"{file} is damaged" in said
    assert "give another --workdir" in said
    assert len(said.splitlines()) == 1
