"""What commands say beside their results: status lines through `logging`, under the logger `jmer`.

A module says `logging.getLogger(__name__).info(...)`. From Python nothing is shown unless the caller sets up logging,
as with other libraries. A command shows the lines, or with --quiet warnings alone.
"""

import contextlib
import logging
import sys
from collections.abc import Iterator

_root = logging.getLogger("jmer")


class _Handler(logging.Handler):
    """Writes status lines to standard output, or `apart` from it to standard error, where warnings go in any case."""

    apart = False

    def emit(self, record: logging.LogRecord) -> None:
        to_error = self.apart or record.levelno >= logging.WARNING
        print(record.getMessage(), file=sys.stderr if to_error else sys.stdout, flush=True)


@contextlib.contextmanager
def shown() -> Iterator[None]:
    """Shows what jmer says while a command runs."""
    handler, level, propagate = _Handler(), _root.level, _root.propagate
    _root.addHandler(handler)
    _root.setLevel(logging.INFO)
    _root.propagate = False  # libraries such as absl set up handlers that would show each line once more
    try:
        yield
    finally:
        _root.removeHandler(handler)
        _root.setLevel(level)
        _root.propagate = propagate


def configure(*, quiet: bool, apart: bool) -> None:
    """Sets how the running command shows its status lines.

    Args:
      quiet: status lines and progress bars are left out; warnings are shown.
      apart: status lines go to standard error, because standard output holds the answer of the command alone.
    """
    for handler in _root.handlers:
        if isinstance(handler, _Handler):
            handler.apart = apart
    if quiet:
        _root.setLevel(logging.WARNING)


def is_quiet() -> bool:
    """Returns whether status lines and progress bars are left out, as they are outside of a command."""
    return not _root.isEnabledFor(logging.INFO)
