"""Dialogues as padded arrays: length buckets, and an epoch's plan over them. Numpy only.

A dialogue is padded to the next bucket length, so a corpus of any lengths needs a handful of shapes and little padding.
The lengths are fixed numbers: nothing is learnt from the longest dialogue of a split. Every batch of a bucket has the
same number of rows, so that each bucket compiles once.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from jmer.types import UNLABELLED, Batch, Features


class Bucket(NamedTuple):
    """The dialogues of one padded length.

    data: `[(1 + views) * n + 1, U]`: the n dialogues, their augmented views in turn, and a row that is all padding,
      with which short batches are filled up.
    positions: `[n]` int32, where each dialogue stood in the split.
    rows: B of its batches.
    views: how many augmented views of each dialogue there are.
    chances: `[n]` float64, how likely each is to be drawn next, summing to 1; for `weighted` buckets.
    draws: how many dialogues an epoch takes from here.
    weighted: whether they are drawn by their chances, with replacement; otherwise each comes once.
    """

    data: Batch
    positions: np.ndarray
    rows: int
    views: int
    chances: np.ndarray
    draws: int
    weighted: bool


def bucket_length(utterances: int) -> int:
    """Returns the padded length of a dialogue: 4, 8, 12, 16, 24, 32, 48, 64, 96, ... (no end)."""
    step = 4 if utterances <= 16 else 2 ** ((utterances - 1).bit_length() - 2)
    return max(1, -(-utterances // step)) * step


def collate(
    dialogues: Sequence[Features],
    *,
    dims: Mapping[str, int],
    sequences: Mapping[str, tuple[int, int]] = MappingProxyType({}),
    length: int,
    rows: int | None = None,
) -> Batch:
    """Pads dialogues to `[B, length]`.

    Args:
      dims: modality -> D of the batch's features; a modality that a dialogue lacks is absent in its row.
      sequences: modality -> (T, D') of the batch's sequences; T is at least that of the longest sequence.
      length: U; at least that of the longest dialogue.
      rows: B; rows after the last dialogue are padding. The number of dialogues unless given.
    """
    shape = (len(dialogues) if rows is None else rows, length)
    batch = Batch(
        features={m: np.zeros((*shape, d), np.float32) for m, d in dims.items()},
        present={m: np.zeros(shape, np.bool_) for m in dims},
        sequences={m: np.zeros((*shape, t, d), np.float16) for m, (t, d) in sequences.items()},
        frames={m: np.zeros((*shape, t), np.bool_) for m, (t, _) in sequences.items()},
        mask=np.zeros(shape, np.bool_),
        speaker=np.full(shape, -1, np.int32),
        label=np.full(shape, UNLABELLED, np.int32),
        sentiment=np.full(shape, UNLABELLED, np.int32),
    )
    for b, dialogue in enumerate(dialogues):
        n = len(dialogue)
        for m in dims.keys() & dialogue.values.keys():
            batch.features[m][b, :n] = np.where(dialogue.present[m][:, None], dialogue.values[m], 0)
            batch.present[m][b, :n] = dialogue.present[m]
        for m in sequences.keys() & dialogue.sequences.keys():
            for u in np.flatnonzero(dialogue.present[m]):
                sequence = dialogue.sequences[m][u]
                batch.sequences[m][b, u, : len(sequence)] = sequence
                batch.frames[m][b, u, : len(sequence)] = True
        batch.mask[b, :n] = True
        numbers = {name: i for i, name in enumerate(dict.fromkeys(dialogue.speakers))}
        batch.speaker[b, :n] = [numbers[name] for name in dialogue.speakers]
        batch.label[b, :n] = dialogue.labels
        batch.sentiment[b, :n] = dialogue.sentiments
    return batch


def make_buckets(
    dialogues: Sequence[Features],
    *,
    dims: Mapping[str, int],
    sequence_dims: Mapping[str, int] = MappingProxyType({}),
    batch_utterances: int,
    views: Sequence[Sequence[Features]] = (),
    weights: np.ndarray | None = None,
) -> dict[int, Bucket]:
    """Sorts dialogues into buckets, by padded length U.

    Args:
      sequence_dims: modality -> D' of the sequences to carry; T is that of the longest.
      batch_utterances: about so many padded utterances make a batch, whatever the length.
      views: augmented views of all the dialogues, each in their order.
      weights: `[n]`, how often to draw each dialogue relative to the others, with replacement; a bucket then gives
        whole batches, the number nearest to its share of the weights, but at least one. Not given: each dialogue comes
        once an epoch.
    """
    sequences = _longest([d for source in (dialogues, *views) for d in source], sequence_dims)
    buckets = {}
    for length, positions in _by_length(dialogues).items():
        rows = _rows(length, len(positions), batch_utterances)
        data = [source[i] for source in (dialogues, *views) for i in positions]
        share = np.ones(len(positions)) if weights is None else weights[positions]
        if weights is None:
            draws = len(positions)
        else:
            draws = rows * max(1, round(len(dialogues) * share.sum() / weights.sum() / rows))
        buckets[length] = Bucket(
            data=collate(data, dims=dims, sequences=sequences, length=length, rows=len(data) + 1),
            positions=np.array(positions, np.int32),
            rows=rows,
            views=len(views),
            chances=share / share.sum() if share.any() else np.full(len(share), 1 / len(share)),
            draws=draws,
            weighted=weights is not None,
        )
    return buckets


def training_plan(buckets: Mapping[int, Bucket], *, seeds: Sequence[int], epoch: int) -> list[tuple[int, np.ndarray]]:
    """Returns an epoch's batches as (padded length, `[S, B]` int32 rows of the bucket).

    Each time a dialogue comes it is the original or one of its views, all equally likely. The sequence of lengths
    depends on the epoch alone, so that all seeds share a program; a seed's own order depends on the seed and the epoch
    alone, so that it is the same in any company and after a resume.
    """
    plan = []
    for length, bucket in buckets.items():
        orders = [_order(bucket, np.random.default_rng((seed, epoch, length))) for seed in seeds]
        plan += [(length, rows) for rows in _batches(np.stack(orders), bucket)]
    np.random.default_rng((epoch, len(plan))).shuffle(plan)
    return plan


def evaluation_batches(
    dialogues: Sequence[Features],
    *,
    dims: Mapping[str, int],
    sequence_dims: Mapping[str, int] = MappingProxyType({}),
    batch_utterances: int,
) -> list[tuple[Batch, list[int]]]:
    """Returns every dialogue once, as batches with the positions in `dialogues` of their first rows.

    The rows after those are padding. Sequences are padded to the same lengths as dialogues, so that a model that
    predicts, one dialogue after another, compiles a handful of times.
    """
    sequences = {m: (bucket_length(t), d) for m, (t, d) in _longest(dialogues, sequence_dims).items()}
    batches = []
    for length, positions in _by_length(dialogues).items():
        rows = _rows(length, len(positions), batch_utterances)
        for start in range(0, len(positions), rows):
            part = positions[start : start + rows]
            data = [dialogues[i] for i in part]
            batches.append((collate(data, dims=dims, sequences=sequences, length=length, rows=rows), part))
    return batches


def steps_per_epoch(buckets: Mapping[int, Bucket]) -> int:
    """Returns how many batches `training_plan` makes."""
    return sum(-(-b.draws // b.rows) for b in buckets.values())


def _longest(dialogues: Sequence[Features], sequence_dims: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Modality -> T of the longest sequence, at least 1, and D'; a dialogue may be without sequences."""
    lengths = {m: [len(s) for d in dialogues for s in d.sequences.get(m, ())] for m in sequence_dims}
    return {m: (max([1, *lengths[m]]), dim) for m, dim in sequence_dims.items()}


def _by_length(dialogues: Sequence[Features]) -> dict[int, list[int]]:
    """Padded length -> positions of the dialogues, lengths ascending."""
    positions: dict[int, list[int]] = {}
    for i, dialogue in enumerate(dialogues):
        positions.setdefault(bucket_length(len(dialogue)), []).append(i)
    return dict(sorted(positions.items()))


def _rows(length: int, dialogues: int, batch_utterances: int) -> int:
    """B of a bucket: so many that a batch is full; fewer, a power of two, where there are not so many dialogues."""
    return min(max(1, batch_utterances // length), 2 ** (dialogues - 1).bit_length())


def _order(bucket: Bucket, rng: np.random.Generator) -> np.ndarray:
    """`[draws]` rows of the bucket, in the order in which one seed takes them."""
    n = len(bucket.positions)
    order = rng.choice(n, bucket.draws, p=bucket.chances) if bucket.weighted else rng.permutation(n)
    return order + n * rng.integers(bucket.views + 1, size=len(order)) if bucket.views else order


def _batches(order: np.ndarray, bucket: Bucket) -> list[np.ndarray]:
    """Cuts `[S, draws]` row numbers into pieces of `[S, B]`; the last is filled up with the padding row."""
    draws = order.shape[1]
    if not draws:
        return []
    padding = len(bucket.data.mask) - 1
    padded = np.pad(order.astype(np.int32), ((0, 0), (0, -draws % bucket.rows)), constant_values=padding)
    return np.split(padded, padded.shape[1] // bucket.rows, axis=1)
