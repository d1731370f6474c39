"""A split as arrays: the utterances of all its dialogues end to end. Numpy only."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import DTypeLike

from jmer.base.errors import UserError
from jmer.base.types import UNLABELLED, Batch, Features, FlatSplit


def flatten(
    dialogues: Iterable[Features],
    *,
    utterances: int,
    dims: Mapping[str, int],
    sequences: Mapping[str, tuple[int, int]],
    dtype: DTypeLike = np.float32,
    zeros: Callable[[tuple[int, ...], DTypeLike], np.ndarray] = np.zeros,
) -> FlatSplit:
    """Puts the utterances of all dialogues end to end, followed by padding.

    Args:
      dialogues: read once, and not held.
      utterances: N, how many utterances there is room for: as many as the dialogues have, or more.
      dims: modality -> D; a modality that a dialogue lacks is absent in all its utterances.
      sequences: modality -> (T, D'); T is at least the length of the longest sequence.
      dtype: of the features.
      zeros: makes the large arrays, filled with zeros.

    Raises:
      UserError: a feature or a frame is not finite. NaN would otherwise spread to the dialogues that share its row.
    """
    n = utterances + 1
    flat = FlatSplit(
        features={m: zeros((n, d), dtype) for m, d in dims.items()},
        present={m: zeros((n,), np.bool_) for m in dims},
        sequences={m: zeros((n, t, d), np.float16) for m, (t, d) in sequences.items()},
        frame_mask={m: zeros((n, t), np.bool_) for m, (t, _) in sequences.items()},
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
            _check_finite(dialogue, m, np.isfinite(flat.features[m][here]).all(axis=1))
        for m in sequences.keys() & dialogue.sequences.keys():
            for u in np.flatnonzero(dialogue.present[m]):
                sequence = dialogue.sequences[m][u]
                flat.sequences[m][start + u, : len(sequence)] = sequence
                flat.frame_mask[m][start + u, : len(sequence)] = True
            _check_finite(dialogue, m, np.isfinite(flat.sequences[m][here]).all(axis=(1, 2)))
        flat.mask[here] = True
        flat.first[start] |= len(dialogue) > 0
        numbers = {name: i for i, name in enumerate(dict.fromkeys(dialogue.speakers))}
        flat.speaker[here] = [numbers[name] for name in dialogue.speakers]
        flat.label[here] = dialogue.labels
        flat.sentiment[here] = dialogue.sentiments
        start += len(dialogue)
    return flat


def _check_finite(dialogue: Features, modality: str, finite: np.ndarray) -> None:
    if not finite.all():
        utterance = dialogue.utterance_ids[int(np.flatnonzero(~finite)[0])]
        raise UserError(
            f"dialogue {dialogue.dialogue_id}, utterance {utterance}: the {modality} features hold NaN or infinity; "
            "extract them again, or give finite ones"
        )


def dialogue_lengths(flat: FlatSplit) -> Int[np.ndarray, " K"]:
    """Returns how many utterances each of the K dialogues of a split has."""
    return np.diff(np.flatnonzero(flat.first), append=flat.mask.sum())


def gather(flat: FlatSplit, index: Any) -> Batch:
    """Returns the utterances at `index` `[B, U]` as a batch; works on numpy and on JAX arrays."""
    return Batch(*_indexed(flat, index))


def head(flat: FlatSplit, utterances: int) -> FlatSplit:
    """Returns the first utterances of a split."""
    return FlatSplit(*_indexed(flat, slice(utterances)))


def pick(flat: FlatSplit, index: Int[np.ndarray, " K"]) -> FlatSplit:
    """Returns the utterances of these numbers, end to end."""
    return FlatSplit(*_indexed(flat, index))


def _indexed(flat: FlatSplit, index: Any) -> list[Any]:
    return [{m: x[index] for m, x in field.items()} if isinstance(field, dict) else field[index] for field in flat]


def longest(dialogues: Iterable[Features], sequence_dims: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Returns modality -> T of the longest sequence, at least 1, and D'; a dialogue may lack sequences."""
    lengths = {m: [1] for m in sequence_dims}
    for dialogue in dialogues:
        for m in lengths.keys() & dialogue.sequences.keys():
            lengths[m] += map(len, dialogue.sequences[m])
    return {m: (max(lengths[m]), dim) for m, dim in sequence_dims.items()}
