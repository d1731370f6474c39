"""Video features: what the speaker's face expresses, or what another network makes of the face or of the picture."""

import functools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from jmer.data import onnx_faces
from jmer.errors import UserError
from jmer.features import hub, images
from jmer.features.batching import batches
from jmer.features.extractor import Encoded, Prepared
from jmer.features.frames import FrameReader
from jmer.features.pooling import Pooled, PooledLayers, encoded
from jmer.types import Media

_CROPS_A_BATCH = 64
_PICTURES_A_BATCH = 16


@dataclass(frozen=True)
class LiteVideo(FrameReader):
    """Mean and standard deviation, over the frames with a face, of the face-expression network's feature and answer."""

    kind = "lite"
    version = 1
    lookahead = 32

    @property
    def frame_dim(self) -> int:
        from jmer.features import face_expression

        return face_expression.FEATURE_DIM + len(face_expression.EXPRESSIONS)

    @property
    def dim(self) -> int:
        return 2 * self.frame_dim

    @property
    def weights(self) -> str:
        from jmer.features import face_expression

        return _joined(face_expression.WEIGHTS_SHA256, super().weights)

    def prepare(self, raw: Media) -> Prepared:
        """The payload is the crops of the frames with a face."""
        crops, note = self.face_crops(raw, size=112)
        return Prepared(payload=crops, reason=note) if len(crops) else _no_face(note)

    def batch(self, group: Hashable) -> int:
        return max(_CROPS_A_BATCH // self.frames, 1)

    def encode(self, payloads: Sequence[np.ndarray], *, exact: bool = False) -> list[Encoded]:
        """payloads: `[K, 112, 112, 3]` uint8 RGB crops each, K at least 1."""
        answers = _answers(np.concatenate(payloads), exact=exact)
        ends = np.cumsum([len(crops) for crops in payloads])
        return [
            encoded(frames, pooling=("mean", "std"), sequence_frames=self.sequence_frames)
            for frames in np.split(answers, ends[:-1])
        ]


@dataclass(frozen=True)
class HFVideo(PooledLayers, FrameReader):
    """A vision transformer's first token of each frame, or of the face in it, pooled over the frames.

    model: a directory in Hugging Face's layout, or an id on their hub.
    pooling: `mean`, `std`, or both, comma-separated.
    layers: whose hidden states; of several, comma-separated, the mean. 0 is before the first, -1 the last.
    """

    model: str
    pooling: str = "mean"
    layers: str = "-1"

    kind = "hf"
    version = 2
    lookahead = 16
    crops_known = ("face", "speaker", "frame")

    @property
    def weights(self) -> str:
        return _joined(self._encoder.sha256, self._detector_weights)

    def __getstate__(self) -> dict[str, Any]:
        _ = self._processing  # read once, here, and not again for every clip in a worker
        return super().__getstate__()

    @functools.cached_property
    def _encoder(self) -> Any:
        from jmer.features import hf  # imports jax, which workers do without

        return hf.ImageEncoder(self.model)

    @functools.cached_property
    def _processing(self) -> images.Processing:
        folder = hub.resolve(self.model, field="video.model")
        name = "preprocessor_config.json"
        return images.parse(hub.read_json(folder, name, field="video.model"), where=folder / name)

    def prepare(self, raw: Media) -> Prepared:
        """The payload is the pictures in the size that the model wants, `[K, height, width, 3]` uint8."""
        assert raw.frames is not None
        pictures, note = raw.frames, ""
        if self.crop != "frame":
            pictures, note = self.face_crops(raw, size=self._processing.height)
            if not len(pictures):
                return _no_face(note)
        return Prepared(payload=images.resized(pictures, self._processing), reason=note)

    def batch(self, group: Hashable) -> int:
        return max(_PICTURES_A_BATCH // self.frames, 1)

    def encode(self, payloads: Sequence[np.ndarray], *, exact: bool = False) -> list[Encoded]:
        pictures = images.normalised(np.concatenate(payloads), self._processing)
        firsts = self._encoder.encode(pictures, layers=self._layers, places=_PICTURES_A_BATCH)[:, 0]
        ends = np.cumsum([len(pictures) for pictures in payloads])
        return [self.pooled(frames) for frames in np.split(firsts, ends[:-1])]


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
        return _joined(self._measured[1], self._detector_weights)

    @functools.cached_property
    def _measured(self) -> tuple[int, str]:
        return self._net.dim, onnx_faces.file_sha256(self.model, field="video.model")

    def prepare(self, raw: Media) -> Prepared:
        """The payload is the embeddings, `[K, D']`: OpenCV's networks run on the CPU, so here, side by side."""
        crops, note = self.face_crops(raw, size=self.size, align=self.align)
        return Prepared(payload=self._net(crops), reason=note) if len(crops) else _no_face(note)

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


def _no_face(reason: str) -> Prepared:
    return Prepared(payload=None, status="degraded", reason=reason)


def _joined(*hashes: str) -> str:
    return " ".join(filter(None, hashes))


def _answers(crops: np.ndarray, *, exact: bool) -> np.ndarray:
    """Crops -> `[N, 256 + 7]`; exact: of `jmer.features.batching.batches`."""
    from jmer.features import face_expression  # imports jax, which workers do without

    rows = []
    for _, places, batch in batches([1] * len(crops), places=lambda _: _CROPS_A_BATCH, exact=exact):
        padded = np.zeros((places, *crops.shape[1:]), crops.dtype)
        padded[: len(batch)] = crops[batch]
        rows.append(np.concatenate(face_expression.expressions(padded), axis=1)[: len(batch)])
    return np.concatenate(rows)
