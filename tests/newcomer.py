"""What the tests of the README and of the docs share: a folder like a clone, small models, and running a command."""

import csv
import importlib.util
import shlex
import shutil
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

import huggingface_hub.constants
import jax
import pytest
import tables
import tiny_encoders

from jmer.base import cli
from jmer.corpora import sample

SMALL = tuple(
    f"--config.{field}" for field in ("seeds=1", "epochs=3", "lr=0.05", "hidden=8", "encoder=none", "graph=none")
)
SAMPLE = ("train", "dev", "test")
DIALOGUES = 2  # of each split of the sample
SRT = "1\n00:00:00,100 --> 00:00:01,000\nADA: Yuck.\n\n2\n00:00:01,000 --> 00:00:02,000\nBEN: I am so sorry.\n"


def make_clone(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like a clone, with what the README says is the user's: a video, its transcript, a table."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("configs", "benchmarks"):
        (folder / name).symlink_to(root / name)
    (folder / "data").mkdir()
    (folder / "data/sample").symlink_to(root / "data/sample")
    few = tmp_path / "few"
    for split in SAMPLE:
        lines = (root / f"data/sample/{split}_sent_emo.csv").read_text(encoding="utf-8").splitlines(keepends=True)
        column = next(csv.reader(lines)).index("Dialogue_ID")
        names = list(dict.fromkeys(row[column] for row in csv.reader(lines[1:])))[:DIALOGUES]
        few.mkdir(exist_ok=True)
        kept = [line for line, row in zip(lines[1:], csv.reader(lines[1:]), strict=True) if row[column] in names]
        (few / f"{split}_sent_emo.csv").write_text("".join([lines[0], *kept]), encoding="utf-8")
    for clips in (root / "data/sample").glob("*/"):
        (few / clips.name).symlink_to(clips)
    monkeypatch.setattr(sample, "sample_folder", lambda: few)
    shutil.copy(root / "data/sample/train_splits/dia0_utt1.mp4", folder / "talk.mp4")
    (folder / "talk.srt").write_text(SRT)
    rows = [
        row for split in SAMPLE for row in tables.rows_of(root / "data/sample/train_splits", *tables.CLIPS, split=split)
    ]
    tables.write_table(folder / "my.csv", rows)
    monkeypatch.chdir(folder)
    return folder


def encoder_folders(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The folder of encoders for each command, by default that of the tiny ones."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    tiny_encoders.save_bert(tmp_path / "encoders/all-MiniLM-L6-v2")
    published = root.parent / "shared/weights"
    return {"jmer.predict": published if published.is_dir() else tmp_path, "": tmp_path / "encoders"}


def commands(block: str) -> Iterator[list[str]]:
    """The commands of a block that begin with Python, from its argument on: a module or a script, and arguments."""
    for line in block.splitlines():
        for part in line.split(" && "):
            words = shlex.split(part)
            if words[0] in ("python", ".venv/bin/python"):
                yield words[2:] if words[1] == "-m" else words[1:]
            else:
                assert words[0] in ("python3", "pip", ".venv/bin/pip"), part  # make the environment, and install


def main_of(name: str):
    """The main function of a module or a script."""
    if not name.endswith(".py"):
        return import_module(name).main
    spec = importlib.util.spec_from_file_location(Path(name).stem, name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def run(name: str, arguments: Sequence[str]) -> int:
    """Runs a command, or with the name `-c` a line of Python; returns the exit code."""
    if name == "-c":
        exec(compile(arguments[0], "docs", "exec"), {})
        return cli.EXIT_OK
    with jax.numpy_dtype_promotion("standard"):  # Optax raises a float to an integer power
        return cli.run(main_of(name), arguments)
