"""The label sets that jmer knows by name."""

from collections.abc import Sequence

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
    if label not in labels:
        hint = did_you_mean(label, labels) or f"; {cure}"
        raise UserError(f"{where}: label '{label}' is not in the set ({', '.join(labels)}){hint}")
    return label
