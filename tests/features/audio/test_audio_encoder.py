"""What a speech encoder is given of a sound, by its preprocessor's file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jmer.base.types import SAMPLE_RATE, Media
from jmer.features.audio.encoder import HFAudio

WAVE = (0.2 + 0.1 * np.random.default_rng(0).standard_normal(SAMPLE_RATE)).astype(np.float32)
MEDIA = Media(wave=WAVE, frames=None, seconds=1.0)


def extractor(folder: Path, *, model_type: str = "wav2vec2", **settings: Any) -> HFAudio:
    """An extractor by a folder with configuration and empty weights, which preparing does not need."""
    (folder / "config.json").write_text(json.dumps({"model_type": model_type, "num_mel_bins": 80}))
    (folder / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": SAMPLE_RATE, **settings}))
    (folder / "model.safetensors").touch()
    return HFAudio(model=str(folder))


@pytest.mark.parametrize("settings", [{}, {"do_normalize": True}, {"do_normalize": False}])
def test_waves_are_normalised_as_transformers_does_it(tmp_path: Path, settings: dict):
    """A preprocessor that does not say whether it normalises does."""
    from transformers import Wav2Vec2FeatureExtractor

    ((wave, count),) = extractor(tmp_path, **settings).prepare(MEDIA).payload
    theirs = Wav2Vec2FeatureExtractor.from_pretrained(tmp_path)(WAVE, sampling_rate=SAMPLE_RATE)
    assert count is None
    np.testing.assert_allclose(wave, theirs["input_values"][0], atol=1e-5)
    assert (abs(float(wave.mean())) < 1e-3) == settings.get("do_normalize", True)


def test_features_from_before_do_not_pass_for_those_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Only where the two differ: of an encoder that reads waves, with a preprocessor that does not say."""
    monkeypatch.setattr(HFAudio, "weights", "ab" * 32)
    silent = extractor(tmp_path)
    spec = silent.spec
    assert spec["normalises"] is True
    (tmp_path / "said").mkdir()
    said = extractor(tmp_path / "said", do_normalize=True)
    assert "normalises" not in said.spec
    assert silent.fingerprint != said.fingerprint
    (tmp_path / "whisper").mkdir()
    assert "normalises" not in extractor(tmp_path / "whisper", model_type="whisper").spec
