"""Video features: what the speaker's face expresses, or what a vision transformer makes of it."""

import functools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jmer.data import faces
from jmer.errors import UserError
from jmer.features import hub, images
from jmer.features.batching import batches
from jmer.features.extractor import Encoded, Extractor, Prepared
from jmer.features.pooling import PooledLayers, encoded
from jmer.types import Media

_CROPS_A_BATCH = 64
_PICTURES_A_BATCH = 16


@dataclass(frozen=True)
class LiteVideo(Extractor):
    """Mean and standard deviation, over the frames with a face, of the face-expression network's feature and answer.

    frames: how many frames of a clip are looked at, evenly spaced.
    """

    frames: int = 8

    modality = "video"
    kind = "lite"
    version = 1
    lookahead = 32

    def __post_init__(self):
        super().__post_init__()
        _check_frames(self.frames)

    @property
    def frames_wanted(self) -> int:
        return self.frames

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

        return face_expression.WEIGHTS_SHA256

    def prepare(self, raw: Media) -> Prepared:
        """The payload is the crops of the frames with a face."""
        assert raw.frames is not None
        crops, _ = faces.face_crops(raw.frames)
        if not len(crops):
            return Prepared(payload=None, status="degraded", reason=f"no face found in {len(raw.frames)} frames")
        return Prepared(payload=crops)

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
class HFVideo(PooledLayers):
    """A vision transformer's first token of each frame, or of the face in it, pooled over the frames.

    model: a directory in Hugging Face's layout, or an id on their hub.
    frames: how many frames of a clip are looked at, evenly spaced.
    crop: `face` for what `LiteVideo` looks at, or `frame` for the whole picture.
    pooling: `mean`, `std`, or both, comma-separated.
    layers: whose hidden states; of several, comma-separated, the mean. 0 is before the first, -1 the last.
    """

    model: str
    frames: int = 8
    crop: str = "face"
    pooling: str = "mean"
    layers: str = "-1"

    modality = "video"
    kind = "hf"
    version = 1
    lookahead = 16

    def __post_init__(self):
        super().__post_init__()
        _check_frames(self.frames)
        if self.crop not in ("face", "frame"):
            raise UserError(f"video.crop is '{self.crop}'; expected face or frame")

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

    @property
    def frames_wanted(self) -> int:
        return self.frames

    def prepare(self, raw: Media) -> Prepared:
        """The payload is the pictures in the size that the model wants, `[K, height, width, 3]` uint8."""
        assert raw.frames is not None
        pictures = raw.frames
        if self.crop == "face":
            pictures, _ = faces.face_crops(raw.frames, size=self._processing.height)
            if not len(pictures):
                return Prepared(payload=None, status="degraded", reason=f"no face found in {len(raw.frames)} frames")
        return Prepared(payload=images.resized(pictures, self._processing))

    def batch(self, group: Hashable) -> int:
        return max(_PICTURES_A_BATCH // self.frames, 1)

    def encode(self, payloads: Sequence[np.ndarray], *, exact: bool = False) -> list[Encoded]:
        pictures = images.normalised(np.concatenate(payloads), self._processing)
        firsts = self._encoder.encode(pictures, layers=self._layers, places=_PICTURES_A_BATCH)[:, 0]
        ends = np.cumsum([len(pictures) for pictures in payloads])
        return [self.pooled(frames) for frames in np.split(firsts, ends[:-1])]


def _check_frames(frames: int) -> None:
    if frames < 1:
        raise UserError(f"video.frames is {frames}; expected at least 1")


def _answers(crops: np.ndarray, *, exact: bool) -> np.ndarray:
    """Crops -> `[N, 256 + 7]`; exact: of `jmer.features.batching.batches`."""
    from jmer.features import face_expression  # imports jax, which workers do without

    rows = []
    for _, places, batch in batches([1] * len(crops), places=lambda _: _CROPS_A_BATCH, exact=exact):
        padded = np.zeros((places, *crops.shape[1:]), crops.dtype)
        padded[: len(batch)] = crops[batch]
        rows.append(np.concatenate(face_expression.expressions(padded), axis=1)[: len(batch)])
    return np.concatenate(rows)
