"""Every command and code block of the docs that needs no download runs, page by page.

A block that is not run says in its title what it needs. A command is run as a newcomer would in a clone, with options
added that make the models small.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import newcomer
import numpy as np
import pytest

from jmer.base import cli
from jmer.encoders import hub
from jmer.features import worker

# Blocks that run in another test, by a part of their text: the file of that test, and what it calls.
ELSEWHERE = {
    "python -m jmer.demo": ("serve/test_demo.py", "jmer.demo"),
    "--coordinator=HOST:1234": ("training/test_devices.py", "--coordinator="),
    "python benchmarks/modality_ablation.py": ("test_readme.py", "benchmarks/modality_ablation.py"),
    "dropout: float = option(": ("test_docs.py", 'kind == "python"'),  # a field of a class, which is only read
}
ADDED = {
    "jmer.train": newcomer.SMALL,
    "jmer.sweep": (*newcomer.SMALL, "--trials=2", "--width=2"),
}
_BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(root: Path, page: str) -> Iterator[tuple[str, str, str]]:
    """The fenced blocks of a page: language, title and text."""
    text = (root / "docs" / page).read_text(encoding="utf-8")
    yield from ((language, title.strip(), block) for language, title, block in _BLOCK.findall(text))


def test_a_block_that_is_not_run_says_what_it_needs(root: Path):
    pages = [page.name for page in (root / "docs").glob("*.md")]
    untitled = [block for page in pages for _, title, block in blocks(root, page) if not title]
    for page in pages:
        for _, title, _ in blocks(root, page):
            assert not title or re.fullmatch(r'title="(needs|takes) .+"', title), page
    for part, (file, called) in ELSEWHERE.items():
        assert any(part in block for block in untitled), f"{part} is in no page"
        assert called in (root / "tests" / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["accuracy", "features", "house", "models", "prediction", "speed", "training"])
def test_pages_with_blocks_are_all_tried(root: Path, page: str):
    assert list(blocks(root, f"{page}.md"))


def test_blocks_run(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    monkeypatch.setattr(worker, "pool", lambda workers: ThreadPoolExecutor(1))  # processes take seconds to start
    monkeypatch.setenv("JMER_CACHE", str(tmp_path / "cache"))
    newcomer.make_clone(tmp_path, root, monkeypatch)
    encoders = newcomer.encoder_folders(tmp_path, root, monkeypatch)
    monkeypatch.setenv(hub.ENCODERS, str(encoders["jmer.predict"]))
    given = "--config configs/extract/lite.py --config.source=sample --config.out=data/packed/meld"
    assert newcomer.run("jmer.extract", given.split()) == cli.EXIT_OK  # stands in for MELD
    for run in "xy":
        arguments = ["--config", "gat_fusion", "--config.dataset=data/packed/meld", f"--workdir=runs/{run}"]
        assert newcomer.run("jmer.train", [*arguments, *newcomer.SMALL]) == cli.EXIT_OK
    names = [f"{split}{i // 3}/{i}" for split in ("train", "dev", "test") for i in range(5)]
    vectors = np.random.default_rng(0).standard_normal((len(names), 4), np.float32)
    np.savez("faces.npz", **dict(zip(names, vectors, strict=True)))
    capfd.readouterr()
    for page in ("models", "features", "prediction", "training", "house"):
        for language, title, block in blocks(root, f"{page}.md"):
            if title or any(part in block for part in ELSEWHERE):
                continue
            if language == "python":
                exec(compile(block, page, "exec"), {})
                continue
            for name, *arguments in newcomer.commands(block):
                code = newcomer.run(name, [*arguments, *ADDED.get(name, ())])
                assert code == cli.EXIT_OK, f"{page}: {name} {arguments}: {capfd.readouterr().err}"
