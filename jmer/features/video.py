"""Video features: what the speaker's face expresses."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jmer.data import faces
from jmer.errors import UserError
from jmer.features.extractor import Extractor, Prepared

_CROPS_A_BATCH = 64
_SMALLEST = 8  # crops; a last batch that is not full has this many places, doubled until it fits


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
        if self.frames < 1:
            raise UserError(f"video.frames is {self.frames}; expected at least 1")

    @property
    def frames_wanted(self) -> int:
        return self.frames

    @property
    def dim(self) -> int:
        from jmer.features import face_expression

        return 2 * (face_expression.FEATURE_DIM + len(face_expression.EXPRESSIONS))

    @property
    def weights(self) -> str:
        from jmer.features import face_expression

        return face_expression.WEIGHTS_SHA256

    def prepare(self, raw: np.ndarray) -> Prepared:
        """raw: `[F, height, width, 3]` uint8 RGB; the payload is the crops of the frames with a face."""
        crops, _ = faces.face_crops(raw)
        if not len(crops):
            return Prepared(payload=None, status="degraded", reason=f"no face found in {len(raw)} frames")
        return Prepared(payload=crops)

    def encode(self, payloads: Sequence[np.ndarray]) -> np.ndarray:
        """payloads: `[K, 112, 112, 3]` uint8 RGB crops each, K at least 1."""
        answers = _answers(np.concatenate(payloads))
        ends = np.cumsum([len(crops) for crops in payloads])
        groups = np.split(answers, ends[:-1])
        return np.stack([np.concatenate([group.mean(axis=0), group.std(axis=0)]) for group in groups])


def _answers(crops: np.ndarray) -> np.ndarray:
    """Crops -> `[N, 256 + 7]`, in batches of few sizes, as each size is compiled once."""
    from jmer.features import face_expression  # imports jax, which workers do without

    rows = []
    for start in range(0, len(crops), _CROPS_A_BATCH):
        batch = crops[start : start + _CROPS_A_BATCH]
        places = _SMALLEST
        while places < len(batch):
            places *= 2
        padded = np.pad(batch, [(0, places - len(batch)), (0, 0), (0, 0), (0, 0)])
        rows.append(np.concatenate(face_expression.expressions(padded), axis=1)[: len(batch)])
    return np.concatenate(rows)
