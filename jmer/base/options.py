"""Options: each is one field of a frozen dataclass, from which config, checks, help and tables are derived.

    @dataclass(frozen=True, kw_only=True)
    class EncoderOptions:
        encoder: str = option("bigru", "Encoder over the utterances of a dialogue.", choices=("none", "gru", "bigru"))

A part of jmer declares its options in such a class, next to the code that reads them. The options of a command are one
class that inherits from the classes of its parts, so that its config is flat. A field whose value is an options class
itself becomes a group of the config (`config.gfpush.alpha`).
"""

import dataclasses
import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ml_collections import ConfigDict

from jmer.base.errors import UserError

_Options = TypeVar("_Options")


@dataclass(frozen=True, kw_only=True)
class Field:
    """What is known of one option, besides its name and default.

    help: one sentence.
    choices: the values it may have; of a list (`names`), the names it may hold. Empty for any.
    at_least, above, at_most, below: bounds of a number; None for no bound.
    names: the value is a comma-separated list of names.
    fits: says whether a value will do, where bounds and choices cannot.
    expected: what `fits` wants, for the message; such as `ascending distances, such as 2,5`.
    neutral: another value leaves the result of a run as it is, so that a run goes on with it.
    """

    help: str
    choices: tuple[Any, ...] = ()
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    names: bool = False
    fits: Callable[[Any], bool] | None = None
    expected: str = ""
    neutral: bool = False

    def complaint(self, value: Any) -> str:
        """Returns what was expected instead of `value`; empty where it will do."""
        bounds = (
            ("at least", self.at_least, lambda bound: value >= bound),
            ("above", self.above, lambda bound: value > bound),
            ("at most", self.at_most, lambda bound: value <= bound),
            ("below", self.below, lambda bound: value < bound),
        )
        if any(bound is not None and not holds(bound) for _, bound, holds in bounds):
            return " and ".join(f"{word} {bound:g}" for word, bound, _ in bounds if bound is not None)
        if self.choices:
            known = ", ".join(map(str, self.choices))
            if self.names and not set(names_in(value)) <= set(self.choices):
                return f"some of {known}, comma-separated"
            if not self.names and value not in self.choices:
                return f"one of {known}"
        return self.expected if self.fits is not None and not self.fits(value) else ""

    def describe(self) -> str:
        """Returns the help, and the choices where there are any."""
        if not self.choices:
            return self.help
        return f"{self.help} {'Some' if self.names else 'One'} of {', '.join(map(str, self.choices))}."


def option(default: Any, help: str, **known: Any) -> Any:
    """Declares an option: a dataclass field with this default; `known` are the other arguments of `Field`."""
    return dataclasses.field(default=default, metadata={"option": Field(help=help, **known)})


def names_in(text: str) -> tuple[str, ...]:
    """Returns the names in a comma-separated list; `none` and an empty text hold none."""
    return () if text.strip() == "none" else tuple(name.strip() for name in text.split(",") if name.strip())


def fields(options: Any, prefix: str = "") -> Iterator[tuple[str, Any, Field]]:
    """Yields (dotted name, value, what is known of it) of every option, in the order of declaration.

    Args:
      options: an instance of an options class.
    """
    for field in dataclasses.fields(options):
        if "option" not in field.metadata:
            continue
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            yield from fields(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value, field.metadata["option"]


def to_config(options: Any) -> ConfigDict:
    """Returns a locked ConfigDict with a field for each option and a group for each options class within."""
    config = ConfigDict()
    for field in dataclasses.fields(options):
        if "option" in field.metadata:
            value = getattr(options, field.name)
            config[field.name] = to_config(value) if dataclasses.is_dataclass(value) else value
    return config.lock()


def from_config(cls: type[_Options], config: Mapping[str, Any]) -> _Options:
    """Returns the options that a config describes, checked; a field that it lacks has its default.

    Raises:
      UserError: a field is unknown, of another type than its default, or out of its range; or the class's own `check`,
        where it has one, refuses the fields together.
    """
    options = _built(cls, config, "")
    check(options)
    return options


def check(options: Any) -> None:
    """Checks every option by its bounds and choices, and then the options together by the class's own `check`.

    Raises:
      UserError: an option is out of its range; the message names it as a field of the config.
    """
    for name, value, field in fields(options):
        if complaint := field.complaint(value):
            raise UserError(f"config.{name} is {value}; expected {complaint}")
    if together := getattr(options, "check", None):
        together()


def _built(cls: type[_Options], config: Mapping[str, Any], prefix: str) -> _Options:
    defaults: Any = cls()
    known = {field.name for field in dataclasses.fields(defaults) if "option" in field.metadata}
    given = {}
    for name, value in config.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise UserError(f"config has no field '{prefix}{name}'{hint} (fields: {', '.join(sorted(known))})")
        default = getattr(defaults, name)
        if dataclasses.is_dataclass(default):
            given[name] = _built(type(default), value, f"{prefix}{name}.")
            continue
        if isinstance(default, float) and type(value) is int:
            value = float(value)
        if type(value) is not type(default):
            raise UserError(
                f"config.{prefix}{name} is {value!r}; expected {type(default).__name__}, such as {default!r}"
            )
        given[name] = value
    return cls(**given)
