"""What fetching and unpacking share: room on the disk, errors of writing, small records, progress."""

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jmer.base import cli
from jmer.base.errors import UserError

_SPARE = 64 << 20  # bytes of the disk that are left free


def need(size: int, folder: Path, what: str) -> None:
    """Raises UserError where the disk of `folder` has not `size` bytes free, and a few to spare, for `what`."""
    free = shutil.disk_usage(folder).free
    if size + _SPARE > free:
        raise UserError(
            f"{what} needs {in_bytes(size + _SPARE)} on the disk of {folder}, which has {in_bytes(free)} free; "
            "make room or give another --root, then run the same command again"
        )


@contextlib.contextmanager
def writing(place: Path) -> Iterator[None]:
    """Says of what cannot be written that it is the user's to mend."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or place}: cannot be written ({error.strerror}); make room, get the right to, or give "
            "another --root, then run the same command again"
        ) from error


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def load(file: Path) -> dict[str, Any]:
    """What `jmer.base.files.save_json` wrote; nothing where there is none."""
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except ValueError as error:
        print(f"{file} is damaged ({error}) and not used: what it told of is done again", file=sys.stderr)
        return {}


def in_bytes(count: int) -> str:
    return f"{tqdm.format_sizeof(count)}B"


def bar(total: int | None, desc: str, *, initial: int = 0) -> tqdm:
    return cli.progress_bar(total=total, desc=desc, initial=initial, unit="B", unit_scale=True)
