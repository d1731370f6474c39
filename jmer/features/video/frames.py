"""The options and steps that all video extractors share: which frames of a clip are read, and which face in them."""

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jmer.base.errors import UserError
from jmer.base.options import option
from jmer.base.types import Media
from jmer.features.extractor import Extractor, Prepared, file_option, hash_option
from jmer.media.vision import faces, onnx_faces, speaking, tracks

# The rate at which a mouth is seen to move with the sound. More frames a second tell no better, and 64 frames of full
# HD take 400 MB.
_SPEAKING_RATE = 12.5
_SPEAKING_FRAMES = 64


def crop_option(*known: str) -> Any:
    """Declares the option `crop` of an extractor that has these crops, out of `face`, `speaker` and `frame`."""
    return option(
        "face",
        "Part of a frame: its main face, the face of the speaker among several, or the whole frame.",
        choices=known,
    )


@dataclass(frozen=True, kw_only=True)
class FrameReader(Extractor):
    """An extractor of video.

    The crop `face` takes the main face of each frame by size and place. The crop `speaker` follows the faces over the
    clip and takes the one whose mouth moves with the sound (`jmer.media.vision.speaking`); the reason of the choice is
    noted. The crop `frame` takes the whole picture.
    """

    frames: int = option(8, "Frames that are read of a clip, evenly spaced.", at_least=1)
    crop: str = crop_option("face", "speaker")
    detector: str = file_option("Path of a YuNet ONNX file; empty for OpenCV's Haar cascade.")
    detector_sha256: str = hash_option("SHA-256 that the detector's file must have; empty for any.")

    modality = "video"
    libraries = ("av", "opencv")

    def check(self) -> None:
        super().check()
        if self.detector_sha256 and not self.detector:
            raise UserError(
                "config.video.detector_sha256 is set, but config.video.detector names no file; set both or neither"
            )

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
        self._detect(np.zeros((1, 32, 32, 3), np.uint8))  # a wrong file is told before any clip is decoded
        return onnx_faces.file_sha256(self.detector, field="video.detector")

    @property
    def _detect(self) -> faces.Detector:
        if not self.detector:
            return faces.haar
        return onnx_faces.YuNet(model=self.detector, sha256=self.detector_sha256)

    def face_crops(
        self, raw: Media, *, size: int, align: bool = False
    ) -> tuple[UInt8[np.ndarray, "K {size} {size} 3"], str]:
        """Returns RGB crops of the chosen face, K at most `frames` and 0 where no face is found, and a note.

        Args:
          size: side of a crop in pixels.
          align: turn each face upright (`tracks.crops`), which needs a detector that gives landmarks.
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
    """Returns the payload of a clip without a face, which has no video features."""
    return Prepared(payload=None, status="degraded", reason=reason)


def joined_hashes(*hashes: str) -> str:
    """Joins the hashes that are not empty."""
    return " ".join(filter(None, hashes))
