"""Every command and code block of the README, in order, as a newcomer runs them in a clone; then those of the docs.

Installing and running the tests are left to those who do just that. The commands are those of the README, with options
added that make the models small. The sample is a few of its dialogues, MELD is an archive of MELD's shape and damage
that is served on this machine, and encoders of text are tiny ones with random weights. The starter gets its own
encoders where the development data is there, and says what it lacks otherwise.

A block of the docs that is not run says in its title what it needs, such as a download.
"""

import csv
import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import file_server
import newcomer
import numpy as np
import pytest
from media_files import sine, write_clip
from meld_archive import ROWS, damaged_clips, write_meld_archive
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from jmer.base import cli
from jmer.dataset import store
from jmer.encoders import hub
from jmer.features import worker

# What is added to the README's lines, by command: where the archive is, and small models.
ADDED = {
    "jmer.download": ("--url={url}/MELD.Raw.tar.gz",),
    "jmer.finetune": ("--config.seeds=1", "--config.epochs=1", "--config.rank=0"),
    "jmer.train": newcomer.SMALL,
    "benchmarks/modality_ablation.py": newcomer.SMALL,
}
# Blocks that run in another test, by a part of their text: the file of that test, and what it calls.
ELSEWHERE = {
    "python -m jmer.demo": ("serve/test_demo.py", "jmer.demo"),
    "--coordinator=HOST:1234": ("training/test_devices.py", "--coordinator="),
    "python benchmarks/modality_ablation.py": ("test_readme.py", "benchmarks/modality_ablation.py"),
    "dropout: float = option(": ("test_docs.py", 'kind == "python"'),  # a field of a class, which is only read
}
ADDED_IN_DOCS = {
    "jmer.train": newcomer.SMALL,
    "jmer.sweep": (*newcomer.SMALL, "--trials=2", "--width=2"),
}
_BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
# What `damaged_clips` plants, row by row: status, reason.
PLANTED = {
    "train dia125_utt3": ("failed", "audio, video: cannot be opened: Invalid data found when processing input"),
    "dev dia110_utt7": ("failed", "clip missing: dia110_utt7.mp4"),
    "test dia38_utt4": (
        "degraded",
        "audio, video: mis-cut clip: lasts 150.0 s where the utterance lasts at most 15.0 s",
    ),
}
# One class of dev does not occur in train, so that the scores lie between 0 and 1 and differ from each other.
DEV = (ROWS["dev"][0], replace(ROWS["dev"][1], emotion="anger"))
STRAY = "final_videos_testdia0_utt0.mp4"


@pytest.fixture
def server(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch):
    talking = (root / "data/sample/train_splits/dia0_utt0.mp4").read_bytes()
    sound = sine(300, seconds=150, rate=8_000)
    minutes = write_clip(tmp_path / "minutes.mp4", colours=[(90, 90, 90)] * 150, fps=1, samples=sound, rate=8_000)
    planted = damaged_clips(talking, long=minutes.read_bytes())
    archive = write_meld_archive(tmp_path / "archive.tar.gz", clips=planted, rows=ROWS | {"dev": DEV})
    with file_server.serving(monkeypatch) as server:
        server.data = archive.read_bytes()
        yield server


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory):
    """One cache for both newcomers, so that the same clips are decoded once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JMER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def clone(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return newcomer.make_clone(tmp_path, root, monkeypatch)


@pytest.fixture
def encoders(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    return newcomer.encoder_folders(tmp_path, root, monkeypatch)


def blocks(root: Path) -> Iterator[tuple[str, str]]:
    """The fenced blocks of the README, as language and text."""
    readme = (root / "README.md").read_text(encoding="utf-8")
    yield from re.findall(r"^```(\w+)\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)


@pytest.mark.usefixtures("clone")
def test_every_block_runs_in_order(
    root: Path,
    encoders: dict[str, Path],
    server,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
):
    monkeypatch.setattr(worker, "pool", lambda workers: ThreadPoolExecutor(1))  # processes take seconds to start
    printed: dict[str, list[str]] = {}
    for language, block in blocks(root):
        if language == "python":
            monkeypatch.setenv(hub.ENCODERS, str(encoders["jmer.predict"]))
            exec(compile(block, "README.md", "exec"), {})
            printed.setdefault("python", []).append(capfd.readouterr().out)
            continue
        for name, *arguments in newcomer.commands(block):
            if name == "pytest":
                continue
            monkeypatch.setenv(hub.ENCODERS, str(encoders.get(name, encoders[""])))
            arguments += [added.format(url=server.url) for added in ADDED.get(name, ())]
            code = newcomer.run(name, arguments)
            out, err = capfd.readouterr()
            assert code == cli.EXIT_OK, f"{name} {arguments}: {err}"
            printed.setdefault(name, []).append(out)
    check_quick_start(printed)
    check_answers(printed)
    check_meld(printed["jmer.download"][0], printed["jmer.extract"][0])
    assert "written to runs/meld/eval/dev" in printed["jmer.evaluate"][0]
    check_score(Path("runs/meld/eval/dev"), store.load(Path("data/packed/meld")))
    for run in ("meld-tuned", "meld-graph", "my"):
        assert json.loads(Path(f"runs/{run}/eval/dev/metrics.json").read_text())["n"] > 0


def check_quick_start(printed: dict[str, list[str]]) -> None:
    """The first line ends with a table of modalities and the trained run's answer on a clip."""
    (table,) = printed["benchmarks/modality_ablation.py"]
    lines = table.splitlines()
    assert [line.split()[0] for line in lines[-4:]] == ["all", "text", "audio", "video"]
    assert all(line.startswith("training on ") for line in lines[:4])
    assert len(lines) == 4 + 1 + 1 + 4  # and a blank line and the head
    assert re.search(r"audio \d+% video \d+%", printed["jmer.predict"][0])


def check_answers(printed: dict[str, list[str]]) -> None:
    """The starter answers where its encoders are, and names what is missing where they are not."""
    _, texts, video = printed["jmer.predict"]
    assert "I just got" in texts  # the table cuts a text to make room for a reason
    assert "Yuck." in video
    page = Path("talk.html").read_text()
    assert 'src="talk.mp4"' in page
    assert page.count('class="cue ') + page.count('class="cue"') == 2
    (answers,) = printed["python"]
    assert [line.split()[0] for line in answers.splitlines()] == ["utt0", "utt1"]


def check_meld(downloaded: str, extracted: str) -> None:
    """The planted damage is named, and costs no row."""
    assert "dev: missing: dia110_utt7.mp4\n" in downloaded
    assert f"test: stray: {STRAY}\n" in downloaded

    dataset = store.load(Path("data/packed/meld"))
    rows = {f"{row['split']} {row['utterance']}": row for row in dataset.manifest["rows"]}
    faults = {name: (row["status"], row["reason"]) for name, row in rows.items() if row["reason"]}
    assert faults == PLANTED
    said = re.findall(r"^ *(failed|degraded) +1 x (\w+ \w+): (.*)$", extracted, re.MULTILINE)
    assert {name: (status, reason) for status, name, reason in said} == PLANTED
    assert re.search(r"^all +4 +1 +2 +7$", extracted, re.MULTILINE)
    note = f"note: test: 1 files in output_repeated_splits_test belong to no row and are left out ({STRAY})"
    assert note in extracted.splitlines()
    for split in dataset.manifest["splits"]:
        for dialogue in dataset.split(split):
            whole = [f"{split} {name}" not in PLANTED for name in dialogue.utterance_ids]
            assert dialogue.present["audio"].tolist() == dialogue.present["video"].tolist() == whole
            assert dialogue.present["text"].all()
            emotion = "anger" if dialogue.dialogue_id.endswith("110") else "joy"
            assert (dialogue.labels == dataset.labels.index(emotion)).all()


def check_score(folder: Path, dataset: store.Dataset) -> None:
    """Computes the scores of `metrics.json` again, by scikit-learn, from the rows of `predictions.csv`."""
    with (folder / "predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    dialogues = dataset.split("dev")
    assert [row["utterance"] for row in rows] == [name for d in dialogues for name in d.utterance_ids]
    assert [row["text"] for row in rows] == [text for d in dialogues for text in d.texts]
    assert [row["label"] for row in rows] == [dataset.labels[i] for d in dialogues for i in d.labels]
    for row in rows:
        probs = {label: float(row[label]) for label in dataset.labels}
        assert sum(probs.values()) == pytest.approx(1, abs=1e-5)
        assert row["prediction"] == max(probs, key=lambda label: probs[label])
    result = json.loads((folder / "metrics.json").read_text())
    assert (result["n"], result["labels"], result["split"]) == (len(rows), list(dataset.labels), "dev")
    true, predicted = ([row[name] for row in rows] for name in ("label", "prediction"))
    labels = list(dataset.labels)
    for average in ("weighted", "macro"):
        precision, recall, f1, _ = precision_recall_fscore_support(
            true,
            predicted,
            labels=labels,
            average=average,
            zero_division=0.0,  # pyright: ignore[reportArgumentType]
        )
        expected = {"f1": f1} if average == "macro" else {"f1": f1, "precision": precision, "recall": recall}
        for name, value in expected.items():
            assert result[f"{average}_{name}"]["values"] == [pytest.approx(value)]
    assert result["accuracy"]["mean"] == pytest.approx(np.mean(np.array(true) == np.array(predicted)))
    assert result["confusion_matrix"] == confusion_matrix(true, predicted, labels=labels).tolist()


def pages(root: Path) -> list[str]:
    """The pages of the docs, by their names."""
    return sorted(page.name for page in (root / "docs").glob("*.md"))


def page_blocks(root: Path, page: str) -> Iterator[tuple[str, str, str]]:
    """The fenced blocks of a page: language, title and text."""
    text = (root / "docs" / page).read_text(encoding="utf-8")
    yield from ((language, title.strip(), block) for language, title, block in _BLOCK.findall(text))


def test_a_block_that_is_not_run_says_what_it_needs(root: Path):
    untitled = [block for page in pages(root) for _, title, block in page_blocks(root, page) if not title]
    for page in pages(root):
        for _, title, _ in page_blocks(root, page):
            assert not title or re.fullmatch(r'title="(needs|takes) .+"', title), page
    for part, (file, called) in ELSEWHERE.items():
        assert any(part in block for block in untitled), f"{part} is in no page"
        assert called in (root / "tests" / file).read_text(encoding="utf-8")


def test_every_block_of_the_docs_runs(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(worker, "pool", lambda workers: ThreadPoolExecutor(1))  # processes take seconds to start
    newcomer.make_clone(tmp_path, root, monkeypatch)
    newcomer.encoder_folders(tmp_path, root, monkeypatch)
    monkeypatch.setenv(hub.ENCODERS, str(tmp_path))  # without the starter's, whose answers test_readme.py looks at
    given = "--config configs/extract/lite.py --config.source=sample --config.out=data/packed/meld"
    assert newcomer.run("jmer.extract", given.split()) == cli.EXIT_OK  # stands in for MELD
    given = "--config gat_fusion --config.dataset=data/packed/meld --workdir=runs/x"
    assert newcomer.run("jmer.train", [*given.split(), *newcomer.SMALL]) == cli.EXIT_OK
    shutil.copytree("runs/x", "runs/y")
    names = [f"{split}{i // 3}/{i}" for split in ("train", "dev", "test") for i in range(5)]
    vectors = np.random.default_rng(0).standard_normal((len(names), 4), np.float32)
    np.savez("faces.npz", **dict(zip(names, vectors, strict=True)))
    capfd.readouterr()
    for page in pages(root):
        for language, title, block in page_blocks(root, page):
            if title or any(part in block for part in ELSEWHERE):
                continue
            if language == "python":
                exec(compile(block, page, "exec"), {})
                continue
            for name, *arguments in newcomer.commands(block):
                code = newcomer.run(name, [*arguments, *ADDED_IN_DOCS.get(name, ())])
                assert code == cli.EXIT_OK, f"{page}: {name} {arguments}: {capfd.readouterr().err}"
