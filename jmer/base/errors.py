"""The exception for mistakes that the user can correct, and the hint that many of its messages end with."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Reports a bad argument, config or input.

    The message is one line. It names the file or field, says what was expected and says what to do. A command prints
    the message without a traceback and exits with `exit_code`.
    """

    exit_code = 2


class DivergedError(UserError):
    """Reports that training made numbers infinite or NaN."""

    exit_code = 4


class StorageError(UserError):
    """Reports that a disk is full, or a folder may not be written to."""

    exit_code = 5


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns `; did you mean 'x'?` for the known name that is nearest to `name`, or an empty text if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""
