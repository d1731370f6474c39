"""Dialogues as padded arrays: length buckets, and an epoch's plan over them. Numpy only.

A dialogue is padded to the next bucket length, so a corpus of any lengths needs a handful of shapes and little padding.
The lengths are fixed numbers: nothing is learnt from the longest dialogue of a split. Every batch of a bucket has the
same number of rows, so that each bucket compiles once.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jmer.types import UNLABELLED, Batch, Features


class Bucket(NamedTuple):
    """The dialogues of one padded length.

    data: `[n + 1, U]`; the last row is all padding, and short batches are filled up with it.
    positions: `[n]` int32, where each row stood in the split.
    rows: B of its batches.
    """

    data: Batch
    positions: np.ndarray
    rows: int


def bucket_length(utterances: int) -> int:
    """Returns the padded length of a dialogue: 4, 8, 12, 16, 24, 32, 48, 64, 96, ... (no end)."""
    step = 4 if utterances <= 16 else 2 ** ((utterances - 1).bit_length() - 2)
    return max(1, -(-utterances // step)) * step


def collate(dialogues: Sequence[Features], *, dims: Mapping[str, int], length: int, rows: int | None = None) -> Batch:
    """Pads dialogues to `[B, length]`.

    Args:
      dims: modality -> D of the batch's features; a modality that a dialogue lacks is absent in its row.
      length: U; at least that of the longest dialogue.
      rows: B; rows after the last dialogue are padding. The number of dialogues unless given.
    """
    shape = (len(dialogues) if rows is None else rows, length)
    batch = Batch(
        features={m: np.zeros((*shape, d), np.float32) for m, d in dims.items()},
        present={m: np.zeros(shape, np.bool_) for m in dims},
        mask=np.zeros(shape, np.bool_),
        speaker=np.full(shape, -1, np.int32),
        label=np.full(shape, UNLABELLED, np.int32),
    )
    for b, dialogue in enumerate(dialogues):
        n = len(dialogue)
        for m in dims.keys() & dialogue.values.keys():
            batch.features[m][b, :n] = np.where(dialogue.present[m][:, None], dialogue.values[m], 0)
            batch.present[m][b, :n] = dialogue.present[m]
        batch.mask[b, :n] = True
        numbers = {name: i for i, name in enumerate(dict.fromkeys(dialogue.speakers))}
        batch.speaker[b, :n] = [numbers[name] for name in dialogue.speakers]
        batch.label[b, :n] = dialogue.labels
    return batch


def make_buckets(dialogues: Sequence[Features], *, dims: Mapping[str, int], batch_utterances: int) -> dict[int, Bucket]:
    """Sorts dialogues into buckets, by padded length U.

    Args:
      batch_utterances: about so many padded utterances make a batch, whatever the length.
    """
    return {
        length: Bucket(
            collate([dialogues[i] for i in positions], dims=dims, length=length, rows=len(positions) + 1),
            np.array(positions, np.int32),
            _rows(length, len(positions), batch_utterances),
        )
        for length, positions in _by_length(dialogues).items()
    }


def training_plan(buckets: Mapping[int, Bucket], *, seeds: Sequence[int], epoch: int) -> list[tuple[int, np.ndarray]]:
    """Returns an epoch's batches as (padded length, `[S, B]` int32 rows of the bucket).

    Every dialogue comes once. The sequence of lengths depends on the epoch alone, so that all seeds share a program; a
    seed's own order depends on the seed and the epoch alone, so that it is the same in any company and after a resume.
    """
    plan = []
    for length, bucket in buckets.items():
        orders = [np.random.default_rng((seed, epoch, length)).permutation(len(bucket.positions)) for seed in seeds]
        plan += [(length, rows) for rows in _batches(np.stack(orders), bucket)]
    np.random.default_rng((epoch, len(plan))).shuffle(plan)
    return plan


def evaluation_batches(
    dialogues: Sequence[Features], *, dims: Mapping[str, int], batch_utterances: int
) -> list[tuple[Batch, list[int]]]:
    """Returns every dialogue once, as batches with the positions in `dialogues` of their first rows.

    The rows after those are padding.
    """
    batches = []
    for length, positions in _by_length(dialogues).items():
        rows = _rows(length, len(positions), batch_utterances)
        for start in range(0, len(positions), rows):
            part = positions[start : start + rows]
            batches.append((collate([dialogues[i] for i in part], dims=dims, length=length, rows=rows), part))
    return batches


def steps_per_epoch(buckets: Mapping[int, Bucket]) -> int:
    """Returns how many batches `training_plan` makes."""
    return sum(-(-len(b.positions) // b.rows) for b in buckets.values())


def _by_length(dialogues: Sequence[Features]) -> dict[int, list[int]]:
    """Padded length -> positions of the dialogues, lengths ascending."""
    positions: dict[int, list[int]] = {}
    for i, dialogue in enumerate(dialogues):
        positions.setdefault(bucket_length(len(dialogue)), []).append(i)
    return dict(sorted(positions.items()))


def _rows(length: int, dialogues: int, batch_utterances: int) -> int:
    """B of a bucket: so many that a batch is full; fewer, a power of two, where there are not so many dialogues."""
    return min(max(1, batch_utterances // length), 2 ** (dialogues - 1).bit_length())


def _batches(order: np.ndarray, bucket: Bucket) -> list[np.ndarray]:
    """Cuts `[S, n]` row numbers into pieces of `[S, B]`; the last is filled up with the padding row."""
    n = order.shape[1]
    short = -n % bucket.rows
    padded = np.concatenate([order, np.full((len(order), short), n)], axis=1).astype(np.int32)
    return np.split(padded, padded.shape[1] // bucket.rows, axis=1)
