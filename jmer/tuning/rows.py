"""From dialogues to batches of token rows. Numpy only."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from jmer.base.labels import SENTIMENTS
from jmer.base.types import UNLABELLED, Dialogue, Turn, Utterance
from jmer.encoders.passages import NONE, ContextOptions, Passage, passages
from jmer.encoders.tokenizer import Tokenizer

_OPEN = 32  # rows that a passage may still be put into


class TokenBatch(NamedTuple):
    """Rows of whole passages, then padding; a pytree of numpy or JAX arrays. U counts the utterances of a row.

    ids, position: `[B, T]` int32, the tokens, and their numbers within their passages.
    segment: `[B, T]` int32, the number of the token's passage within the row, from 1; 0 in the padding.
    turn: `[B, T]` int32, the number of the token's turn within its passage.
    slot: `[B, T]` int32, the place in the row of the utterance that the token is pooled into; `NONE` for none.
    utterance: `[B, U]` int32, the number within the split; N in the padding.
    label, sentiment: `[B, U]` int32; `UNLABELLED` where not known and in the padding.
    """

    ids: Any
    position: Any
    segment: Any
    turn: Any
    slot: Any
    utterance: Any
    label: Any
    sentiment: Any


@dataclass(frozen=True, kw_only=True)
class TokenSplit:
    """The passages of a split.

    passages: each with the number, within the split, of its dialogue's first utterance.
    label, sentiment: `[N + 1]` int32, of all utterances, then one of padding.
    padding, mask: the ids of these tokens; an encoder may have no mask token.
    """

    passages: tuple[tuple[Passage, int], ...]
    label: Int[np.ndarray, " _"]
    sentiment: Int[np.ndarray, " _"]
    padding: int
    mask: int | None

    def __len__(self) -> int:
        return len(self.label) - 1


def token_split(
    dialogues: Sequence[Dialogue], *, labels: Sequence[str], options: ContextOptions, tokenizer: Tokenizer
) -> TokenSplit:
    """Tokenizes the dialogues of a split.

    Args:
      labels: the label set.
    """
    found, first = [], 0
    for dialogue in dialogues:
        turns = [Turn(u.speaker, u.text) for u in dialogue.utterances]
        found += [(passage, first) for passage in passages(turns, options, tokenizer)]
        first += len(turns)
    label, sentiment = targets([u for d in dialogues for u in d.utterances], labels)
    return TokenSplit(
        passages=tuple(found), label=label, sentiment=sentiment, padding=tokenizer.padding, mask=tokenizer.mask
    )


def targets(
    utterances: Sequence[Utterance], labels: Sequence[str]
) -> tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]:
    """Returns the label and the sentiment of N utterances, and of one of padding after them, `[N + 1]` int32 each.

    Args:
      labels: the label set.
    """
    label = [UNLABELLED if u.label is None else labels.index(u.label) for u in utterances]
    sentiment = [UNLABELLED if u.sentiment is None else SENTIMENTS.index(u.sentiment) for u in utterances]
    return np.array([*label, UNLABELLED], np.int32), np.array([*sentiment, UNLABELLED], np.int32)


class Shape(NamedTuple):
    """Of a batch: B rows of T tokens, with places for U utterances each."""

    rows: int
    width: int
    slots: int


def shape_of(splits: Iterable[TokenSplit], *, width: int, batch_tokens: int) -> Shape:
    """Returns the shape of the batches of some splits; a row has places for twice as many utterances as on average."""
    slots = 1
    for split in splits:
        tokens = sum(len(passage.ids) for passage, _ in split.passages)
        longest = max(len(_pooled(passage)) for passage, _ in split.passages)
        slots = max(slots, -(-2 * width * len(split) // tokens), longest)
    return Shape(rows=max(batch_tokens // width, 1), width=width, slots=slots)


def batches(
    split: TokenSplit, shape: Shape, *, masked: float = 0.0, rng: np.random.Generator | None = None
) -> Iterator[TokenBatch]:
    """Yields batches of one shape until every passage was in one.

    Args:
      masked: the probability that `rng` puts the mask token in place of a token of an utterance.
      rng: for updates; it shuffles the passages. Without it nothing is masked, and the longest passages come first,
        which needs the fewest rows.
    """
    packed = _packed(split, shape, rng)
    for i in range(0, len(packed), shape.rows):
        batch = _batch(split, packed[i : i + shape.rows], shape)
        if masked and rng is not None:
            assert split.mask is not None  # `TextMaterial` refuses such an encoder
            hidden = (batch.slot != NONE) & (rng.random(batch.ids.shape) < masked)
            batch = batch._replace(ids=np.where(hidden, np.int32(split.mask), batch.ids))
        yield batch


def batch_count(split: TokenSplit, shape: Shape, *, rng: np.random.Generator) -> int:
    """Returns how many batches `batches` yields with the same arguments, without making them."""
    return -(-len(_packed(split, shape, rng)) // shape.rows)


def _packed(split: TokenSplit, shape: Shape, rng: np.random.Generator | None) -> list[list[int]]:
    """Puts each passage into the first open row that has room for it."""
    order = np.argsort([-len(passage.ids) for passage, _ in split.passages], kind="stable")
    if rng is not None:
        order = rng.permutation(len(order))
    done, rows = [], []  # rows as [tokens, utterances, passages]
    for i in order.tolist():
        passage, _ = split.passages[i]
        tokens, utterances = len(passage.ids), len(_pooled(passage))
        row = next((r for r in rows if r[0] + tokens <= shape.width and r[1] + utterances <= shape.slots), None)
        if row is None:
            row = [0, 0, []]
            rows.append(row)
            if len(rows) > _OPEN:
                done.append(rows.pop(0)[2])
        row[0] += tokens
        row[1] += utterances
        row[2].append(i)
    return [*done, *(row[2] for row in rows)]


def _batch(split: TokenSplit, packed: Sequence[Sequence[int]], shape: Shape) -> TokenBatch:
    """Returns a batch of these passages, given by their numbers, row by row."""
    ids = np.full((shape.rows, shape.width), split.padding, np.int32)
    position, segment, turn, slot = (np.zeros_like(ids) for _ in range(4))
    slot[:] = NONE
    utterance = np.full((shape.rows, shape.slots), len(split), np.int32)
    for row, numbers in enumerate(packed):
        start = used = 0
        for number, i in enumerate(numbers, 1):
            passage, first = split.passages[i]
            here, pooled = slice(start, start + len(passage.ids)), _pooled(passage)
            ids[row, here], turn[row, here], segment[row, here] = passage.ids, passage.turn, number
            position[row, here] = np.arange(len(passage.ids))
            own = passage.utterance != NONE
            slot[row, here][own] = used + np.searchsorted(pooled, passage.utterance[own])
            utterance[row, used : used + len(pooled)] = first + pooled
            start, used = here.stop, used + len(pooled)
    return TokenBatch(ids, position, segment, turn, slot, utterance, split.label[utterance], split.sentiment[utterance])


def _pooled(passage: Passage) -> np.ndarray:
    """Returns the utterances that the passage pools, in order."""
    found = np.unique(passage.utterance)
    return found[found != NONE]
