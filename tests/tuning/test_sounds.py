"""Fine-tuning of an encoder of speech on tones: it learns, resumes, cross-validates, and is read by extraction."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file
from tiny_encoders import save_bert, save_whisper
from tuning_runs import assert_same_weights, fit, fit_interrupted, metrics

from jmer.base.errors import UserError
from jmer.base.types import SAMPLE_RATE, UNLABELLED, Dialogue, Utterance
from jmer.features import registry, worker
from jmer.features.audio.encoder import HFAudio
from jmer.features.audio.tuned import TunedAudio
from jmer.features.extractor import Prepared
from jmer.tuning import probe, sounds
from jmer.tuning.options import TuneOptions

LABELS = ("high", "low")
PITCH = {"high": 900, "low": 200}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes tones of two pitches, each spoken by one of four speakers, and one clip that cannot be read."""
    folder = tmp_path_factory.mktemp("tones")
    rng, lines = np.random.default_rng(0), ["dialogue,utterance,speaker,text,label,split,clip"]
    for split, count in (("train", 32), ("dev", 12), ("test", 6)):
        for i in range(count):
            label = LABELS[rng.integers(2)]
            time = np.arange(int(SAMPLE_RATE * rng.uniform(0.4, 0.9))) / SAMPLE_RATE
            tone = 0.3 * np.sin(2 * np.pi * PITCH[label] * rng.uniform(0.9, 1.1) * time)
            name = f"{split}{i}.wav"
            soundfile.write(folder / name, tone + 0.01 * rng.normal(size=len(time)), SAMPLE_RATE)
            lines.append(f"{split}{i},0,s{i % 4},,{label},{split},{name}")
    (folder / "broken.wav").write_bytes((folder / "test0.wav").read_bytes()[:60])
    lines.append("test9,0,s0,,low,test,broken.wav")
    (folder / "table.csv").write_text("\n".join(lines))
    return folder / "table.csv"


@pytest.fixture(scope="module")
def options(table: Path, tmp_path_factory: pytest.TempPathFactory) -> TuneOptions:
    base = save_whisper(tmp_path_factory.mktemp("encoders") / "whisper")
    return TuneOptions(
        source="table", root=str(table), model=str(base), epochs=4, lr=3e-3, head_lr=1e-2, batch_clips=8, seconds=0.3,
        layer=1, head="probe", dropout=0.0, mask_seconds=0.05, mask_bands=2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tuned(options: TuneOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "tuned"
    fit(options, workdir)
    return workdir


def test_it_hears_the_pitch_and_extraction_reads_what_was_left(tuned: Path, table: Path, capsys):
    assert metrics(tuned, "dev")["accuracy"]["mean"] > 0.9
    assert metrics(tuned, "test")["n"] == 6  # without the one that cannot be heard
    made = registry.from_options("audio", registry.options_of("audio")(model=str(tuned / "model")), sequence_frames=0)
    assert isinstance(made, TunedAudio)
    assert made._layers == (1,)
    head = load_file(tuned / "model/head.safetensors")
    lines = (tuned / "eval/test/predictions.csv").read_text().splitlines()
    for line in lines[1:7]:
        dialogue, *_, high, low = line.split(",")
        prepared = worker.prepare(table.parent / f"{dialogue}.wav", {"audio": made}, max_seconds=None)["audio"]
        vector = made.encode([prepared.payload])[0].vector
        logits = (vector @ head["head.kernel"] + head["head.bias"]) / metrics(tuned, "test")["temperature"][0]
        p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        np.testing.assert_allclose(p, [float(high), float(low)], atol=2e-3)
    assert "hidden state of the head | 1 of 2" in (tuned / "model/README.md").read_text()


def test_an_interrupted_run_goes_on_bit_for_bit(
    options: TuneOptions, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fit_interrupted(options, tmp_path / "run", monkeypatch)
    assert_same_weights(tuned, tmp_path / "run")


def test_folds_by_speaker_keep_the_last_epoch_of_adapters(options: TuneOptions, tmp_path: Path):
    fit(replace(options, cv="speaker", folds=2, choose="last", rank=2, epochs=2), tmp_path / "cv")
    result = metrics(tmp_path / "cv", "cv")
    assert result["n"] == 50
    assert result["accuracy"]["mean"] > 0.9
    assert result["ece"]["mean"] < result["ece_unscaled"]["mean"]
    for number in range(2):
        fold = tmp_path / "cv/folds" / str(number)
        assert (fold / "model/adapter_model.safetensors").is_file()
        rows = (fold / "eval/test/predictions.csv").read_text().splitlines()[1:]
        assert len({row.split(",")[2] for row in rows}) == 2  # speakers


def test_what_cannot_be_heard_is_said(options: TuneOptions, table: Path, tmp_path: Path, said):
    fit(replace(options, epochs=1), tmp_path / "run")
    assert "test: 1 of 7 utterances are not heard, such as test9_0:" in said.readouterr().out
    silent = tmp_path / "table.csv"
    silent.write_text("\n".join(line.rpartition(",")[0] + "," for line in table.read_text().splitlines()[1:]))
    header = table.read_text().splitlines()[0]
    silent.write_text(f"{header}\n{silent.read_text()}")
    with pytest.raises(UserError, match="no utterance of the train split has a clip with sound"):
        fit(replace(options, root=str(silent)), tmp_path / "silent")


def test_a_long_sound_is_cut_and_that_is_said(monkeypatch: pytest.MonkeyPatch, said):
    part = np.ones((10, 4), np.float32)
    prepared = iter([[(part, None)], [(2 * part, None), (3 * part, None)]])
    monkeypatch.setattr(sounds.worker, "pool", lambda _: ThreadPoolExecutor(1))
    monkeypatch.setattr(sounds.worker, "prepare", lambda *_, **__: {"audio": Prepared(payload=next(prepared))})
    utterances = tuple(Utterance(id=f"u{i}", speaker="a", text="", clip=Path(f"{i}.wav")) for i in range(2))
    dialogues = {"train": [Dialogue(id="d", utterances=utterances)]}
    found = sounds.sound_splits(dialogues, HFAudio(model=""), labels=LABELS)
    np.testing.assert_array_equal(found["train"].sounds[1], 2 * part)
    assert "train: of 1 utterances of more than 30 s the first part is heard, such as u1" in said.readouterr().out


def test_utterances_of_one_recording_are_heard_apart(options: TuneOptions, table: Path, tmp_path: Path, monkeypatch):
    tones = [soundfile.read(table.parent / f"train{i}.wav", dtype="float32")[0] for i in range(3)]
    soundfile.write(tmp_path / "all.wav", np.concatenate(tones), SAMPLE_RATE, subtype="FLOAT")
    ends = np.cumsum([len(tone) for tone in tones]) / SAMPLE_RATE
    whole, parts = [], []
    for i, (tone, end) in enumerate(zip(tones, ends.tolist(), strict=True)):
        soundfile.write(tmp_path / f"{i}.wav", tone, SAMPLE_RATE, subtype="FLOAT")
        alone = Utterance(id=f"u{i}", speaker="a", label="low", clip=tmp_path / f"{i}.wav")
        whole.append(alone)
        start = end - len(tone) / SAMPLE_RATE
        parts.append(replace(alone, clip=tmp_path / "all.wav", start=start, end=end))
    monkeypatch.setattr(sounds.worker, "pool", lambda workers: ThreadPoolExecutor(1))
    extractor = HFAudio(model=options.model)
    # The second recording has an utterance of its own as well.
    splits = {"train": [Dialogue(id="d", utterances=(*whole, *parts, replace(whole[1], id="again")))]}
    found = sounds.sound_splits(splits, extractor, labels=LABELS)["train"].sounds
    assert len(found) == 7
    for a, b in zip(found[:3], found[3:6], strict=True):
        assert a is not None
        assert b is not None
        np.testing.assert_allclose(np.asarray(a, np.float32), np.asarray(b, np.float32), atol=0.02)


def test_layers_that_are_not_there_are_refused(options: TuneOptions, tmp_path: Path):
    for layer in (3, 0, -3):
        with pytest.raises(UserError, match=rf"config.layer is {layer}; expected a layer from 1 to 2"):
            fit(replace(options, layer=layer), tmp_path / "run")
    bert = save_bert(tmp_path / "bert", model_type="bert")
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    with pytest.raises(UserError, match="has model_type 'gpt2'; expected one of bert"):
        fit(replace(options, model=str(bert)), tmp_path / "run")


def test_updates_hear_a_part_behind_masks_and_scores_all():
    rng = np.random.default_rng(0)
    heard = tuple(rng.normal(5, 1, size=(n, 4)).astype(np.float16) for n in (30, 12, 50))
    label = np.array([0, 1, UNLABELLED, 1, UNLABELLED], np.int32)
    split = sounds.SoundSplit(sounds=(*heard[:2], None, heard[2]), label=label, sentiment=label)
    crop = sounds.Crop(entries=20, entries_masked=6, bands_masked=2, warp=0.0)
    arguments: Any = {"rows": 2, "crop": crop, "padded_length": lambda n: -(-n // 16) * 16}
    whole = list(sounds.batches(split, **arguments))
    assert [batch.utterance[:, 0].tolist() for batch in whole] == [[3, 0], [1, 4]]
    assert [batch.sound.shape for batch in whole] == [(2, 64, 4), (2, 16, 4)]
    np.testing.assert_array_equal(whole[0].sound[1, :30], heard[0])
    assert not whole[0].sound[1, 30:].any()
    assert [batch.length.tolist() for batch in whole] == [[50, 30], [12, 0]]
    masked = 0
    for seed in range(10):
        each = list(sounds.batches(split, **arguments, rng=np.random.default_rng(seed)))
        assert sorted(i for batch in each for i in batch.utterance[:, 0]) == [0, 1, 3, 4]
        for batch in each:
            assert batch.sound.shape == (2, 20, 4)
            for sound, length, i in zip(batch.sound, batch.length, batch.utterance[:, 0], strict=True):
                if i == 4:
                    continue
                assert length == min(20, len(split.sounds[i]))
                values = set(split.sounds[i].astype(np.float32).ravel().tolist())
                share = np.mean([x not in values for x in sound[:length].ravel().tolist()])
                masked += share
                assert share <= (12 * 4 + 4 * 20) / (length * 4)
    assert masked > 1


def test_a_warped_part_is_quicker_and_higher():
    time, band = np.meshgrid(np.arange(60), np.arange(40), indexing="ij")
    slope = (time + 1000 * band).astype(np.float32)  # linear, so that interpolation is exact
    np.testing.assert_allclose(sounds._stretched(slope, 1.5)[:80, 0], np.arange(80) / 1.5, atol=1e-3)
    np.testing.assert_allclose(sounds._higher(slope, 1.25)[0], 1000 * np.arange(40) / 1.25, atol=1e-1)
    same = sounds.Crop(entries=60, entries_masked=0, bands_masked=0, warp=0.0)(slope, np.random.default_rng(0))
    np.testing.assert_array_equal(same, slope)
    crop = sounds.Crop(entries=30, entries_masked=0, bands_masked=0, warp=0.2)
    rng, speeds, pitches = np.random.default_rng(1), [], []
    for _ in range(50):
        part = crop(slope, rng)
        assert len(part) <= 30
        speeds.append(float(part[1, 0] - part[0, 0]))
        pitches.append(1000 / float(part[0, 1] - part[0, 0]))
    assert 0.8 <= min(speeds) < 0.9 < 1.1 < max(speeds) <= 1.21
    assert 0.79 <= min(pitches) < 0.9 < 1.1 < max(pitches) <= 1.21
    wave = np.sin(np.arange(400, dtype=np.float32))
    assert crop(wave, rng).shape == (30,)


def test_a_probe_is_the_logistic_regression_also_of_two_classes_and_of_absent_ones():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    for present in ([0, 2], [0, 1, 3]):
        labels = np.array(present)[rng.integers(len(present), size=60)]
        vectors = (rng.normal(size=(60, 5)) + labels[:, None]).astype(np.float32)
        stats, head = probe.probe(
            np.concatenate([vectors, vectors[:3]]), np.append(labels, [UNLABELLED] * 3), classes=4
        )
        x = (vectors - vectors.mean(axis=0)) * stats["scale"]
        logits = x @ head["kernel"] + head["bias"]
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        expected = LogisticRegression(C=0.01, max_iter=300).fit(x, labels).predict_proba(x)
        np.testing.assert_allclose(p[:, present], expected, atol=1e-3)
        assert p[:, [c for c in range(4) if c not in present]].max() < 1e-3
