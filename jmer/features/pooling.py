"""From the frames of an utterance (tokens, sound frames, faces) to its vector. No frame here is ever padding."""

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from jmer.base.errors import UserError
from jmer.features.extractor import Encoded, Extractor

_LARGEST = np.finfo(np.float16).max


class Pooled(Extractor):
    """An extractor whose vector pools the frames of its sequence, as its option `pooling` says.

    known: the poolings it has, of `mean`, `std` and `cls`.
    """

    pooling: str
    known: ClassVar[tuple[str, ...]] = ("mean", "std")

    def __post_init__(self):
        super().__post_init__()
        if not set(self.poolings) <= set(self.known):
            raise UserError(
                f"{self.modality}.pooling is '{self.pooling}'; expected {', '.join(self.known)}, or several of them, "
                "comma-separated"
            )

    @property
    def poolings(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.pooling.split(","))

    @property
    def dim(self) -> int:
        return self.frame_dim * len(self.poolings)

    def pooled(self, frames: np.ndarray, *, cls: np.ndarray | None = None) -> Encoded:
        """As `encoded`, by the extractor's options."""
        return encoded(frames, pooling=self.poolings, sequence_frames=self.sequence_frames, cls=cls)


class PooledLayers(Pooled):
    """A `Pooled` extractor of some hidden states of an encoder, by its option `layers`.

    _encoder: `dim` and `layers` of the hidden states, and `sha256` of its files; only the main process has it.
    """

    layers: str
    _encoder: Any

    @functools.cached_property
    def _layers(self) -> tuple[int, ...]:
        return layers(self.layers, self._encoder.layers, field=f"{self.modality}.layers")

    @property
    def frame_dim(self) -> int:
        return self._encoder.dim

    @property
    def weights(self) -> str:
        return self._encoder.sha256


def layers(chosen: str, count: int, *, field: str) -> tuple[int, ...]:
    """Returns the layers in a choice such as `-1` or `4,5,6`, from 0, what enters the first one, to `count`.

    Raises:
      UserError: there is no such layer.
    """
    try:
        numbers = [int(name) for name in chosen.split(",")]
    except ValueError:
        numbers = [count + 1]
    if not all(-count - 1 <= number <= count for number in numbers):
        raise UserError(
            f"{field} is '{chosen}'; expected layers from 0 (before the first) to {count}, -1 for the last one, or "
            "several, comma-separated, whose mean is taken"
        )
    return tuple(number % (count + 1) for number in numbers)


def encoded(
    frames: np.ndarray, *, pooling: Sequence[str], sequence_frames: int, cls: np.ndarray | None = None
) -> Encoded:
    """Frames `[T, D']`, T at least 1 -> the poolings one after the other, `[D]`, and the sequence if it is wanted.

    cls: `[D']`, what the pooling of that name gives.
    """
    frames = np.asarray(frames, np.float32)
    summaries = {"mean": lambda: frames.mean(axis=0), "std": lambda: frames.std(axis=0), "cls": lambda: cls}
    vector = np.concatenate([summaries[name]() for name in pooling])
    return Encoded(vector, shortened(frames, sequence_frames) if sequence_frames else None)


def shortened(frames: np.ndarray, limit: int) -> np.ndarray:
    """`[T, D']` -> `[min(T, limit), D']` float16: the means of as many parts, of equal length to within a frame."""
    if len(frames) > limit:
        edges = np.linspace(0, len(frames), limit + 1).round().astype(int)
        frames = np.add.reduceat(frames, edges[:-1], axis=0) / np.diff(edges)[:, None]
    return np.clip(frames, -_LARGEST, _LARGEST).astype(np.float16)
