"""The page of an evaluation: its numbers against scikit-learn's on predictions.csv, and its look in a browser."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from sklearn.metrics import confusion_matrix, f1_score

from jmer.dataset import store
from jmer.runs import directory, scoring
from jmer.runs.comparison import compare_runs

ZERO: Any = 0.0  # scikit-learn says that it takes a string


@pytest.fixture(scope="module")
def run(trained: Path, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two seeds that was scored on dev."""
    copy = tmp_path_factory.mktemp("scored") / "run"
    shutil.copytree(trained, copy)
    scoring.score_run(
        scoring.calibrate(directory.load(copy), store.load(tiny_dataset)), store.load(tiny_dataset), "dev"
    )
    return copy


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def tables(browser) -> dict[str, list[list[str]]]:
    """The tables of a page by the beginning of their captions."""
    found = browser.run(
        "return [...document.querySelectorAll('table')].map(t => [t.caption ? t.caption.textContent : '', "
        "[...t.rows].map(r => [...r.cells].map(c => c.textContent.trim()))])"
    )
    return {caption.partition(", tiny, dev")[0]: rows for caption, rows in found}


def test_every_number_is_that_of_the_predictions(browser, run):
    """Another script, which knows the CSV file alone, comes to the same numbers."""
    folder = run / "eval/dev"
    browser.open(folder / "report.html")
    shown, rows = tables(browser), rows_of(folder)
    labels = list(tiny.LABELS)
    known = [row for row in rows if row["label"]]
    true, predicted = [r["label"] for r in known], [r["prediction"] for r in known]

    def f1(chosen: list[dict[str, str]]) -> str:
        value = f1_score(
            [r["label"] for r in chosen], [r["prediction"] for r in chosen],
            labels=labels, average="weighted", zero_division=ZERO,
        )  # fmt: skip
        return f"{value:.3f}".removeprefix("0") if value < 1 else f"{value:.3f}"

    cells = browser.run("return [...document.querySelectorAll('svg[aria-label=\"Confusion matrix\"] rect + text')]"
                        ".map(t => t.textContent)")  # fmt: skip
    assert cells == [str(n) for n in confusion_matrix(true, predicted, labels=labels).ravel()]
    assert f"weighted F1 {f1(known)}" in browser.one("figcaption").text

    numbers: dict[str, int] = {}
    place = {}
    for row in rows:
        numbers[row["dialogue"]] = numbers.get(row["dialogue"], 0) + 1
        place[row["utterance"], row["dialogue"]] = numbers[row["dialogue"]]
    ranges = {"1": range(1, 2), "2 to 3": range(2, 4), "4 to 8": range(4, 9)}
    by_place = shown["By place in the dialogue"][1:]
    assert {name for name, *_ in by_place} <= ranges.keys()
    for name, n, weighted, _ in by_place:
        chosen = [r for r in known if place[r["utterance"], r["dialogue"]] in ranges[name]]
        assert (n, weighted) == (str(len(chosen)), f1(chosen))
    for name, n, weighted, accuracy in shown["By speaker"][1:]:
        chosen = [r for r in known if r["speaker"] == name]
        right = np.mean([r["label"] == r["prediction"] for r in chosen])
        assert (n, weighted) == (str(len(chosen)), f1(chosen))
        assert float(accuracy) == pytest.approx(right, abs=6e-4)
    assert sum(int(n) for _, n, *_ in shown["By shift of emotion"][1:]) == len(known)

    errors = shown["The ten wrong answers with the highest probabilities"][1:]
    wrong = sorted((r for r in known if r["label"] != r["prediction"]), key=lambda r: -float(r[r["prediction"]]))[:10]
    assert [e[7] for e in errors] == [f"{r['dialogue']} {r['utterance']}" for r in wrong]
    metrics = json.loads((folder / "metrics.json").read_text())
    temperature = metrics["temperature"][0]
    probs = np.array([[float(r[label]) for label in labels] for r in known])
    unscaled = probs**temperature / (probs**temperature).sum(axis=1, keepdims=True)
    bins = np.minimum((unscaled.max(axis=1) * 15 - 1e-9).astype(int), 14)
    gaps = unscaled.max(axis=1) - (np.array(labels)[unscaled.argmax(axis=1)] == np.array(true))
    error = sum(abs(gaps[bins == b].sum()) for b in range(15)) / len(known)
    assert float(re.findall(r"Before scaling: calibration error (\S+)\. ", browser.one("main").text)[0]) == (
        pytest.approx(error, abs=2e-3)
    )
    hidden = dict(shown["With a modality hidden from the model"][1:])
    assert list(hidden) == ["nothing", "text", "audio", "video"]
    assert float(hidden["text"].split()[0]) < float(hidden["nothing"].split()[0])  # labels are read off the text


def test_how_it_looks(browser, run):
    page = run / "eval/dev/report.html"
    browser.open(page)
    assert browser.driver.title == "tiny: dev, seed 0"
    figures = browser.all("figure")
    assert len(figures) == 6
    captions = [figure.find_element("css selector", "figcaption").text for figure in figures]
    assert all("tiny, dev: " in caption and "on which the epochs were chosen" in caption for caption in captions[:4])
    assert all(figure.size["height"] > 100 and figure.size["width"] > 100 for figure in figures)
    assert "git_revision" in browser.one("main").text
    assert browser.requests() == [page.resolve().as_uri()]
    assert browser.errors() == []
    assert browser.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_a_comparison(browser, run, tmp_path):
    shutil.copytree(run, tmp_path / "other")
    runs = [directory.load(run), directory.load(tmp_path / "other")]
    assert "weighted_f1" in compare_runs(*runs, split="dev", vote=True)
    page = run / "eval/dev-vote/against-other.html"
    found = json.loads(page.with_suffix(".json").read_text())
    browser.open(page)
    assert f"{found['scores']['weighted_f1']['difference']:+.3f}" in browser.one("main").text
    assert found["names"] == ["run", "other"]
    assert browser.errors() == []
