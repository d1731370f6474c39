"""Checks that a JSON value has the form that a file of its kind has. A stranger may have written the file.

A form is one of these:

    str, int, float, dict ...     a value of this type; an int will do for a float, and a bool is no number
    [form]                        a list of such values
    {str: form}                   an object of any keys
    {"name": form, "other?": x}   an object with these keys; one that ends with `?` may be missing, others may be there
    at_least(0)                   a whole number
    a function                    says whether a value will do
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Number:
    """A whole number between two bounds."""

    least: int
    most: int


def at_least(least: int, most: int = 1 << 40) -> Number:
    """Returns the form of a whole number."""
    return Number(least, most)


def fault(value: Any, form: Any, *, at: str = "it") -> str:
    """Returns a phrase on the first part of a JSON value that has another form; empty if there is none.

    at: what the value is called.
    """
    if isinstance(form, Number):
        fine = type(value) is int and form.least <= value <= form.most
        return "" if fine else f"{at} is {shown(value)}, and no whole number from {form.least}"
    if isinstance(form, list):
        if not isinstance(value, list):
            return f"{at} is {shown(value)}, and no list"
        return _first((each, form[0], f"{at}[{i}]") for i, each in enumerate(value))
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return f"{at} is {shown(value)}, and no object"
        if str in form:
            return _first((each, form[str], f"{at}.{name}") for name, each in value.items())
        names = {name.removesuffix("?"): (name.endswith("?"), inner) for name, inner in form.items()}
        if missing := [name for name, (optional, _) in names.items() if not optional and name not in value]:
            return f"{at} lacks {missing[0]}"
        return _first((value[name], inner, f"{at}.{name}") for name, (_, inner) in names.items() if name in value)
    if isinstance(form, type):
        kinds = (int, float) if form is float else (form,)
        fine = isinstance(value, kinds) and (form is bool or not isinstance(value, bool))
        return "" if fine else f"{at} is {shown(value)}, and no {form.__name__}"
    check: Callable[[Any], bool] = form
    return "" if check(value) else f"{at} is {shown(value)}"


def shown(value: Any) -> str:
    """Returns a value as one short line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _first(parts: Any) -> str:
    return next((found for value, form, at in parts if (found := fault(value, form, at=at.removeprefix("it.")))), "")
