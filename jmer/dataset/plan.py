"""Plans that say which utterances make up each batch. Numpy only.

A row of a batch holds one or more whole dialogues, one after another, so that hardly any of the row is padding,
whatever the lengths are; `Batch.first` tells the dialogues apart. The packing pattern is fixed; each epoch shuffles
which dialogue fills a slot of its length. All batches therefore have one shape, or a few shapes where lengths differ a
lot.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

# Padded utterances of a batch that only predicts; one number everywhere, so that compiled programs are shared.
_EVALUATION_UTTERANCES = 256


class Layout(NamedTuple):
    """The packing pattern: K slots for dialogues in rows of one width.

    length: `[K]`, how long the dialogue of each slot is.
    row, column: `[K]`, where the slot begins.
    steps: how many batches the rows make.
    rows: B, how many rows a batch has; the last rows may be all padding.
    width: U, how many utterances a row has room for.
    """

    length: np.ndarray
    row: np.ndarray
    column: np.ndarray
    steps: int
    rows: int
    width: int


def round_up(utterances: int) -> int:
    """Returns the width of a row that holds so many utterances: 4, 8, 12, 16, 24, 32, 48, 64, 96, and so on."""
    step = 4 if utterances <= 16 else 2 ** ((utterances - 1).bit_length() - 2)
    return max(1, -(-utterances // step)) * step


def layouts(lengths: Sequence[int] | np.ndarray, *, batch_utterances: int) -> list[Layout]:
    """Returns packing patterns for dialogues of these lengths, in batches of about `batch_utterances`.

    Dialogues of up to 32 utterances share one width, those of up to 128 another, and so on by fours, so that one long
    dialogue does not make all rows long. Rows are filled by best fit, longest dialogues first. A dialogue without
    utterances has no slot.
    """
    classes: dict[int, list[int]] = {}
    for length in filter(None, map(int, lengths)):
        bound = 32
        while bound < length:
            bound *= 4
        classes.setdefault(bound, []).append(length)
    found = []
    for _, members in sorted(classes.items()):
        width = round_up(max(members))
        filled = _fill(members, width)
        steps = -(-len(filled) // max(1, batch_utterances // width))
        places = [(length, row, column) for row, each in enumerate(filled) for length, column in each]
        length, row, column = np.array(places, np.int64).T
        found.append(Layout(length, row, column, steps, -(-len(filled) // steps), width))
    return found


def _fill(lengths: Iterable[int], width: int) -> list[list[tuple[int, int]]]:
    """Returns rows of (length, column) pairs, one for each dialogue of the row."""
    left, rows = Counter(lengths), []
    while left:
        row, column = [], 0
        while fit := max((length for length in left if length <= width - column), default=0):
            row.append((fit, column))
            column += fit
            left[fit] -= 1
            if not left[fit]:
                del left[fit]
        rows.append(row)
    return rows


class Plan:
    """Which dialogue fills which slot in training, epoch by epoch.

    layouts: the packing patterns of an epoch.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        *,
        batch_utterances: int,
        views: int = 0,
        weights: np.ndarray | None = None,
    ):
        """Packs the dialogues of an epoch.

        Args:
          lengths: of the K dialogues. They lie end to end, followed by their augmented views in the same order.
          views: how many augmented views of each dialogue there are.
          weights: `[K]`, how often to draw each dialogue relative to the others, with replacement. Without weights,
            each epoch takes each dialogue once.
        """
        self.lengths = np.asarray(lengths)
        self.views, self.weighted = views, weights is not None
        weights = np.ones(len(self.lengths)) if weights is None else weights
        self._starts = np.cumsum(self.lengths) - self.lengths
        # Length -> its dialogues, the chance of each to be drawn, and how many of them an epoch takes.
        self._members: dict[int, tuple[np.ndarray, np.ndarray, int]] = {}
        for length in np.unique(self.lengths):
            members = np.flatnonzero(self.lengths == length)
            share = weights[members]
            count = round(len(self.lengths) * share.sum() / weights.sum()) if self.weighted else len(members)
            if share.any():
                self._members[int(length)] = members, share / share.sum(), max(1, count)
        places = [length for length, (*_, count) in self._members.items() for _ in range(count)]
        self.layouts = layouts(places, batch_utterances=batch_utterances)

    @property
    def steps(self) -> int:
        """How many batches an epoch has."""
        return sum(layout.steps for layout in self.layouts)

    def expected_draws(self) -> np.ndarray:
        """Returns `[K]` float64, how often an epoch is expected to take each of the K dialogues."""
        draws = np.zeros(len(self.lengths))
        for members, chances, count in self._members.values():
            draws[members] = chances * count
        return draws

    def epoch(self, number: int, *, seeds: Sequence[int]) -> list[np.ndarray]:
        """Returns the J batches of an epoch as `[J, S, B, U]` int32 utterance numbers; N stands for padding.

        One layout gives one piece of all batches. Several layouts give pieces of one batch each, shuffled. Each time a
        dialogue is drawn, the original and its views are equally likely. The batches of a seed depend on the seed and
        the epoch alone, so that they are the same in any company of seeds and after a resume.
        """
        each = [self._of_seed(np.random.default_rng((seed, number))) for seed in seeds]
        pieces = [np.stack(of_layout, axis=1) for of_layout in zip(*each, strict=True)]
        if len(pieces) > 1:
            pieces = [batch for piece in pieces for batch in np.split(piece, len(piece))]
            np.random.default_rng(number).shuffle(pieces)
        return pieces

    def _of_seed(self, rng: np.random.Generator) -> list[np.ndarray]:
        drawn = {
            length: rng.choice(members, count, p=chances) if self.weighted else rng.permutation(members)
            for length, (members, chances, count) in self._members.items()
        }
        indices = []
        for layout in self.layouts:
            chosen = np.empty(len(layout.length), np.int64)
            for length in np.unique(layout.length):  # each is in one layout only
                chosen[layout.length == length] = drawn[int(length)]
            start = self._starts[chosen]
            if self.views:
                start = start + self.lengths.sum() * rng.integers(self.views + 1, size=len(start))
            order = rng.permutation(layout.steps * layout.rows)
            padding = int(self.lengths.sum()) * (self.views + 1)
            indices.append(_place(layout, start, row=order[layout.row], padding=padding))
        return indices


def evaluation_plan(
    lengths: Sequence[int] | np.ndarray, *, batch_utterances: int = _EVALUATION_UTTERANCES
) -> list[np.ndarray]:
    """Returns batches that take every utterance once: `[J, B, U]` int32 utterance numbers for each of a few widths.

    Dialogues lie end to end, and N stands for padding. B is a power of two where a batch is not full, so that
    predicting one dialogue after another compiles only a handful of programs.
    """
    each = np.asarray(lengths)
    starts, plans = np.cumsum(each) - each, []
    by_length = {int(n): list(np.flatnonzero(each == n)) for n in np.unique(each)}
    for layout in layouts(lengths, batch_utterances=batch_utterances):
        full = max(1, batch_utterances // layout.width)
        count = int(layout.row.max()) + 1
        rows = min(full, 2 ** (count - 1).bit_length())
        layout = layout._replace(rows=rows, steps=-(-count // rows))
        start = starts[[by_length[int(n)].pop() for n in layout.length]]
        plans.append(_place(layout, start, row=layout.row, padding=int(each.sum())))
    return plans


def _place(layout: Layout, start: np.ndarray, *, row: np.ndarray, padding: int) -> np.ndarray:
    """Returns `[J, B, U]` int32 utterance numbers, with the dialogues that begin at `start` `[K]` in their slots."""
    index = np.full((layout.steps * layout.rows, layout.width), padding, np.int32)
    offset = np.arange(layout.length.sum()) - np.repeat(np.cumsum(layout.length) - layout.length, layout.length)
    into = np.repeat(row * layout.width + layout.column, layout.length) + offset
    index.reshape(-1)[into] = np.repeat(start, layout.length) + offset
    return index.reshape(layout.steps, layout.rows, layout.width)
