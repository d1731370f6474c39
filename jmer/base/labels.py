"""The label sets that jmer knows by name, and labels as people spell them."""

from collections import Counter
from collections.abc import Iterable, Sequence

from jmer.base.errors import UserError, did_you_mean

# The order that papers and code on MELD use; their "classes 3, 4, 5" are disgust, sadness and fear.
MELD_EMOTIONS = ("neutral", "joy", "anger", "disgust", "sadness", "fear", "surprise")
SENTIMENTS = ("negative", "neutral", "positive")


def check_label(label: str, labels: Sequence[str], *, where: str, cure: str = "correct the label") -> str:
    """Returns `label` if it is one of `labels`.

    where: the file and row, or the utterance, that holds the label; the message begins with it.
    cure: what the user can do, for a message about a label that resembles none of the set.

    Raises:
      UserError: `label` is not in the set.
    """
    if complaint := label_complaint(label, labels, cure=cure):
        raise UserError(f"{where}: {complaint}")
    return label


def label_complaint(label: str, labels: Sequence[str], *, cure: str) -> str:
    """Returns that `label` is not one of `labels` and what to do; empty if it is one of them."""
    if label in labels:
        return ""
    hint = did_you_mean(label, labels) or f"; {cure}"
    return f"label '{label}' is not in the set ({', '.join(labels)}){hint}"


def folded(label: str) -> str:
    """Returns a label without its case and with single blanks within. Labels that are equal then are one class."""
    return " ".join(label.split()).casefold()


def spellings(labels: Iterable[str]) -> dict[str, str]:
    """Returns the spelling of each class: the most frequent one, and among equally frequent ones the first.

    labels: one for each utterance.

    Returns: the `folded` label -> its spelling, with single blanks within.
    """
    counts: dict[str, Counter[str]] = {}
    for label in labels:
        counts.setdefault(folded(label), Counter())[" ".join(label.split())] += 1
    return {key: count.most_common(1)[0][0] for key, count in counts.items()}
