"""Fine-tuning end to end on a tiny encoder: it learns, it resumes, and extraction reads the encoder that it leaves."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_encoders import save_bert
from tuning_runs import assert_same_weights, fit, fit_interrupted, metrics

from jmer import finetune
from jmer.base import cli
from jmer.base.errors import UserError
from jmer.base.types import Heard, Turn
from jmer.features import registry
from jmer.features.text.tuned import TunedText
from jmer.training.calibration import fit_temperature
from jmer.training.metrics import expected_calibration_error
from jmer.tuning.options import TuneOptions

LABELS = ("cross", "glad")
WORDS = {"glad": "happy", "cross": "sad"}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes a corpus in which the first turn tells the label of all turns, so that the context decides."""
    rng, lines = np.random.default_rng(0), ["dialogue,utterance,speaker,text,label,split"]
    for split, count in (("train", 40), ("dev", 12), ("test", 6)):
        for dialogue in range(count):
            label = LABELS[rng.integers(2)]
            for turn in range(4):
                text = "oh no" if turn else f"i am {WORDS[label]}"
                lines.append(f"{split}{dialogue},{turn},{'ab'[turn % 2]},{text},{label},{split}")
    file = tmp_path_factory.mktemp("corpus") / "table.csv"
    file.write_text("\n".join(lines))
    return file


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("encoders") / "base")


@pytest.fixture(scope="module")
def options(table: Path, base: Path) -> TuneOptions:
    return TuneOptions(
        source="table", root=str(table), model=str(base), max_tokens=48, batch_tokens=96, epochs=6, lr=3e-3,
        head_lr=1e-2, dropout=0.0, train_embeddings=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tuned(options: TuneOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "tuned"
    fit(options, workdir)
    return workdir


def test_it_reads_the_context(tuned: Path):
    assert metrics(tuned, "dev")["accuracy"]["mean"] > 0.95
    assert metrics(tuned, "test")["n"] == 24


def test_it_may_be_run_with_bfloat16_products(tuned: Path):
    turns = (Turn("a", "we are happy"), Turn("b", "oh no"))
    exact, rounded = (TunedText(model=str(tuned / "model"), precision=p) for p in ("float32", "bfloat16"))
    vectors = [x.encode([x.prepare(Heard(turns, 1)).payload])[0].vector for x in (exact, rounded)]
    assert 1e-4 < np.abs(vectors[0] - vectors[1]).max() < 0.1 * np.abs(vectors[0]).max()


def test_without_the_context_nothing_is_learnt(options: TuneOptions, tmp_path: Path):
    """The first of four turns tells its label, and the others are a coin's."""
    fit(replace(options, context=0), tmp_path / "run")
    assert metrics(tmp_path / "run", "dev")["accuracy"]["mean"] < 0.9


def test_an_interrupted_run_goes_on_bit_for_bit(
    options: TuneOptions, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fit_interrupted(options, tmp_path / "run", monkeypatch)
    assert_same_weights(tuned, tmp_path / "run")
    lines = [(run / "seeds/0/metrics.jsonl").read_text().splitlines() for run in (tuned, tmp_path / "run")]
    losses = [[json.loads(line)["train_loss"] for line in each] for each in lines]
    assert losses[0] == losses[1]


def answers(folder: Path) -> list[list[int]]:
    """Returns what the head says of the extracted vectors of two dialogues."""
    head, extractor, found = load_file(folder / "head.safetensors"), TunedText(model=str(folder)), []
    for word in ("sad", "happy"):
        turns = tuple(Turn("ab"[i % 2], "oh no" if i else f"i am {word}") for i in range(4))
        payloads = [extractor.prepare(Heard(turns, i)).payload for i in range(4)]
        vectors = np.stack([e.vector for e in extractor.encode(payloads)])
        for payload, vector in zip(payloads, vectors, strict=True):
            np.testing.assert_allclose(extractor.encode([payload], exact=True)[0].vector, vector, atol=1e-5)
        found.append((vectors @ head["head.kernel"] + head["head.bias"]).argmax(axis=1).tolist())
    return found


def test_extraction_reads_what_was_left(tuned: Path):
    """The head on the extracted vectors answers as the classifier did."""
    made = registry.from_options("text", registry.options_of("text")(model=str(tuned / "model")), sequence_frames=0)
    assert isinstance(made, TunedText)
    assert answers(tuned / "model") == [[0] * 4, [1] * 4]
    assert "weighted F1 on dev" in (tuned / "model" / "README.md").read_text()


def test_adapters_are_left_alone_and_predict_as_trained(options: TuneOptions, base: Path, tmp_path: Path):
    fit(replace(options, rank=4, alpha=8.0, lr=1e-2, epochs=8), tmp_path / "run")
    assert metrics(tmp_path / "run", "dev")["accuracy"]["mean"] > 0.95
    assert not (tmp_path / "run/model/model.safetensors").exists()
    assert answers(tmp_path / "run" / "model") == [[0] * 4, [1] * 4]
    with pytest.raises(UserError, match="holds adapters, and new ones beside them could not be read again"):
        fit(replace(options, model=str(tmp_path / "run" / "model"), rank=2), tmp_path / "again")


def test_probabilities_are_scaled(options: TuneOptions, tmp_path: Path):
    """By the temperature that fits dev; the calibration errors are those of the probabilities that were written."""
    run = tmp_path / "run"
    fit(replace(options, epochs=1), run)
    for split in ("dev", "test"):
        result = metrics(run, split)
        (temperature,) = result["temperature"]
        rows = [line.split(",") for line in (run / f"eval/{split}/predictions.csv").read_text().splitlines()[1:]]
        labels = np.array([LABELS.index(row[4]) for row in rows])
        probs = np.array([row[-2:] for row in rows], float)
        raw = probs**temperature / (probs**temperature).sum(axis=1, keepdims=True)
        assert expected_calibration_error(labels, raw) == pytest.approx(result["ece_unscaled"]["mean"], abs=1e-5)
        if split == "test":
            assert expected_calibration_error(labels, probs) == pytest.approx(result["ece"]["mean"], abs=1e-5)
        else:
            assert fit_temperature(raw, labels) == pytest.approx(temperature, rel=1e-3)
            assert abs(temperature - 1) > 0.05


def test_a_linear_term_reads_every_hidden_state(options: TuneOptions, tmp_path: Path):
    fit(replace(options, epochs=2, linear=True), tmp_path / "run")
    model = tmp_path / "run/model"
    heads, extractor = load_file(model / "head.safetensors"), TunedText(model=str(model), layers="all")
    assert np.abs(heads["linear_head.kernel"]).max() > 1e-3  # it begins with zeros
    lines = [line.split(",") for line in (tmp_path / "run/eval/test/predictions.csv").read_text().splitlines()[1:]]
    for start in range(0, len(lines), 4):
        turns = tuple(Turn(speaker, text) for _, _, speaker, text, *_ in lines[start : start + 4])
        payloads = [extractor.prepare(Heard(turns, i)).payload for i in range(4)]
        states = np.stack([e.vector for e in extractor.encode(payloads)])
        last = states[:, -len(heads["head.kernel"]) :]
        logits = last @ heads["head.kernel"] + heads["head.bias"] + states @ heads["linear_head.kernel"]
        odds = (logits[:, 1] - logits[:, 0]) / metrics(tmp_path / "run", "test")["temperature"][0]
        expected = [float(line[-1]) for line in lines[start : start + 4]]
        np.testing.assert_allclose(1 / (1 + np.exp(-odds)), expected, atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"average": "ema", "decay": "cosine", "speakers": "names", "mask_tokens": 0.1},
        {"average": "epochs", "decay": "constant", "class_weights": "sqrt", "label_smoothing": 0.1},
        {"layer_decay": 0.5, "causal": True, "context": 2, "remat": True, "train_embeddings": False, "dropout": 0.1},
    ],
)
def test_every_option_trains(options: TuneOptions, tmp_path: Path, change: dict):
    fit(replace(options, epochs=4, **change), tmp_path / "run")
    lines = (tmp_path / "run/seeds/0/metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["train_loss"] for line in lines]
    assert losses[-1] < 0.95 * losses[0]


def test_seeds_have_a_score_each_and_the_best_is_exported(options: TuneOptions, tmp_path: Path):
    fit(replace(options, epochs=2, seeds=2), tmp_path / "run")
    scores = metrics(tmp_path / "run", "dev")["weighted_f1"]["values"]
    assert len(scores) == 2
    assert scores[0] != scores[1]
    card = (tmp_path / "run/model/README.md").read_text()
    assert f"seed {int(np.argmax(scores))}" in card
    assert f"{max(scores):.4f}" in card


def test_other_settings_in_one_directory_are_refused(options: TuneOptions, tuned: Path):
    with pytest.raises(UserError, match=r"config.lr was 0.003, is 0.1"):
        fit(replace(options, lr=0.1), tuned)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--config.model=", "config.model is empty; expected the directory of an encoder"),
        ("--config.decay=square", "config.decay is square; expected one of linear, cosine, constant"),
        ("--config.batch_tokens=32", r"config.batch_tokens is 32; expected at least config.max_tokens"),
        ("--config.sentiment=1.0", "no utterance of the train split has a sentiment"),
        ("--config.model=/nowhere", "no directory /nowhere"),
    ],
)
def test_mistakes_are_told(
    argument: str, expected: str, options: TuneOptions, tmp_path: Path, capsys: pytest.CaptureFixture
):
    given = [f"--config.{name}={getattr(options, name)}" for name in ("source", "root", "model", "max_tokens")]
    code = cli.run(finetune.main, ["--config", "finetune/text", *given, argument, f"--workdir={tmp_path / 'run'}"])
    assert code == cli.EXIT_USER_ERROR
    assert expected in capsys.readouterr().err


def test_a_diverged_run_says_so(options: TuneOptions, tmp_path: Path):
    with pytest.raises(UserError, match=r"training diverged in epoch 1: .* give a lower --config.lr"):
        fit(replace(options, lr=1e30), tmp_path / "run")
