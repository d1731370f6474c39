"""Label sets, as data."""

from collections.abc import Sequence
from difflib import get_close_matches

from jmer.base.errors import UserError

# The order that MELD's papers and code use ("classes 3, 4, 5" are disgust, sadness, fear).
MELD_EMOTIONS = ("neutral", "joy", "anger", "disgust", "sadness", "fear", "surprise")
SENTIMENTS = ("negative", "neutral", "positive")


def check_label(label: str, labels: Sequence[str], *, where: str) -> str:
    """Returns `label`.

    Raises:
      UserError: `label` is not one of `labels`; `where` says which file and row holds it.
    """
    if label not in labels:
        near = get_close_matches(label, labels, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "correct the row or list the label in --config.labels"
        raise UserError(f"{where}: label '{label}' is not in the set ({', '.join(labels)}); {hint}")
    return label
