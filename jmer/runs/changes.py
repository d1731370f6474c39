"""Which settings may change between two training calls into one run directory.

A setting may change where the result of the run stays the same: the options that are declared neutral, a longer
`epochs`, and another path of the same data. After a run has diverged, the options that tame the optimiser may also
change, because the same settings would only diverge again. Any other change is refused.
"""

from dataclasses import dataclass
from typing import Any

from jmer.base.options import Field, fields, names_in

AFTER_DIVERGENCE = ("lr", "warmup", "clip_norm")  # the options that may change after a run has diverged


@dataclass(frozen=True, kw_only=True)
class Changes:
    """The differences between two calls, each as a phrase such as `config.lr was 0.001, is 0.01`.

    accepted: differences with which training goes on.
    refused: differences that would make another run.
    """

    accepted: tuple[str, ...]
    refused: tuple[str, ...]


def option_changes(old: Any, new: Any, *, diverged: bool) -> Changes:
    """Compares the options of a run with those of another call, both of one options class.

    The option `modalities` is left to `Inputs.changes_from`: an empty value and a list of every modality mean the same.

    Args:
      diverged: whether the run stopped because its parameters were no longer finite.
    """
    before = {name: value for name, value, _ in fields(old)}
    accepted, refused = [], []
    for name, value, field in fields(new):
        was = before[name]
        if name == "modalities" or _same(field, was, value):
            continue
        longer = name == "epochs" and value > was
        allowed = field.neutral or longer or (diverged and name in AFTER_DIVERGENCE)
        (accepted if allowed else refused).append(f"config.{name} was {_shown(was)}, is {_shown(value)}")
    return Changes(accepted=tuple(accepted), refused=tuple(refused))


def _same(field: Field, a: Any, b: Any) -> bool:
    return names_in(a) == names_in(b) if field.names else a == b


def _shown(value: Any) -> str:
    return "''" if value == "" else str(value)
