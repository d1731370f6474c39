"""What models say of a split, beside the labels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class ScoredRow(NamedTuple):
    """An utterance that was predicted; `label` is its class, or `UNLABELLED`."""

    dialogue: str
    utterance: str
    speaker: str
    text: str
    label: int


class Scored(NamedTuple):
    """What runs say of a split: a row for each utterance, and the probabilities of each seed, or of the vote."""

    rows: list[ScoredRow]
    probs: Float[np.ndarray, "S N C"]

    @classmethod
    def pooled(cls, parts: Sequence["Scored"]) -> "Scored":
        """Returns what was said of several splits, one after the other."""
        return cls([row for part in parts for row in part.rows], np.concatenate([part.probs for part in parts], axis=1))

    @staticmethod
    def part_of_each(parts: Sequence["Scored"]) -> Int[np.ndarray, " N"]:
        """Returns the number of the part from which each row of `pooled` comes."""
        return np.repeat(np.arange(len(parts)), [len(part.rows) for part in parts])

    @property
    def labels(self) -> Int[np.ndarray, " N"]:
        return np.array([row.label for row in self.rows])

    @property
    def dialogue(self) -> Int[np.ndarray, " N"]:
        """The number of each utterance's dialogue."""
        numbers = {name: i for i, name in enumerate(dict.fromkeys(row.dialogue for row in self.rows))}
        return np.array([numbers[row.dialogue] for row in self.rows])
