"""Video features: what the speaker's face expresses, or what another network makes of the face or of the picture."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from jmer.base.types import Media
from jmer.encoders.batching import batches
from jmer.features.extractor import Encoded, Prepared
from jmer.features.pooling import encoded
from jmer.features.video.frames import FrameReader, joined_hashes, no_face

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
        from jmer.encoders import face_expression

        return face_expression.FEATURE_DIM + len(face_expression.EXPRESSIONS)

    @property
    def dim(self) -> int:
        return 2 * self.frame_dim

    @property
    def weights(self) -> str:
        from jmer.encoders import face_expression

        return joined_hashes(face_expression.WEIGHTS_SHA256, super().weights)

    def prepare(self, raw: Media) -> Prepared:
        """The payload is the crops of the frames with a face."""
        crops, note = self.face_crops(raw, size=112)
        return Prepared(payload=crops, reason=note) if len(crops) else no_face(note)

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


def _answers(crops: np.ndarray, *, exact: bool) -> np.ndarray:
    """Crops -> `[N, 256 + 7]`; exact: of `jmer.encoders.batching.batches`."""
    from jmer.encoders import face_expression  # imports jax, which workers do without

    rows = []
    for _, places, batch in batches([1] * len(crops), places=lambda _: _CROPS_A_BATCH, exact=exact):
        padded = np.zeros((places, *crops.shape[1:]), crops.dtype)
        padded[: len(batch)] = crops[batch]
        rows.append(np.concatenate(face_expression.expressions(padded), axis=1)[: len(batch)])
    return np.concatenate(rows)
