"""The `jmer` command: its list of commands, and how it hands the arguments on."""

import ast
from pathlib import Path

import pytest

import jmer
from jmer import train
from jmer.__main__ import COMMANDS, main
from jmer.base import cli


def test_every_command_is_listed_with_its_first_sentence(capsys: pytest.CaptureFixture[str]):
    assert cli.run(main, ["--help"]) == 0
    out = capsys.readouterr().out
    assert "usage: jmer" in out
    assert f"  train     {(train.__doc__ or '').splitlines()[0]}\n" in out
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")] == list(COMMANDS)
    assert cli.run(main, []) == 0
    assert capsys.readouterr().out == out


def test_every_module_with_a_main_is_a_command(root: Path):
    modules = {file.stem: ast.parse(file.read_text(encoding="utf-8")) for file in (root / "jmer").glob("*.py")}
    runnable = {
        name
        for name, tree in modules.items()
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)
    }
    assert runnable - {"__main__"} == set(COMMANDS)


def test_arguments_go_to_the_command(monkeypatch: pytest.MonkeyPatch):
    got = []
    monkeypatch.setattr(train, "main", lambda argv: got.append(argv) or 3)
    assert cli.run(main, ["train", "--config", "x", "--help"]) == 3
    assert got == [["--config", "x", "--help"]]


def test_an_unknown_command_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]):
    assert cli.run(main, ["trian"]) == 2
    assert capsys.readouterr().err == (
        f"error: jmer has no command 'trian' ({', '.join(COMMANDS)}); did you mean 'train'?\n"
    )


def test_version(capsys: pytest.CaptureFixture[str]):
    assert cli.run(main, ["--version"]) == 0
    assert capsys.readouterr().out == f"{jmer.__version__}\n"
