"""The README's recipe for MELD, on an archive of MELD's shape and damage that is served on this machine."""

import csv
import json
import re
import shlex
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import file_server
import jax
import numpy as np
import pytest
from media_files import sine, write_clip
from meld_archive import ROWS, damaged_clips, write_meld_archive
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from jmer.base import cli
from jmer.dataset import store
from jmer.features import worker

# What is added to the README's lines: where the archive is, and a small model.
ADDED = {
    "download": ["--url={url}/MELD.Raw.tar.gz"],
    "extract": [],
    "train": [
        f"--config.{field}" for field in ("seeds=1", "epochs=5", "lr=0.05", "hidden=8", "encoder=none", "graph=none")
    ],
    "evaluate": [],
}
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


def recipe(root: Path) -> list[list[str]]:
    """The commands of the first block under the heading, each as module, arguments."""
    readme = (root / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^## On real data$.*?^```bash\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    assert block is not None
    lines = [shlex.split(line) for line in block[1].splitlines()]
    assert all(line[:2] == ["python", "-m"] for line in lines)
    return [line[2:] for line in lines]


def test_from_the_download_to_a_score(
    tmp_path: Path, root: Path, server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(worker, "pool", lambda workers: ThreadPoolExecutor(1))  # processes take seconds to start
    monkeypatch.setenv("JMER_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("configs").symlink_to(root / "configs")
    printed = {}
    for module, *arguments in recipe(root):
        name = module.removeprefix("jmer.")
        arguments += [argument.format(url=server.url) for argument in ADDED[name]]
        with jax.numpy_dtype_promotion("standard"):  # Optax raises a float to an integer power
            code = cli.run(import_module(module).main, arguments)
        printed[name], err = capfd.readouterr()
        assert code == 0, err
    assert list(printed) == list(ADDED)

    assert "dev: missing: dia110_utt7.mp4\n" in printed["download"]
    assert f"test: stray: {STRAY}\n" in printed["download"]

    dataset = store.load(Path("data/packed/meld"))
    rows = {f"{row['split']} {row['utterance']}": row for row in dataset.manifest["rows"]}
    faults = {name: (row["status"], row["reason"]) for name, row in rows.items() if row["reason"]}
    assert faults == PLANTED
    said = re.findall(r"^ *(failed|degraded) +1 x (\w+ \w+): (.*)$", printed["extract"], re.MULTILINE)
    assert {name: (status, reason) for status, name, reason in said} == PLANTED
    assert re.search(r"^all +4 +1 +2 +7$", printed["extract"], re.MULTILINE)
    assert f"note: test: 1 files in output_repeated_splits_test belong to no row and are left out ({STRAY})" in (
        printed["extract"].splitlines()
    )
    for split in dataset.manifest["splits"]:
        for dialogue in dataset.split(split):
            whole = [f"{split} {name}" not in PLANTED for name in dialogue.utterance_ids]
            assert dialogue.present["audio"].tolist() == dialogue.present["video"].tolist() == whole
            assert dialogue.present["text"].all()
            emotion = "anger" if dialogue.dialogue_id.endswith("110") else "joy"
            assert (dialogue.labels == dataset.labels.index(emotion)).all()

    assert "written to runs/meld/eval/dev" in printed["evaluate"]
    check_score(Path("runs/meld/eval/dev"), dataset)


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
