"""Video features by a published vision transformer, frozen."""

import functools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jmer.base.types import Media
from jmer.encoders import hub
from jmer.features.extractor import Encoded, Prepared
from jmer.features.summary import PooledLayers
from jmer.features.video import images
from jmer.features.video.frames import FrameReader, crop_option, joined_hashes, no_face

_PICTURES_A_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class HFVideo(PooledLayers, FrameReader):
    """The first token of a vision transformer for each frame, or for the face in the frame, pooled over the frames."""

    crop: str = crop_option("face", "speaker", "frame")

    kind = "hf"
    version = 2
    libraries = ("av", "opencv", "pillow", "transformers")
    lookahead = 16

    @property
    def weights(self) -> str:
        return joined_hashes(self._encoder.sha256, self._detector_weights)

    def __getstate__(self) -> dict[str, Any]:
        _ = self._processing  # read once, here, rather than for every clip in a worker
        return super().__getstate__()

    def _load_encoder(self) -> Any:
        from jmer.encoders import image  # imports JAX, which workers do without

        return image.ImageEncoder(self.model, running=self._running)

    @functools.cached_property
    def _processing(self) -> images.Processing:
        folder = hub.resolve(self.model, field="video.model")
        name = "preprocessor_config.json"
        return images.parse(hub.read_json(folder, name, field="video.model"), where=folder / name)

    def prepare(self, raw: Media) -> Prepared:
        """The payload is the pictures at the size that the model wants, `[K, height, width, 3]` uint8."""
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
        firsts = self._encoder.encode(pictures, **self._wanted, places=_PICTURES_A_BATCH)[:, 0]
        ends = np.cumsum([len(pictures) for pictures in payloads])
        return [self.pooled(frames) for frames in np.split(firsts, ends[:-1])]
