"""Compares speech encoders with Hugging Face's PyTorch ones (fixtures), in padded batches and at other lengths too."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jmer.base.errors import UserError
from jmer.base.types import SAMPLE_RATE
from jmer.encoders import published, speech
from jmer.encoders.opened import open_model
from jmer.encoders.running import Running
from jmer.encoders.speech import SpeechEncoder
from jmer.encoders.speech_input import log_mel, normalised, windows
from jmer.encoders.wav2vec2 import Wav2Vec2, Wav2Vec2Config
from jmer.media import decoding

FIXTURES_FOLDER = Path(__file__).parents[1] / "fixtures"
FIXTURES = np.load(FIXTURES_FOLDER / "speech_encoders.npz")
CASES = ["wav2vec2_base", "wav2vec2_large", "hubert_base", "hubert_large", "wavlm_base", "wavlm_large"]
WAVES = [FIXTURES[f"wave/{i}"] for i in range(3)]


def speech_encoder(folder: Path, *, precision: str = "float32") -> SpeechEncoder:
    return SpeechEncoder(open_model(str(folder), field="audio.model"), running=Running(precision=precision))


def write(case: str, folder: Path, *, prefix: str = "") -> Path:
    """Writes a model of the fixtures as it would be published."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(str(FIXTURES[f"{case}/config"]))
    start = f"{case}/weight/"
    weights = {
        prefix + key.removeprefix(start): FIXTURES[key].astype(np.float32)
        for key in FIXTURES.files
        if key.startswith(start)
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def states(case: str, wave: int, layer: int) -> np.ndarray:
    return FIXTURES[f"{case}/state/{wave}/{layer}"]


@pytest.mark.parametrize("case", CASES)
def test_every_layer_equals_pytorch_in_a_padded_batch(case: str, tmp_path: Path):
    encoder = speech_encoder(write(case, tmp_path, prefix=f"{case.split('_')[0]}."))
    assert (encoder.dim, encoder.layers) == (16, 2)
    config, params = encoder.config, encoder.params(2)
    assert isinstance(config, Wav2Vec2Config)
    padded = np.full((3, 1000), np.nan, np.float32)  # nothing of the padding may reach anything
    for row, wave in zip(padded, WAVES, strict=True):
        row[: len(wave)] = wave
    lengths = np.array([len(wave) for wave in WAVES])
    found, mask = jax.jit(lambda *xs: Wav2Vec2(config=config).apply(*xs, (0, 1, 2)))(params, padded, lengths)
    for i in range(3):
        for layer in range(3):
            expected = states(case, i, layer)
            assert mask[i].sum() == len(expected) == config.frames(len(WAVES[i]))
            np.testing.assert_allclose(found[layer][i][mask[i]], expected, atol=1e-4)


def test_whisper_equals_pytorch_at_full_length_and_masks_when_shorter(tmp_path: Path):
    encoder = speech_encoder(write("whisper", tmp_path))
    mel = FIXTURES["whisper_mel"]
    for layer in range(3):
        (found,) = run(encoder, [mel], (layer,))
        np.testing.assert_allclose(found, states("whisper", 0, layer), atol=1e-4)
    (alone,), together = run(encoder, [mel[:25]], (1, 2)), run(encoder, [mel[:25], mel], (1, 2), fill=np.nan)
    assert alone.shape == (13, 16)
    np.testing.assert_allclose(together[0], alone, atol=1e-4)
    np.testing.assert_allclose(together[1], (states("whisper", 0, 1) + states("whisper", 0, 2)) / 2, atol=1e-4)


@pytest.mark.parametrize("case", ["wav2vec2_base", "whisper"])
def test_bfloat16_products_are_close(case: str, tmp_path: Path):
    inputs = [FIXTURES["whisper_mel"]] if case == "whisper" else WAVES[:1]
    (found,) = run(speech_encoder(write(case, tmp_path), precision="bfloat16"), inputs, (2,))
    expected = states(case, 0, 2)
    assert 1e-3 < np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


def run(encoder: SpeechEncoder, inputs: list[np.ndarray], layers: tuple[int, ...], *, fill: float = 0) -> list:
    """Runs the encoder without padding lengths to full steps, for which the tiny Whisper has too few positions."""
    lengths = np.array([len(x) for x in inputs])
    padded = np.full((len(inputs), lengths.max(), *inputs[0].shape[1:]), fill, np.float32)
    for row, x in zip(padded, inputs, strict=True):
        row[: len(x)] = x
    found, mask = encoder.hidden(layers, False)(encoder.params(max(layers)), padded, lengths)
    return [np.asarray(found[i][mask[i]]) for i in range(len(inputs))]


def test_batches_of_any_order_and_size_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(speech, "_samples_a_batch", lambda: 3000)
    monkeypatch.setattr(speech, "_SHORTEST", 300)
    encoder = speech_encoder(write("hubert_base", tmp_path))
    many = [WAVES[i % 3][: 400 + 20 * (i % 2)] for i in range(8)] + WAVES
    found = encoder.encode(many, layers=(1, 2), exact=False)
    for i, wave in enumerate(WAVES):
        expected = (states("hubert_base", i, 1) + states("hubert_base", i, 2)) / 2
        np.testing.assert_allclose(found[8 + i], expected, atol=1e-4)
        np.testing.assert_allclose(encoder.encode([wave], layers=(1, 2), exact=False)[0], expected, atol=1e-4)
    for one, other in zip(encoder.encode(many[::-1], layers=(1, 2), exact=False)[::-1], found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert encoder.hidden((1, 2), False)._cache_size() <= 6


def test_sharded_half_precision_and_old_weight_norm(tmp_path: Path):
    folder = write("wav2vec2_base", tmp_path)
    whole = load_file(folder / "model.safetensors")
    (expected,) = run(speech_encoder(folder), WAVES[:1], (2,))
    new, old = "conv.parametrizations.weight.original", "conv.weight_"
    renamed = {k.replace(f"{new}0", f"{old}g").replace(f"{new}1", f"{old}v"): v for k, v in whole.items()}
    assert renamed.keys() != whole.keys()
    (folder / "model.safetensors").unlink()
    names = sorted(renamed)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: renamed[name] for name in part}, folder / file)
    index = {name: file for file, part in parts.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    np.testing.assert_array_equal(run(speech_encoder(folder), WAVES[:1], (2,))[0], expected)


def test_what_cannot_be_used_is_said(tmp_path: Path):
    folder = write("wav2vec2_base", tmp_path)
    whole = load_file(folder / "model.safetensors")
    name = "encoder.layers.1.attention.q_proj.weight"
    save_file({k: v for k, v in whole.items() if k != name}, folder / "model.safetensors")
    assert len(run(speech_encoder(folder), WAVES[:1], (1,))) == 1  # a layer that is not asked for is not missed
    with pytest.raises(UserError, match=f"weight {name} is missing"):
        run(speech_encoder(folder), WAVES[:1], (2,))
    save_file(whole | {name: whole[name][:5].copy()}, folder / "model.safetensors")
    with pytest.raises(UserError, match=rf"weight {name} has shape \[16, 5\], config.json asks for \[16, 16\]"):
        run(speech_encoder(folder), WAVES[:1], (2,))
    (folder / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(UserError, match="cannot be read"):
        published.read(folder)
    config = (folder / "config.json").read_text()
    for old, new, expected in [
        ('"wav2vec2"', '"bert"', "model_type is 'bert'; expected whisper, wav2vec2"),
        ('"add_adapter": false', '"add_adapter": true', "add_adapter is True; jmer covers False only"),
        ('"hidden_size": 16,', "", "hidden_size is missing"),
        ("{", "[", "cannot be read"),
    ]:
        (folder / "config.json").write_text(config.replace(old, new, 1))
        with pytest.raises(UserError, match=expected):
            speech_encoder(folder)


def test_inputs_equal_hugging_face_extractors():
    np.testing.assert_allclose(normalised(WAVES[0]), FIXTURES["normal/0"], atol=1e-5)
    np.testing.assert_allclose(log_mel(WAVES[0], mels=80, seconds=1).T, FIXTURES["mel/0"], atol=1e-4)
    assert log_mel(WAVES[1], mels=80, seconds=0).shape == (6, 80)  # 900 samples, in pairs of frames of 160


def test_long_sounds_are_cut_evenly():
    wave = np.arange(70 * SAMPLE_RATE + 1, dtype=np.float32)
    parts = windows(wave)
    assert len(parts) == 3
    np.testing.assert_array_equal(np.concatenate(parts), wave)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert len(windows(wave[: 30 * SAMPLE_RATE])) == 1


def test_real_whisper_equals_pytorch(shared: Path):
    fixture = np.load(FIXTURES_FOLDER / "shared_encoders.npz")
    clip = shared / "datasets" / "ravdess" / "speech_16k_flac" / str(fixture["whisper_clip"])
    wave = decoding.decode(clip, frames=0).wave
    assert wave is not None
    mel, encoder = log_mel(wave, mels=80, seconds=30), speech_encoder(shared / "weights" / "whisper-tiny-en-encoder")
    (found,) = encoder.encode([mel], layers=(2, 4), exact=False)
    expected = fixture["whisper"].mean(axis=0)
    assert found.shape == (1500, 384)
    np.testing.assert_allclose(found[::100, ::8], expected, atol=2e-3)
