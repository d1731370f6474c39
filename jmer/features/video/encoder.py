"""Video features by a published vision transformer, frozen."""

import functools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jmer.base.types import Media
from jmer.encoders import hub
from jmer.features.extractor import Encoded, Prepared
from jmer.features.pooling import PooledLayers
from jmer.features.video import images
from jmer.features.video.frames import FrameReader, joined_hashes, no_face

_CROPS_A_BATCH = 64
_PICTURES_A_BATCH = 16


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
        return joined_hashes(self._encoder.sha256, self._detector_weights)

    def __getstate__(self) -> dict[str, Any]:
        _ = self._processing  # read once, here, and not again for every clip in a worker
        return super().__getstate__()

    @functools.cached_property
    def _encoder(self) -> Any:
        from jmer.encoders import huggingface  # imports jax, which workers do without

        return huggingface.ImageEncoder(self.model)

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
                return no_face(note)
        return Prepared(payload=images.resized(pictures, self._processing), reason=note)

    def batch(self, group: Hashable) -> int:
        return max(_PICTURES_A_BATCH // self.frames, 1)

    def encode(self, payloads: Sequence[np.ndarray], *, exact: bool = False) -> list[Encoded]:
        pictures = images.normalised(np.concatenate(payloads), self._processing)
        firsts = self._encoder.encode(pictures, layers=self._layers, places=_PICTURES_A_BATCH)[:, 0]
        ends = np.cumsum([len(pictures) for pictures in payloads])
        return [self.pooled(frames) for frames in np.split(firsts, ends[:-1])]
