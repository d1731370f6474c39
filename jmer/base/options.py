"""Options. Each is one field of a frozen dataclass, and configs, checks, help and tables are derived from the fields.

    @dataclass(frozen=True, kw_only=True)
    class EncoderOptions:
        encoder: str = option("bigru", "Encoder over the utterances of a dialogue.", choices=("none", "gru", "bigru"))

A part of jmer declares its options in such a class, next to the code that reads them. The options of a command are one
class that inherits from the classes of its parts, so that the command's config is flat. A field whose value is itself
an options class becomes a group of the config (`config.gfpush.alpha`).
"""

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from ml_collections import ConfigDict

from jmer.base.errors import UserError, did_you_mean

_Options = TypeVar("_Options")

# The value of a traced option (`Field.traced`): a float, or a scalar of the compiled step.
Number: TypeAlias = float | Any


@dataclass(frozen=True, kw_only=True)
class Field:
    """What an option's declaration says besides its name, type and default.

    help: one sentence.
    choices: the values that the option may have; for a list of names (`names`), the names that the list may hold. An
      empty tuple allows any value.
    at_least, above, at_most, below: bounds of a number; None for no bound.
    names: whether the value is a comma-separated list of names.
    fits: returns whether a value is allowed, for rules that bounds and choices cannot express.
    expected: describes the values that `fits` allows, such as `ascending distances, such as 2,5`.
    neutral: whether the option has no influence on the result of a run, so that a run may go on with another value.
    traced: whether the compiled step takes the option as a number of an array, so that several values share a program.
      A value of 0 leaves out a part of the program, and is another program.
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
    traced: bool = False

    def complaint(self, value: Any) -> str:
        """Returns which values were expected instead of `value`, or an empty text if `value` is allowed."""
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
        if self.fits is not None and not self.fits(value):
            return self.expected
        return "a finite number" if isinstance(value, float) and not math.isfinite(value) else ""

    def describe(self) -> str:
        """Returns the sentence of help, followed by the choices if there are any."""
        if not self.choices:
            return self.help
        return f"{self.help} {'Some' if self.names else 'One'} of {', '.join(map(str, self.choices))}."


def option(default: Any, help: str, **known: Any) -> Any:
    """Declares an option: a dataclass field with this default. `known` are the other arguments of `Field`."""
    return dataclasses.field(default=default, metadata={"option": Field(help=help, **known)})


def names_in(text: str) -> tuple[str, ...]:
    """Returns the names in a comma-separated list. `none` and an empty text hold no names."""
    return () if text.strip() == "none" else tuple(name.strip() for name in text.split(",") if name.strip())


def fields(options: Any, prefix: str = "") -> Iterator[tuple[str, Any, Field]]:
    """Yields (dotted name, value, declaration) of every option, in the order in which dataclasses hold the fields.

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


def replaced(options: _Options, values: Mapping[str, Any]) -> _Options:
    """Returns the options with other values, unchecked.

    Args:
      values: dotted name -> value.
    """
    own: dict[str, Any] = {name: value for name, value in values.items() if "." not in name}
    for group in {name.split(".")[0] for name in values if "." in name}:
        inner = {name.partition(".")[2]: value for name, value in values.items() if name.startswith(f"{group}.")}
        own[group] = replaced(getattr(options, group), inner)
    return dataclasses.replace(options, **own)  # pyright: ignore[reportArgumentType]


def is_on(value: Any) -> bool:
    """Whether a number switches its part of the model or the objective on: it is not 0, or the compiled step takes it
    as a number of an array (`Field.traced`)."""
    return not isinstance(value, int | float) or value != 0


def groups(cls: type) -> list[tuple[str, list[tuple[str, Any, Field]]]]:
    """Returns the options of a class, grouped by the parts that declare them.

    A part is the class itself or a class that it inherits from, in Python's order of inheritance: from left to right,
    and a class that several parts share after all of them. The parts of a command are therefore listed in the order in
    which the command's options class names them.

    Returns:
      For each part that declares options: the first line of the part's docstring without its full stop, and (dotted
      name, default, declaration) of every option in the order of declaration.
    """
    known = {name: (default, field) for name, default, field in fields(cls())}
    found = []
    for part in cls.__mro__:
        own = inspect.get_annotations(part)
        listed = [(name, *known.pop(name)) for name in tuple(known) if name.split(".")[0] in own]
        if listed:
            found.append(((part.__doc__ or part.__name__).strip().splitlines()[0].rstrip("."), listed))
    return found


def table(cls: type) -> str:
    """Returns the options of a class as a Markdown table with a row for each part, its options and their choices."""
    lines = ["| part | options | choices |", "|---|---|---|"]
    for heading, listed in groups(cls):
        names = ", ".join(f"`{name}`" for name, _, _ in listed)
        choices = "; ".join(
            f"`{name}`: {', '.join(f'`{choice}`' for choice in field.choices)}"
            for name, _, field in listed
            if field.choices
        )
        lines.append(f"| {heading} | {names} | {choices} |")
    return "\n".join(lines)


def to_config(options: Any) -> ConfigDict:
    """Returns a locked ConfigDict with a field for each option and a group for each options class within."""
    config = ConfigDict()
    for field in dataclasses.fields(options):
        if "option" in field.metadata:
            value = getattr(options, field.name)
            config[field.name] = to_config(value) if dataclasses.is_dataclass(value) else value
    return config.lock()


def from_config(cls: type[_Options], config: Mapping[str, Any] | ConfigDict) -> _Options:
    """Returns the options that a config describes, checked. A field that the config lacks has its default.

    Raises:
      UserError: a field is unknown, has another type than its default, or is out of its range; or the class's own
        `check` method, if there is one, refuses the combination of fields.
    """
    options = _built(cls, config, "")
    check(options)
    return options


def check(options: Any) -> None:
    """Checks every option by its bounds and choices, and then the combination by the class's own `check` method.

    Raises:
      UserError: an option is out of its range; the message names the option as a field of the config.
    """
    for name, value, field in fields(options):
        if complaint := field.complaint(value):
            raise UserError(f"config.{name} is {value}; expected {complaint}")
    if together := getattr(options, "check", None):
        together()


def _built(cls: type[_Options], config: Mapping[str, Any] | ConfigDict, prefix: str) -> _Options:
    defaults: Any = cls()
    known = {field.name for field in dataclasses.fields(defaults) if "option" in field.metadata}
    given = {}
    for name, value in config.items():
        if name not in known:
            hint = did_you_mean(name, known) or f" (fields: {', '.join(sorted(known))})"
            raise UserError(f"config has no field '{prefix}{name}'{hint}")
        default = getattr(defaults, name)
        if dataclasses.is_dataclass(default):
            if not isinstance(value, Mapping | ConfigDict):
                inner = ", ".join(f"{prefix}{name}.{field.name}" for field in dataclasses.fields(default))
                raise UserError(f"config.{prefix}{name} is {value!r}; expected a group with the fields {inner}")
            given[name] = _built(type(default), value, f"{prefix}{name}.")
            continue
        if isinstance(default, float) and type(value) is int:
            value = float(value)
        if isinstance(default, tuple) and type(value) is list:  # as JSON has it
            value = tuple(value)
        if type(value) is not type(default):
            raise UserError(
                f"config.{prefix}{name} is {value!r}; expected {type(default).__name__}, such as {default!r}"
            )
        given[name] = value
    return cls(**given)
