"""Scores of parts of a split: by place in the dialogue, length, speaker and shift of emotion; and its surest errors."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jmer.base.types import UNLABELLED
from jmer.runs.scored import ScoredRow
from jmer.training import metrics

_BOUNDS = (1, 3, 8, 16)  # the last place, and the most words, of each group but the last
_SPEAKERS = 8  # that have a row of their own
_ERRORS = 10
_BINS = 10


class Part(NamedTuple):
    """The score of some of the utterances; `n` counts those with a label."""

    name: str
    n: int
    weighted_f1: float
    accuracy: float


class Bin(NamedTuple):
    """Utterances whose likeliest class has a probability within the bin: how many, how sure, and how often right."""

    n: int
    sure: float
    right: float


def parts(rows: Sequence[ScoredRow], predicted: Int[np.ndarray, " N"], *, classes: int) -> dict[str, list[Part]]:
    """Returns the scores of the utterances by several properties: property -> a part for each of its values."""
    true = np.array([row.label for row in rows])
    found = {}
    for title, groups in _groups(rows).items():
        names = list(dict.fromkeys(sorted(groups, key=_order)))
        found[title] = [
            _part(name, true[here], predicted[here], classes)
            for name in names
            if (here := np.array([group == name for group in groups]) & (true != UNLABELLED)).any()
        ]
    return found


def _part(name: str, true: np.ndarray, predicted: np.ndarray, classes: int) -> Part:
    found = metrics.classification_report(true, predicted, classes)
    return Part(name, len(true), found["weighted_f1"], found["accuracy"])


def _groups(rows: Sequence[ScoredRow]) -> dict[str, list[str]]:
    """Returns the group of each utterance by each property."""
    seen: Counter[str] = Counter()
    last: dict[tuple[str, str], int] = {}
    common = {name for name, _ in Counter(row.speaker for row in rows).most_common(_SPEAKERS)}
    found: dict[str, list[str]] = {
        name: [] for name in ("place in the dialogue", "words of the utterance", "speaker", "shift of emotion")
    }
    for row in rows:
        seen[row.dialogue] += 1
        before = last.get((row.dialogue, row.speaker))
        last[row.dialogue, row.speaker] = row.label
        shift = "the speaker's first utterance"
        if before is not None:
            known = UNLABELLED not in (before, row.label)
            shift = ("the same as the speaker's last" if before == row.label else "another one") if known else "unknown"
        place, words = _range(seen[row.dialogue]), _range(len(row.text.split()))
        speaker = (row.speaker or "unnamed") if row.speaker in common else "all others"
        for groups, group in zip(found.values(), (place, words, speaker, shift), strict=True):
            groups.append(group)
    return found


def _range(number: int) -> str:
    """Returns the range that a number belongs to: `4 to 8`."""
    if number == 0:
        return "none"
    lower = 1
    for upper in _BOUNDS:
        if number <= upper:
            return str(upper) if lower == upper else f"{lower} to {upper}"
        lower = upper + 1
    return f"{lower} or more"


def _order(group: str) -> tuple[int, int]:
    """Sorts ranges by their numbers, and what is no range before `all others`, in its own order."""
    first = group.split()[0]
    return (int(group == "all others"), int(first) if first.isdecimal() else 0)


def calibration_bins(true: Int[np.ndarray, " N"], probs: Float[np.ndarray, "N C"]) -> list[Bin]:
    """Returns ten bins of equal width, by the probability of the likeliest class, of the utterances with a label."""
    known = true != UNLABELLED
    sure, right = probs[known].max(axis=1), probs[known].argmax(axis=1) == true[known]
    place = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    return [
        Bin(int(here.sum()), float(sure[here].mean()), float(right[here].mean())) if here.any() else Bin(0, 0.0, 0.0)
        for here in (place == i for i in range(_BINS))
    ]


def surest_errors(
    rows: Sequence[ScoredRow], probs: Float[np.ndarray, "N C"], labels: Sequence[str]
) -> list[Mapping[str, Any]]:
    """Returns the errors with the highest probabilities, each with what was said before it in the dialogue."""
    true = np.array([row.label for row in rows])
    wrong = np.flatnonzero((true != UNLABELLED) & (probs.argmax(axis=1) != true))
    found = []
    for i in sorted(map(int, wrong), key=lambda i: -probs[i].max())[:_ERRORS]:
        row = rows[i]
        before = [f"{r.speaker}: {r.text}" for r in rows[max(i - 2, 0) : i] if r.dialogue == row.dialogue]
        found.append({
            "dialogue": row.dialogue, "utterance": row.utterance, "speaker": row.speaker, "text": row.text,
            "before": before, "true": labels[row.label], "predicted": labels[probs[i].argmax()],
            "probability": float(probs[i].max()), "probability_of_true": float(probs[i][row.label]),
        })  # fmt: skip
    return found
