"""Experts whose probabilities are pooled, and the model of experts that jmer ships."""

import csv
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import jmer
from jmer import predict
from jmer.base import cli
from jmer.corpora import meld
from jmer.encoders import hub
from jmer.runs import starter
from jmer.runs.experts import Expert, Experts, pooled
from jmer.training.metrics import classification_report

LABELS = ("calm", "glad", "cross")


def random_probs(rng: np.random.Generator, n: int = 5) -> np.ndarray:
    return rng.dirichlet(np.ones(3), size=n)


def test_an_expert_that_is_alone_answers_by_itself():
    rng = np.random.default_rng(0)
    text, audio, prior = random_probs(rng), random_probs(rng), np.array([0.6, 0.3, 0.1])
    first = np.array([True, False, True, False, False])
    opinion = pooled(
        {"text": text, "audio": audio},
        present={"text": first, "audio": np.array([False, True, True, False, True])},
        priors={"text": prior, "audio": np.full(3, 1 / 3)},
        weights={"text": 2.0, "audio": 1.0},
    )
    np.testing.assert_allclose(opinion.probs[0], text[0], atol=1e-4)
    np.testing.assert_allclose(opinion.probs[[1, 4]], audio[[1, 4]], atol=1e-4)
    assert not opinion.probs[3].any()
    shares = np.stack([opinion.shares["text"], opinion.shares["audio"]])
    np.testing.assert_allclose(shares[:, [0, 1, 4]], [[1, 0, 0], [0, 1, 1]], atol=1e-4)
    assert not shares[:, 3].any()
    assert shares[:, 2].sum() == pytest.approx(1)
    # Two experts together, by the formula.
    expected = (2 * prior + 1 / 3) / 3 * ((text[2] / prior) ** 2 * audio[2] * 3) ** (1 / 3)
    np.testing.assert_allclose(opinion.probs[2], expected / expected.sum(), atol=1e-4)


def test_an_expert_that_says_its_prior_changes_nothing_and_has_no_share():
    rng = np.random.default_rng(1)
    text, uniform = random_probs(rng), np.full(3, 1 / 3)
    everyone = np.ones(5, np.bool_)
    opinion = pooled(
        {"text": text, "video": np.tile(uniform, (5, 1))},
        present={"text": everyone, "video": everyone},
        priors={"text": uniform, "video": uniform},
        weights={"text": 1.0, "video": 1.0},
    )
    np.testing.assert_array_equal(opinion.probs.argmax(axis=1), text.argmax(axis=1))
    np.testing.assert_allclose(opinion.shares["video"], 0, atol=1e-4)


def test_classes_count_for_labels():
    def build():
        raise AssertionError

    kernel = np.eye(4, dtype=np.float32)
    expert = Expert(
        build=build, classes=("calm", "calm", "cross", "glad"), kernel=kernel, bias=np.zeros(4, np.float32),
        prior=np.array([0.1, 0.2, 0.3, 0.4], np.float32), weight=1.0,
    )  # fmt: skip
    x = np.array([[5.0, 5.0, 0.0, 0.0], [0.0, 0.0, 5.0, 0.0]], np.float32)
    found = expert.probabilities(x, LABELS)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    assert found.argmax(axis=1).tolist() == [0, 2]
    np.testing.assert_allclose(expert.share_of(LABELS), [0.3, 0.4, 0.3], atol=1e-6)
    assert Experts({"text": expert}, labels=LABELS).inputs["text"].dim == 4


# ---- the starter -----------------------------------------------------------------------------------------------------


def test_the_starter_is_small_and_names_its_encoders_by_their_public_ids():
    every = [file for file in starter.FOLDER.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in every) < 5e6
    config = json.loads((starter.FOLDER / "text/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "sentence-transformers/all-MiniLM-L6-v2"
    described = json.loads((starter.FOLDER / "starter.json").read_text())
    assert described["experts"]["audio"]["options"]["model"] == "openai/whisper-tiny.en"


@pytest.fixture
def encoders(shared: Path, monkeypatch) -> Path:
    monkeypatch.setenv(hub.ENCODERS, str(shared / "weights"))
    return shared / "weights"


@pytest.fixture
def unreachable(monkeypatch):
    """No encoder in a folder and none on the hub."""
    monkeypatch.delenv(hub.ENCODERS, raising=False)

    def nowhere(model: str, *, field: str):
        raise jmer.UserError(f"{field}: no directory {model}, and the Hugging Face hub cannot be reached")

    monkeypatch.setattr(hub, "_from_hub", nowhere)


def test_everyday_sentences(encoders, root):
    with (root / "tests/fixtures/everyday_sentences.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = jmer.load("starter").predict_all([row["sentence"] for row in rows])
    right = [p.label == row["label"] for (p,), row in zip(found, rows, strict=True)]
    assert sum(right) >= 20, [(row["sentence"], p.label) for (p,), row in zip(found, rows, strict=True)]


def test_dialogues_of_meld(encoders, shared):
    """A quarter of dev; benchmarks/starter.py scores all of it."""
    dialogues = meld.load(shared / "datasets/meld").splits["dev"][::4]
    loaded = jmer.load("starter")
    found = [p for each in loaded.predict_all(dialogues) for p in each]
    labels = [loaded.labels.index(u.label) for d in dialogues for u in d.utterances if u.label]
    report = classification_report(np.array(labels), np.array([loaded.labels.index(p.label) for p in found]), 7)
    assert report["weighted_f1"] > 0.53


def test_a_face_and_a_voice(encoders, shared, tmp_path):
    clip = shared / "datasets/ravdess/clips/01-01-01-01-01-01-01.mp4"
    (p,) = jmer.load("starter").predict([{"clip": clip, "text": "Kids are talking by the door."}])
    assert (p.modalities, p.status, p.label) == (("text", "audio", "video"), "ok", "neutral")
    assert sum(p.gates.values()) == pytest.approx(1, abs=1e-5)


def test_two_clips_joined_with_subtitles(encoders, shared, tmp_path):
    clips = [shared / f"datasets/grid/{name}.mpg" for name in ("bbaf2n", "swiz3n")]
    joined, seconds = tmp_path / "joined.mp4", join(clips, tmp_path / "joined.mp4")
    (tmp_path / "joined.vtt").write_text(
        f"WEBVTT\n\n00:00.200 --> 00:0{seconds[0] - 0.2:.3f}\n<v Ada>Bin blue at F two now.\n\n"
        f"00:0{seconds[0] + 0.2:.3f} --> 00:0{sum(seconds) - 0.2:.3f}\n<v Ben>Set white in Z three now.\n"
    )
    out = tmp_path / "x.json"
    arguments = [str(joined), f"--transcript={tmp_path / 'joined.vtt'}", f"--out={out}", f"--encoders={encoders}"]
    assert cli.run(predict.main, arguments) == 0
    first, second = json.loads(out.read_text())["utterances"]
    assert [u["speaker"] for u in (first, second)] == ["Ada", "Ben"]
    for u in (first, second):
        assert u["modalities"] == ["text", "audio", "video"], u["reason"]


def test_what_can_be_answered_without_encoders_is(unreachable, shared, caplog):
    clip = shared / "datasets/ravdess/clips/01-01-01-01-01-01-01.mp4"
    loaded = jmer.load("starter")
    (p,) = loaded.predict([{"clip": clip, "text": "Kids are talking by the door."}])
    assert (p.modalities, p.status) == (("video",), "degraded")
    assert "all-MiniLM-L6-v2" in p.reason
    assert "whisper-tiny.en" in p.reason
    assert [r.getMessage().split(" is left out")[0] for r in caplog.records] == ["text", "audio"]
    (silent,) = loaded.predict("I hate you.")
    assert (silent.status, silent.label) == ("failed", "")


def test_other_weights_are_refused(encoders, monkeypatch):
    described = json.loads((starter.FOLDER / "starter.json").read_text())["experts"]["audio"]
    with pytest.raises(jmer.UserError, match="are not those that the starter was trained on"):
        starter.build("audio", described | {"sha256_of_halves": "0" * 64}, starter.FOLDER)


def join(clips: list[Path], out: Path) -> list[float]:
    """Joins clips one after the other; returns their seconds."""
    seconds = []
    with av.open(str(out), "w") as container:
        video = container.add_stream("libx264", rate=25)
        audio = container.add_stream("aac", rate=44_100, layout="mono")
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = 360, 288, "yuv420p"
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=44_100, frame_size=1024)
        pictures, samples = 0, 0
        for clip in clips:
            before = pictures
            with av.open(str(clip)) as source:
                for frame in source.decode(source.streams.video[0], source.streams.audio[0]):
                    if isinstance(frame, av.VideoFrame):
                        frame.pts, frame.time_base = pictures, Fraction(1, 25)
                        pictures += 1
                        container.mux(video.encode(frame))
                    elif isinstance(frame, av.AudioFrame):
                        frame.pts = None
                        for chunk in resampler.resample(frame):
                            chunk.pts = samples
                            samples += chunk.samples
                            container.mux(audio.encode(chunk))
            seconds.append((pictures - before) / 25)
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return seconds
