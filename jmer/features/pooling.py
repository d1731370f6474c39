"""From the frames of an utterance (tokens, sound frames, faces) to its vector. No frame here is ever padding."""

from collections.abc import Sequence

import numpy as np

from jmer.errors import UserError
from jmer.features.extractor import Encoded

POOLINGS = ("mean", "std", "cls")
_LARGEST = np.finfo(np.float16).max


def poolings(pooling: str, *, field: str, known: Sequence[str] = POOLINGS) -> tuple[str, ...]:
    """Returns the names in a choice such as `mean,std`.

    Raises:
      UserError: one is unknown.
    """
    names = tuple(name.strip() for name in pooling.split(","))
    if not set(names) <= set(known):
        raise UserError(f"{field} is '{pooling}'; expected {', '.join(known)}, or several of them, comma-separated")
    return names


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
