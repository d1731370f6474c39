"""Sequences from extraction through training to prediction: what they add, and what is refused."""

import wave
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tiny

import jmer
from jmer import evaluate, extract, train
from jmer.base import cli
from jmer.base.options import from_config
from jmer.base.types import UNLABELLED, Features
from jmer.dataset import build, store
from jmer.dataset.flat import flatten, longest
from jmer.dataset.options import ExtractOptions
from jmer.runs import directory, scoring, voting
from jmer.training import checkpoint, steps

ABSENT = {"dim": 0, "extractor": None, "fingerprint": "", "reason": "switched off"}


def cue_dialogue(name: str, rng: np.random.Generator) -> Features:
    """Each frame names one class, and every class is named equally often; one frame of the true class has a mark.

    The position of the mark is random. The mean over the frames, which is the vector, is the same for every utterance.
    """
    n, classes = 6, len(tiny.LABELS)
    labels = rng.integers(classes, size=n).astype(np.int32)
    sequences = []
    for label in labels:
        named = rng.permutation(np.repeat(np.arange(classes), 3))
        marked = np.arange(len(named)) == rng.choice(np.flatnonzero(named == label))
        sequences.append(np.c_[np.eye(classes)[named], marked].astype(np.float16))
    return Features(
        dialogue_id=name,
        utterance_ids=tuple(f"{name}_utt{i}" for i in range(n)),
        speakers=("a", "b") * (n // 2),
        texts=("",) * n,
        labels=labels,
        sentiments=np.full(n, UNLABELLED, np.int32),
        values={"audio": np.stack([s.astype(np.float32).mean(axis=0) for s in sequences])},
        present={"audio": np.ones(n, np.bool_)},
        sequences={"audio": tuple(sequences)},
    )


def test_attention_finds_the_frame_that_the_mean_does_not_show(tmp_path):
    rng = np.random.default_rng(0)
    splits = {name: [cue_dialogue(f"d{i}", rng) for i in range(n)] for name, n in (("train", 40), ("dev", 16))}
    modalities = {"text": ABSENT, "audio": tiny.modality("audio", dim=4), "video": ABSENT}
    data = tiny.write_dataset(tmp_path / "d", splits=splits, modalities=modalities, sequence_dims={"audio": 4})
    accuracy = {}
    for sequences in ("", "audio"):
        tiny.train(
            data, tmp_path / f"run{sequences}", sequences=sequences, encoder="none", graph="none", hidden=16, epochs=30,
            lr=3e-2, dropout=0.1, batch_utterances=64, patience=30,
        )  # fmt: skip
        run = directory.load(tmp_path / f"run{sequences}")
        accuracy[sequences] = scoring.score([run], store.load(data), "dev", vote=False)["accuracy"]["mean"]
    assert accuracy[""] < 0.5
    assert accuracy["audio"] > 0.95


def test_statistics_are_those_of_all_frames():
    dialogues = tiny.dialogues([5, 9, 7])
    sequences = longest(dialogues, tiny.SEQUENCE_DIMS)
    stats = steps.feature_stats(flatten(dialogues, utterances=21, dims=tiny.DIMS, sequences=sequences))
    frames = np.concatenate([s for d in dialogues for s in d.sequences["audio"]]).astype(np.float64)
    np.testing.assert_allclose(stats["audio_sequence_mean"], frames.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(stats["audio_sequence_scale"], 1 / frames.std(axis=0), rtol=1e-5)
    vectors = np.concatenate([d.values["audio"][d.present["audio"]] for d in dialogues]).astype(np.float64)
    np.testing.assert_allclose(stats["audio_mean"], vectors.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(stats["audio_scale"], 1 / vectors.std(axis=0), rtol=1e-5)


def raw_utterances(folder: Path, n: int, rng: np.random.Generator) -> list[dict[str, str]]:
    """Utterances with words, with a sound, with both or with neither, each of a different length."""
    words = ("great", "awful", "chair", "love", "nothing")
    utterances = []
    for i in range(n):
        clip = folder / f"{i}.wav"
        with wave.open(str(clip), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(rng.integers(-9000, 9000, 1600 + 400 * i).astype(np.int16).tobytes())
        text = " ".join(rng.choice(words, size=1 + i % 5))
        utterances.append({"speaker": "ab"[i % 2], "text": text * (i % 4 != 1), "clip": str(clip) * (i % 4 != 3)})
    return utterances


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """A dataset of words and sounds with sequences of both, and the raw dialogues that it was extracted from."""
    folder, rng = tmp_path_factory.mktemp("spoken"), np.random.default_rng(0)
    given = [(split, raw_utterances(folder, n, rng)) for split, n in (("train", 6), ("train", 8), ("dev", 7))]
    rows = ["dialogue,utterance,speaker,text,label,split,clip"]
    for d, (split, utterances) in enumerate(given):
        for i, u in enumerate(utterances):
            rows.append(f"d{d},u{i},{u['speaker']},{u['text']},{tiny.LABELS[i % 3]},{split},{u['clip']}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    config: Any = extract.default_config()
    config.source, config.root, config.out = "table", str(folder / "table.csv"), str(folder / "packed")
    config.text.model, config.audio.model, config.video.model = "vader", "mfcc", "none"
    config.sequence_frames, config.workers, config.cache = 6, 1, str(folder / "cache")
    return build.extract_dataset(from_config(ExtractOptions, config)), given


@pytest.fixture(scope="module")
def trained(spoken, tmp_path_factory):
    """Runs with every augmentation of features: `whole`, and `resumed`, which was killed after its first epoch."""
    options = {
        "sequences": "text,audio", "encoder": "none", "graph": "none", "epochs": 2, "mixup": 0.3, "feature_noise": 0.1,
        "modality_dropout": 0.2,
    }  # fmt: skip
    folder, patch, save = tmp_path_factory.mktemp("runs"), pytest.MonkeyPatch(), checkpoint.Checkpoints.save
    tiny.train(spoken[0], folder / "whole", **options)

    def killed(self, epoch, **parts):
        save(self, epoch, **parts)
        raise KeyboardInterrupt

    with patch.context() as m:
        m.setattr(checkpoint.Checkpoints, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            tiny.train(spoken[0], folder / "resumed", **options)
    tiny.train(spoken[0], folder / "resumed", **options)
    return folder


def test_resumed_it_ends_with_the_same_parameters(trained):
    whole, resumed = (directory.load(trained / name) for name in ("whole", "resumed"))
    assert whole.model.sequence_dims == (("text", 4), ("audio", 60))
    assert {"text_pooling", "audio_pooling"} <= whole.params.keys()
    for a, b in zip(*(jax.tree.leaves((run.params, run.stats)) for run in (whole, resumed)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_prediction_from_text_and_clips_equals_evaluation(spoken, trained):
    run = directory.load(trained / "whole")
    dataset, (_, utterances) = store.load(spoken[0]), spoken[1][-1]
    (dialogue,) = dataset.split("dev")
    assert {len(s) for s in dialogue.sequences["audio"]} == {0, 6}
    ((expected, _),) = voting.predict_features(run, [dialogue])
    found = jmer.load(trained / "whole").predict(utterances)
    probs = [[p.probs[label] for label in run.inputs.labels] for p in found]
    np.testing.assert_allclose(probs, expected[0], atol=1e-5)
    # The frames make a difference.
    ((without, _),) = voting.predict_features(run, [Features(**{**vars(dialogue), "sequences": {}})])
    assert np.abs(without - expected).max() > 1e-3


def test_ready_features_without_their_frames_are_refused(trained):
    predictor = jmer.load(trained / "whole")
    for m, dim, raw in (("text", 4, "text"), ("audio", 120, "clip")):
        given = [{"speaker": "a", "text": "hello"}, {"speaker": "b", "features": {m: np.zeros(dim)}}]
        with pytest.raises(jmer.UserError, match=f"utt1: ready {m} features.*only the {raw} gives"):
            predictor.predict(given)


def test_what_training_and_evaluation_refuse(root, spoken, trained, tmp_path, capsys):
    plain = tiny.write_dataset(tmp_path / "plain", sequence_dims={})
    for data, options, message in (
        (plain, ["--config.sequences=audio"], "the train split has none; extract them with --config.sequence_frames="),
        (spoken[0], ["--config.sequences=video"], "'video' is not one of the modalities to train on (text, audio)"),
        (spoken[0], ["--config.sequences=text", "--config.modalities=audio"], "'text' is not one of"),
    ):
        argv = [f"--config={root}/configs/gat_fusion.py", f"--config.dataset={data}", f"--workdir={tmp_path}/run"]
        assert cli.run(train.main, [*argv, *options]) == cli.EXIT_USER_ERROR
        assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()

    assert cli.run(evaluate.main, [f"--workdir={trained}/whole", f"--dataset={plain}", "--split=dev"]) == 2
    assert "another extractor" in capsys.readouterr().err
