"""Video features by a network of face embeddings from an ONNX file."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np

from jmer.base.errors import UserError
from jmer.base.options import names_in, option
from jmer.base.types import Media
from jmer.features.extractor import FILE, Encoded, Prepared, hash_option
from jmer.features.summary import Pooled
from jmer.features.video.frames import FrameReader, joined_hashes, no_face
from jmer.media.vision import onnx_faces


def _colour_option(default: str, help: str) -> Any:
    return option(default, help, fits=lambda text: _colours(text) is not None,
                  expected="a number, or three, comma-separated")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class OnnxVideo(Pooled, FrameReader):
    """Embeddings of the face in each frame, pooled over the frames. The network's settings are those of `FaceNet`.

    model: path of the ONNX file.
    """

    model: str = field(metadata=FILE)
    sha256: str = hash_option("SHA-256 that the ONNX file must have; empty for any.")
    size: int = option(112, "Side of the network's input in pixels.", at_least=1)
    order: str = option("rgb", "Order of the network's colour channels.", choices=("rgb", "bgr"))
    mean: str = _colour_option("0", "Value that is subtracted from pixels (0 to 255), one or one for each channel.")
    scale: str = _colour_option("1", "Factor of pixels after the subtraction, one or one for each channel.")
    layout: str = option("chw", "Axes of the network's input.", choices=("chw", "hwc"))
    output: str = option("", "Name of the network's output to read; empty for the last.")
    align: bool = option(False, "Turn each face upright, as SFace and ArcFace want it; needs a detector.")

    kind = "onnx"
    version = 1
    named_by = "an ONNX file"

    @classmethod
    def reads(cls, model: str) -> bool:
        return model.endswith(".onnx")

    def check(self) -> None:
        super().check()
        if self.align and not self.detector:
            raise UserError(
                "config.video.align needs landmarks, which OpenCV's Haar cascade does not give; name a YuNet file by "
                "config.video.detector"
            )

    @property
    def _net(self) -> onnx_faces.FaceNet:
        mean, scale = _colours(self.mean), _colours(self.scale)
        assert mean is not None
        assert scale is not None
        return onnx_faces.FaceNet(
            model=self.model,
            sha256=self.sha256,
            size=self.size,
            order=cast(Literal["rgb", "bgr"], self.order),
            mean=mean,
            scale=scale,
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
        """D' of an embedding and the hash of the file, which is loaded for them."""
        return self._net.dim, onnx_faces.file_sha256(self.model, field="video.model")

    def prepare(self, raw: Media) -> Prepared:
        """The payload is the embeddings, `[K, D']` float32. OpenCV runs networks on the CPU, so workers do it."""
        crops, note = self.face_crops(raw, size=self.size, align=self.align)
        return Prepared(payload=self._net(crops), reason=note) if len(crops) else no_face(note)

    def encode(self, payloads: Sequence[np.ndarray], *, exact: bool = False) -> list[Encoded]:
        return [self.pooled(frames) for frames in payloads]


def _colours(text: str) -> tuple[float, float, float] | None:
    """Returns a number for each colour channel from one or three numbers; None for any other text."""
    try:
        numbers = [float(number) for number in names_in(text)]
    except ValueError:
        return None
    return (numbers[0], numbers[len(numbers) // 2], numbers[-1]) if len(numbers) in (1, 3) else None
