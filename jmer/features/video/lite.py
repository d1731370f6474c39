"""Video features by the face-expression network that jmer ships."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from jmer.base.types import Media
from jmer.encoders.batching import batches
from jmer.features.extractor import Encoded, Prepared
from jmer.features.summary import encoded
from jmer.features.video.frames import FrameReader, joined_hashes, no_face

_CROPS_A_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class LiteVideo(FrameReader):
    """Mean and standard deviation, over the frames with a face, of the network's 256 features and 7 probabilities."""

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
        """The payload is the crops of the frames with a face, `[K, 112, 112, 3]` uint8 RGB, K at least 1."""
        crops, note = self.face_crops(raw, size=112)
        return Prepared(payload=crops, reason=note) if len(crops) else no_face(note)

    def batch(self, group: Hashable) -> int:
        return max(_CROPS_A_BATCH // self.frames, 1)

    def encode(self, payloads: Sequence[np.ndarray], *, exact: bool = False) -> list[Encoded]:
        answers = _answers(np.concatenate(payloads), exact=exact)
        ends = np.cumsum([len(crops) for crops in payloads])
        return [
            encoded(frames, pooling=("mean", "std"), sequence_frames=self.sequence_frames)
            for frames in np.split(answers, ends[:-1])
        ]


def _answers(crops: UInt8[np.ndarray, "K 112 112 3"], *, exact: bool) -> Float32[np.ndarray, "K 263"]:
    """Returns the network's features and probabilities for RGB crops; `exact` as in `jmer.encoders.batching`."""
    from jmer.encoders import face_expression  # imports JAX, which workers do without

    rows = []
    for _, places, batch in batches([1] * len(crops), places=lambda _: _CROPS_A_BATCH, exact=exact):
        padded = np.zeros((places, *crops.shape[1:]), crops.dtype)
        padded[: len(batch)] = crops[batch]
        rows.append(np.concatenate(face_expression.expressions(padded), axis=1)[: len(batch)])
    return np.concatenate(rows)
