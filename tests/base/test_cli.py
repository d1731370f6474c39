"""Config overrides, one-line errors and exit codes."""

import errno
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from jmer.base import cli
from jmer.base.errors import StorageError, UserError
from jmer.base.options import option

CONFIG = """
from ml_collections import ConfigDict

def get_config():
    return ConfigDict(dict(
        lr=1e-3, epochs=30, name="x", resume=True, labels=(), windows=(10, 10), text=dict(model="lite", max_tokens=8)))
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "config.py"
    path.write_text(CONFIG)
    return str(path)


def config(file: str, *overrides: str):
    return cli.parse(cli.Parser("doc"), [f"--config={file}", *overrides], config=True).config


def test_overrides_take_the_type_of_their_field(file: str):
    got = config(
        file,
        "--config.lr=1",
        "--config.epochs",
        "7",
        "--config.name=1",
        "--config.resume=false",
        "--config.labels=joy, anger",
        "--config.windows=3,-4",
        "--config.text.model=/a=b",
    )
    assert got.lr == 1.0
    assert isinstance(got.lr, float)
    assert got.epochs == 7
    assert got.name == "1"
    assert got.resume is False
    assert got.labels == ("joy", "anger")
    assert got.windows == (3, -4)
    assert got.text.model == "/a=b"
    assert got.text.max_tokens == 8


def test_python_tuples_and_bare_booleans(file: str):
    got = config(file, "--config.labels=('a, b', 'c')", "--config.resume")
    assert got.labels == ("a, b", "c")
    assert got.resume is True


@pytest.mark.parametrize("text", ["('joy')", "('joy',)", "['joy']", "joy", "joy,"])
def test_one_label_is_a_tuple_of_one(file: str, text: str):
    assert config(file, f"--config.labels={text}").labels == ("joy",)


def test_a_number_in_parentheses_is_a_tuple_of_one(file: str):
    assert config(file, "--config.windows=(5)").windows == (5,)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.lrr=1", "config has no field 'lrr'; did you mean 'lr'?"),
        ("--config.zzz=1", "config has no field 'zzz' (fields: epochs, labels, lr, name, resume, text.max_tokens, "),
        ("--config.text.modle=x", "did you mean 'text.model'?"),
        ("--config.text=x", "config field 'text' is a group; set one of its fields (text.max_tokens, text.model)"),
        ("--config.epochs=1.5", "config field 'epochs': '1.5' does not read as int"),
        ("--config.lr=fast", "config field 'lr': 'fast' does not read as float"),
        ("--config.resume=maybe", "'maybe' does not read as bool"),
        ("--config.windows=a,b", "'a,b' does not read as tuple"),
        ("--config.windows=(1,", "'(1,' does not read as tuple"),
        ("--config.windows=('a', 'b')", "does not read as tuple"),
        ("--config.labels=(1, 2)", "does not read as tuple"),
        ("--wrkdir=x", "unknown argument '--wrkdir=x'; did you mean '--workdir'?"),
        ("--workdir", "expected one argument"),
        ("clip.mp4", "unknown argument 'clip.mp4'"),
    ],
)
def test_bad_arguments_say_what_is_wrong(file: str, override: str, message: str):
    parser = cli.Parser("doc")
    parser.add_argument("--workdir")
    with pytest.raises(UserError) as error:
        cli.parse(parser, [f"--config={file}", override], config=True)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist"),
        ("def get_config(): return 1/0", "ZeroDivisionError: division by zero"),
        ("def get_config(:", "SyntaxError"),
        ("x = 1", "no attribute 'get_config'"),
        ("def get_config(): return {}", "returned dict, expected a ConfigDict"),
    ],
)
def test_bad_config_files(tmp_path: Path, text: str | None, message: str):
    file = tmp_path / "broken.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError) as error:
        cli.load_config(file)
    assert message in str(error.value)
    assert str(file) in str(error.value)


def test_config_is_needed(tmp_path: Path):
    with pytest.raises(UserError, match=r"no config was given; name a file or a config that .*gat_fusion"):
        cli.parse(cli.Parser("doc"), [], config=True)


def test_help_lists_flags_and_fields(file: str, capsys: pytest.CaptureFixture[str]):
    parser = cli.Parser("What it does.")
    parser.add_argument("--workdir", help="where")
    with pytest.raises(SystemExit) as stop:
        cli.parse(parser, ["--help", "--config", file], config=True)
    assert stop.value.code == 0
    out = capsys.readouterr().out
    for part in ("What it does.", "--workdir", "--config.text.max_tokens=8", "--config.lr=0.001"):
        assert part in out


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part with a choice.

    More about the part.
    """

    kind: str = option("plain", "Kind of the part, which takes a sentence of more than sixty characters to explain.",
                       choices=("plain", "odd"))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Parts(Part):
    """The whole."""

    a_name_that_is_longer_than_its_column: int = option(3, "A count.", at_least=1)


def help_of(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.parse(cli.Parser("What it does.", prog="jmer do"), ["--help", *argv], options=Parts)
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_help_is_derived_from_the_options(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    out = help_of(capsys)
    assert out.startswith("usage: jmer do [-h] [--quiet] [--config CONFIG]\n")
    assert out.endswith(
        "with the defaults; --config CONFIG --help shows a config's values:\n\n"
        "The whole:\n"
        "  --config.a_name_that_is_longer_than_its_column=3\n"
        "                                        A count.\n\n"
        "A part with a choice:\n"
        "  --config.kind=plain                   Kind of the part, which takes a sentence of more than sixty\n"
        "                                        characters to explain. One of plain, odd.\n"
    )
    file = tmp_path / "mine.py"
    file.write_text("from ml_collections import ConfigDict\ndef get_config(): return ConfigDict({'kind': 'odd'})")
    out = help_of(capsys, "--config", str(file))
    assert f"with the values of {file}:" in out
    assert "--config.kind=odd " in out
    assert "column=3\n" in out


def test_options_are_checked_when_arguments_are_parsed(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text("from ml_collections import ConfigDict\ndef get_config(): return ConfigDict({'kind': 'odd'})")
    args = cli.parse(cli.Parser("doc"), [f"--config={file}"], options=Parts)
    assert args.options == Parts(kind="odd")
    with pytest.raises(UserError, match=r"config.kind is even; expected one of plain, odd"):
        cli.parse(cli.Parser("doc"), [f"--config={file}", "--config.kind=even"], options=Parts)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/x/config.json"),
            "runs/x/config.json: No space left on",
        ),
        (ValueError("RESOURCE_EXHAUSTED: writing\nfile 9: No space left on device [os_error_code='28']"), "free space"),
        (
            ValueError('Error writing "a/0" at local file "/run/x/": No space left on device'),
            "error: /run/x/: No space",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), "runs: Permission denied; change its permissions"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), "name a folder on a disk that can be written to"),
    ],
)
def test_a_disk_that_cannot_be_written_to_is_one_line(error: Exception, said: str, capsys: pytest.CaptureFixture[str]):
    assert cli.run(raises(error), []) == StorageError.exit_code == 5
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), ValueError("wrong"), KeyError("x")])
def test_other_errors_keep_their_traceback(error: Exception):
    with pytest.raises(type(error)):
        cli.run(raises(error), [])


def raises(error: BaseException):
    def main(_):
        raise error

    return main


def test_exit_codes(capsys: pytest.CaptureFixture[str]):
    assert cli.run(lambda _: None, []) == 0
    assert cli.run(lambda _: cli.EXIT_FAILED_ROWS, []) == 3
    assert capsys.readouterr().err == ""
    assert cli.run(raises(UserError("a.csv: no column\n'text'")), []) == 2
    assert capsys.readouterr().err == "error: a.csv: no column 'text'\n"
    assert cli.run(raises(KeyboardInterrupt()), []) == 75
    assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(ZeroDivisionError):  # a fault of jmer's own keeps its traceback
        cli.run(raises(ZeroDivisionError()), [])


def test_sigterm_is_an_interruption_and_the_handler_is_put_back():
    before = signal.getsignal(signal.SIGTERM)
    assert cli.run(lambda _: os.kill(os.getpid(), signal.SIGTERM), []) == 75
    assert signal.getsignal(signal.SIGTERM) is before


FAILING_LATE = """
import atexit, errno, os, sys, threading
from jmer.base import cli

def write():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "events")

def main(_):
    atexit.register(write)
    atexit.register(lambda: threading.Thread(target=write).start())
    write()

sys.exit(cli.run(main))
"""


def test_writes_that_fail_after_the_first_are_not_told():
    """Such as those of TensorBoard's thread, which writes what is left when the interpreter ends."""
    done = subprocess.run([sys.executable, "-c", FAILING_LATE], capture_output=True, text=True)
    assert done.returncode == StorageError.exit_code
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: events: No space left on device")
