"""A split as arrays: the utterances of all its dialogues end to end. Numpy only."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from jmer.base.types import UNLABELLED, Batch, Features


def flatten(
    dialogues: Iterable[Features],
    *,
    utterances: int,
    dims: Mapping[str, int],
    sequences: Mapping[str, tuple[int, int]],
    dtype: DTypeLike = np.float32,
    zeros: Callable[[tuple[int, ...], DTypeLike], np.ndarray] = np.zeros,
) -> Batch:
    """All utterances end to end, then padding, at least one: a `Batch` with `[N + 1]` in place of `[B, U]`.

    Args:
      dialogues: read once, and not held.
      utterances: N, how many there is room for; as many as the dialogues have, or more.
      dims: modality -> D; a modality that a dialogue lacks is absent in its utterances.
      sequences: modality -> (T, D'); T is at least that of the longest sequence.
      dtype: of the features.
      zeros: makes the arrays.
    """
    n = utterances + 1
    flat = Batch(
        features={m: zeros((n, d), dtype) for m, d in dims.items()},
        present={m: zeros((n,), np.bool_) for m in dims},
        sequences={m: zeros((n, t, d), np.float16) for m, (t, d) in sequences.items()},
        frames={m: zeros((n, t), np.bool_) for m, (t, _) in sequences.items()},
        mask=np.zeros(n, np.bool_),
        first=np.zeros(n, np.bool_),
        speaker=np.full(n, -1, np.int32),
        label=np.full(n, UNLABELLED, np.int32),
        sentiment=np.full(n, UNLABELLED, np.int32),
    )
    start = 0
    for dialogue in dialogues:
        here = slice(start, start + len(dialogue))
        for m in dims.keys() & dialogue.values.keys():
            flat.features[m][here] = np.where(dialogue.present[m][:, None], dialogue.values[m], 0)
            flat.present[m][here] = dialogue.present[m]
        for m in sequences.keys() & dialogue.sequences.keys():
            for u in np.flatnonzero(dialogue.present[m]):
                sequence = dialogue.sequences[m][u]
                flat.sequences[m][start + u, : len(sequence)] = sequence
                flat.frames[m][start + u, : len(sequence)] = True
        flat.mask[here] = True
        flat.first[start] = True
        numbers = {name: i for i, name in enumerate(dict.fromkeys(dialogue.speakers))}
        flat.speaker[here] = [numbers[name] for name in dialogue.speakers]
        flat.label[here] = dialogue.labels
        flat.sentiment[here] = dialogue.sentiments
        start += len(dialogue)
    return flat


def dialogue_lengths(flat: Batch) -> np.ndarray:
    """Returns `[n]` int64, how many utterances each dialogue of a flat split has."""
    return np.diff(np.flatnonzero(flat.first), append=flat.mask.sum())


def gather(flat: Batch, index: Any) -> Batch:
    """The utterances at `index` `[B, U]`, as a batch, or a slice of them; of numpy or jax arrays."""
    return Batch(*({m: x[index] for m, x in f.items()} if isinstance(f, dict) else f[index] for f in flat))


def longest(dialogues: Iterable[Features], sequence_dims: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Modality -> T of the longest sequence, at least 1, and D'; a dialogue may be without sequences."""
    lengths = {m: [1] for m in sequence_dims}
    for dialogue in dialogues:
        for m in lengths.keys() & dialogue.sequences.keys():
            lengths[m] += map(len, dialogue.sequences[m])
    return {m: (max(lengths[m]), dim) for m, dim in sequence_dims.items()}
