"""Video features by a network of face embeddings from an ONNX file."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from jmer.base.errors import UserError
from jmer.base.types import Media
from jmer.features.extractor import Encoded, Prepared
from jmer.features.pooling import Pooled
from jmer.features.video.frames import FrameReader, joined_hashes, no_face
from jmer.media.vision import onnx_faces

_CROPS_A_BATCH = 64
_PICTURES_A_BATCH = 16


@dataclass(frozen=True)
class OnnxVideo(Pooled, FrameReader):
    """Embeddings of the face in each frame by a network from an ONNX file, pooled over the frames; as `FaceNet` says.

    model, sha256, size, order, layout, output: see `onnx_faces.FaceNet`.
    mean, scale: the same, one number or three, comma-separated.
    align: turn each face upright, as SFace and ArcFace want it; needs a `detector` that gives landmarks.
    pooling: `mean`, `std`, or both, comma-separated.
    """

    model: str
    sha256: str = ""
    size: int = 112
    order: str = "rgb"
    mean: str = "0"
    scale: str = "1"
    layout: str = "chw"
    output: str = ""
    align: bool = False
    pooling: str = "mean"

    kind = "onnx"
    version = 1

    def __post_init__(self):
        super().__post_init__()
        if self.size < 1:
            raise UserError(f"video.size is {self.size}; expected the side of the network's input in pixels")
        for name, known in (("order", ("rgb", "bgr")), ("layout", ("chw", "hwc"))):
            if getattr(self, name) not in known:
                raise UserError(f"video.{name} is '{getattr(self, name)}'; expected {' or '.join(known)}")
        if self.align and not self.detector:
            raise UserError(
                "video.align needs landmarks, which OpenCV's Haar cascade does not give; name a YuNet file by "
                "video.detector"
            )
        _ = self._net  # for what is wrong with its options

    @property
    def _net(self) -> onnx_faces.FaceNet:
        return onnx_faces.FaceNet(
            model=self.model,
            sha256=self.sha256,
            size=self.size,
            order=cast(Literal["rgb", "bgr"], self.order),
            mean=_numbers(self.mean, field="mean"),
            scale=_numbers(self.scale, field="scale"),
            layout=cast(Literal["chw", "hwc"], self.layout),
            output=self.output,
        )

    @property
    def frame_dim(self) -> int:
        return self._measured[0]

    @property
    def weights(self) -> str:
        return joined_hashes(self._measured[1], self._detector_weights)

    @functools.cached_property
    def _measured(self) -> tuple[int, str]:
        return self._net.dim, onnx_faces.file_sha256(self.model, field="video.model")

    def prepare(self, raw: Media) -> Prepared:
        """The payload is the embeddings, `[K, D']`: OpenCV's networks run on the CPU, so here, side by side."""
        crops, note = self.face_crops(raw, size=self.size, align=self.align)
        return Prepared(payload=self._net(crops), reason=note) if len(crops) else no_face(note)

    def encode(self, payloads: Sequence[np.ndarray], *, exact: bool = False) -> list[Encoded]:
        return [self.pooled(frames) for frames in payloads]


def _numbers(value: str, *, field: str) -> tuple[float, float, float]:
    try:
        numbers = [float(number) for number in value.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3):
        raise UserError(f"video.{field} is '{value}'; expected a number, or three, comma-separated")
    return numbers[0], numbers[len(numbers) // 2], numbers[-1]
