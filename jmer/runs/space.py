"""The space that a sweep searches: for each of some options, a range of numbers or a few values."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ml_collections import ConfigDict

from jmer.base import cli
from jmer.base import options as declared
from jmer.base.errors import UserError
from jmer.training.options import FoldOptions, SeedOptions, TrainOptions

_FORMS = "expected NAME=LOW..HIGH, NAME=log:LOW..HIGH or NAME=VALUE/VALUE, such as lr=log:1e-4..1e-2"
_DIGITS = 4  # of a number that is drawn from a range
_FIELDS = {name: field for name, _, field in declared.fields(TrainOptions())}
# What the data are and which seeds there are is no setting of the model, and what is neutral changes no score.
_APART = [name for part in (FoldOptions, SeedOptions) for name, *_ in declared.fields(part())]
_SEARCHED = [name for name, field in _FIELDS.items() if not field.neutral and name not in _APART]


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; whole numbers if both are. With `log`, their logarithms are drawn evenly."""

    low: int | float
    high: int | float
    log: bool

    def short(self, value: float) -> int | float:
        """Returns a value with as few digits as a user would write."""
        if isinstance(self.low, int):
            return int(value)
        return min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True)
class Choice:
    """Some values."""

    values: tuple[Any, ...]

    def short(self, value: Any) -> Any:
        """Returns the value."""
        return value


Space: TypeAlias = Mapping[str, Range | Choice]


def read_space(texts: Sequence[str], config: ConfigDict) -> Space:
    """Returns the space that the command line describes: dotted name of an option -> what it is drawn from.

    Args:
      texts: each of the form `NAME=LOW..HIGH`, `NAME=log:LOW..HIGH` or `NAME=VALUE/VALUE/...`.
      config: of training; it knows the type of each option.

    Raises:
      UserError: a text has another form, or names what is no option of training or not to be searched.
    """
    if not texts:
        raise UserError(f"there is nothing to search; give --search for some options: {_FORMS}")
    found: dict[str, Range | Choice] = {}
    for text in texts:
        name, equals, described = text.partition("=")
        if not equals or not described:
            raise UserError(f"--search {text}: {_FORMS}")
        if name in found:
            raise UserError(f"--search names {name} twice")
        found[name] = _range(name, described, config) if ".." in described else _choice(name, described, config)
    return found


def traced(space: Space) -> tuple[str, ...]:
    """Returns the options of a space whose values share a program.

    Among values to choose from, a 0 leaves out a part of the program, so that such an option is none of them.
    """
    return tuple(
        name
        for name, drawn in space.items()
        if _FIELDS[name].traced and (isinstance(drawn, Range) or all(map(declared.is_on, drawn.values)))
    )


def _range(name: str, text: str, config: ConfigDict) -> Range:
    log, bounds = text.startswith("log:"), text.removeprefix("log:").split("..")
    if len(bounds) != 2:
        raise UserError(f"--search {name}={text}: {_FORMS}")
    low, high = (_value(name, bound, config) for bound in bounds)
    if isinstance(low, bool) or not isinstance(low, int | float):
        raise UserError(f"--search {name}={text}: {name} is no number; give its values, as in {name}=VALUE/VALUE")
    if low >= high or (log and low <= 0):
        raise UserError(
            f"--search {name}={text}: expected a lower end below the higher one{', and above 0' if log else ''}"
        )
    return Range(low, high, log)


def _choice(name: str, text: str, config: ConfigDict) -> Choice:
    values = tuple(_value(name, each, config) for each in text.split("/"))
    if len(set(values)) < len(values):
        raise UserError(f"--search {name}={text} has a value twice")
    return Choice(values)


def _value(name: str, text: str, config: ConfigDict) -> Any:
    """Returns the value of an option that a text spells, checked by the option's own bounds and choices."""
    changed = copy.deepcopy(config)
    cli.set_field(changed, name, text)
    if name not in _SEARCHED:
        raise UserError(f"--search: {name} is not to be searched; expected some of {', '.join(_SEARCHED)}")
    value = dict(cli.fields(changed))[name]
    if complaint := _FIELDS[name].complaint(value):
        raise UserError(f"--search: config.{name} is {value}; expected {complaint}")
    return value
