"""What fetching and unpacking share: free disk space, write errors, small records, progress."""

import contextlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jmer.base import cli
from jmer.base.errors import StorageError

_log = logging.getLogger(__name__)

_SPARE = 64 << 20  # bytes of the disk that are left free


def need(size: int, folder: Path, what: str) -> None:
    """Checks that the disk of `folder` has `size` bytes free, and 64 MB more.

    what: what needs the space, for the message.

    Raises:
      StorageError: the disk has less.
    """
    free = shutil.disk_usage(folder).free
    if size + _SPARE > free:
        raise StorageError(
            f"{what} needs {in_bytes(size + _SPARE)} on the disk of {folder}, which has {in_bytes(free)} free; "
            "make room or give another --root, then run the same command again"
        )


@contextlib.contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turns an OSError of the block, which writes `place`, into a StorageError that tells the user what to do."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{error.filename or place}: cannot be written ({error.strerror}); make room, change the permissions, or "
            "give another --root, then run the same command again"
        ) from error


def size_of(path: Path) -> int:
    """Returns the size of a file in bytes, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def load(file: Path) -> dict[str, Any]:
    """Returns the record that `jmer.base.files.save_json` wrote. It is empty if the file is missing or damaged."""
    try:
        record = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if not isinstance(record, dict):
            raise ValueError("holds no fields")
        return record
    except ValueError as error:
        _log.warning(f"{file} is damaged ({error}), so the work that it records is done again")
        return {}


def in_bytes(count: int) -> str:
    """Returns a number of bytes with three digits and a unit, such as `1.05GB`."""
    return f"{tqdm.format_sizeof(count)}B"


def bar(total: int | None, desc: str, *, initial: int = 0) -> tqdm:
    """Returns a progress bar that counts bytes. total: None if the number of bytes is not known."""
    return cli.progress_bar(total=total, desc=desc, initial=initial, unit="B", unit_scale=True)
