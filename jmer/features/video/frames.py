"""What the video extractors share: which frames of a clip they look at, and which face in them."""

import functools
import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from jmer.base.errors import UserError
from jmer.base.types import Media
from jmer.features.extractor import Extractor, Prepared
from jmer.media.vision import faces, onnx_faces, speaking, tracks

# To see a mouth move with the sound; more frames a second tell no better, and 64 of full HD are 400 MB.
_SPEAKING_RATE = 12.5
_SPEAKING_FRAMES = 64


@dataclass(frozen=True)
class FrameReader(Extractor):
    """An extractor of video.

    frames: how many frames of a clip are used, evenly spaced.
    crop: `face`, the main face of each frame: large, and in one place. `speaker`, of several faces the one whose mouth
      moves with the sound, followed over the clip (`vision.speaking`); what the choice rests on is noted. Of some
      extractors also `frame`, the whole picture.
    detector: path of a YuNet ONNX file; empty for OpenCV's Haar cascade.
    detector_sha256: what the hash of that file must be; empty for any.

    crops_known: those of `crop` that it has.
    """

    frames: int = field(default=8, kw_only=True)
    crop: str = field(default="face", kw_only=True)
    detector: str = field(default="", kw_only=True)
    detector_sha256: str = field(default="", kw_only=True)

    modality = "video"
    crops_known: ClassVar[tuple[str, ...]] = ("face", "speaker")

    def __post_init__(self):
        super().__post_init__()
        if self.frames < 1:
            raise UserError(f"video.frames is {self.frames}; expected at least 1")
        if self.crop not in self.crops_known:
            raise UserError(f"video.crop is '{self.crop}'; expected {' or '.join(self.crops_known)}")
        if self.detector_sha256 and not self.detector:
            raise UserError("video.detector_sha256 is set, but video.detector names no file; set both or neither")

    def frames_wanted(self, seconds: float) -> int:
        if self.crop != "speaker":
            return self.frames
        return max(self.frames, min(math.ceil(_SPEAKING_RATE * seconds), _SPEAKING_FRAMES))

    @property
    def weights(self) -> str:
        return self._detector_weights

    @functools.cached_property
    def _detector_weights(self) -> str:
        if not self.detector:
            return ""
        self._detect(np.zeros((1, 32, 32, 3), np.uint8))  # a wrong file is better noticed before any clip is decoded
        return onnx_faces.file_sha256(self.detector, field="video.detector")

    @property
    def _detect(self) -> faces.Detector:
        if not self.detector:
            return faces.haar
        return onnx_faces.YuNet(model=self.detector, sha256=self.detector_sha256)

    def face_crops(self, raw: Media, *, size: int, align: bool = False) -> tuple[np.ndarray, str]:
        """Returns `[K, size, size, 3]` uint8 RGB, K at most `frames`, and what is to be noted.

        align: see `tracks.crops`; only with a detector that gives landmarks.
        """
        assert raw.frames is not None
        if self.crop == "face":
            crops, _ = faces.face_crops(raw.frames, size=size, align=align, detect=self._detect)
            return crops, "" if len(crops) else f"no face found in {len(raw.frames)} frames"
        assert raw.frame_times is not None
        speaker = speaking.find_speaker(raw.frames, raw.frame_times, raw.wave, detect=self._detect)
        if speaker.track is None:
            return np.zeros((0, size, size, 3), np.uint8), f"no face found in {len(raw.frames)} frames"
        track = tracks.sample(speaker.track, self.frames)
        return tracks.crops(raw.frames, track, size=size, align=align), f"face chosen: {speaker.rule}"


def no_face(reason: str) -> Prepared:
    return Prepared(payload=None, status="degraded", reason=reason)


def joined_hashes(*hashes: str) -> str:
    return " ".join(filter(None, hashes))
