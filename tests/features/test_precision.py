"""The option `precision` of extractors by a published encoder, of each modality."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_encoders import save_bert, save_vit, save_whisper

from jmer.base.errors import UserError
from jmer.base.types import SAMPLE_RATE, Media, Turn
from jmer.features import registry
from jmer.features.audio.encoder import HFAudio
from jmer.features.text.encoder import HFText
from jmer.features.video.encoder import HFVideo

RNG = np.random.default_rng(0)
SOUND = Media(wave=RNG.standard_normal(SAMPLE_RATE).astype(np.float32), frames=None, seconds=1.0)
PICTURES = Media(wave=None, frames=RNG.integers(0, 255, (4, 48, 48, 3), np.uint8), seconds=1.0)


@pytest.mark.parametrize(
    ("cls", "save", "raw", "options"),
    [
        (HFText, save_bert, [Turn("", "we are so happy today .")], {}),
        (HFAudio, save_whisper, SOUND, {}),
        (HFVideo, save_vit, PICTURES, {"crop": "frame", "frames": 4}),
    ],
)
def test_features_of_bfloat16_are_close_and_never_taken_for_those_of_float32(
    cls: Any, save: Callable[[Path], Path], raw: Any, options: dict[str, Any], tmp_path: Path
):
    model = str(save(tmp_path))
    exact, rounded = (cls(model=model, precision=precision, **options) for precision in ("float32", "bfloat16"))
    vectors = [x.encode([x.prepare(raw).payload])[0].vector for x in (exact, rounded)]
    difference = np.abs(vectors[0] - vectors[1]).max()
    assert 0 < difference < 0.05 * np.abs(vectors[0]).max()
    assert "precision" not in exact.spec["options"]  # as it was before there was a choice
    assert exact.fingerprint != rounded.fingerprint
    for each in (exact, rounded):
        assert registry.build(each.spec).fingerprint == each.fingerprint
    with pytest.raises(UserError, match=r"precision is float16; expected one of float32, bfloat16"):
        cls(model=model, precision="float16", **options)
