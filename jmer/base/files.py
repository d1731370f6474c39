"""Writes files atomically, and hashes them.

A sealed file is a JSON object that holds the SHA-256 of its own content, so that a reader finds a flipped bit.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from jmer.base.errors import UserError

SEAL = "sha256"  # the key of a sealed file under which the hash lies


def sha256(file: Path) -> str:
    """Returns the SHA-256 of a file's content, in hexadecimal. Raises OSError if the file cannot be read."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def save_text(file: Path, text: str) -> None:
    """Writes a text file, as `save_bytes` does.

    Bytes that were read with `surrogateescape` are written as they were.
    """
    save_bytes(file, text.encode("utf-8", errors="surrogateescape"))


def save_bytes(file: Path, data: bytes) -> None:
    """Writes a file atomically, so that a reader sees the old content or the new one, never a part.

    Several processes may write the file at the same time; one of them is the last.

    Raises:
      OSError: the disk is full, for one. The old content stays, nothing else is left, and the error names the file.
    """
    partial = file.with_name(f".{file.name}.partial")
    try:
        with _own(partial) as stream:
            try:
                stream.write(data)
                stream.flush()
                os.replace(partial, file)
            except OSError:
                with contextlib.suppress(OSError):
                    partial.unlink()
                raise
    except OSError as error:
        error.filename, error.filename2 = str(file), None
        raise


def _own(partial: Path) -> BinaryIO:
    """Opens an empty file for writing, which no other process has: each waits until the one before has renamed it."""
    while True:
        stream = os.fdopen(os.open(partial, os.O_RDWR | os.O_CREAT, 0o666), "wb")
        with contextlib.suppress(OSError):  # a file system without locks, on which two writers have to take care
            fcntl.flock(stream, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), partial.stat()):
                stream.truncate()
                return stream
        stream.close()


def save_json(file: Path, value: Any) -> None:
    """Writes a JSON file, as `save_text` does."""
    save_text(file, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def seal(content: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of a JSON object, without its own entry `SEAL`, in whatever order its keys are."""
    bare = {key: value for key, value in content.items() if key != SEAL}
    return hashlib.sha256(json.dumps(bare, sort_keys=True).encode()).hexdigest()


def save_sealed(file: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON object that holds its own hash, as `save_text` does."""
    content = json.loads(json.dumps(dict(content)))  # the hash is that of what a reader gets
    save_json(file, {**content, SEAL: seal(content)})


def load_sealed(file: Path, *, cure: str, required: bool = True) -> dict[str, Any]:
    """Returns the JSON object of a sealed file, without the hash.

    Args:
      cure: what the user can do about a damaged file, for the message.
      required: whether the file must hold its hash. Those that earlier versions of jmer wrote do not.

    Raises:
      UserError: the file is damaged.
      OSError: the file cannot be read.
    """
    fault = "its SHA-256 is not the one that it holds"
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:  # RecursionError: thousands of brackets in brackets
        content, fault = None, str(error)
    if not isinstance(content, dict) or (content[SEAL] != seal(content) if SEAL in content else required):
        raise UserError(f"{file} is damaged ({fault}); {cure}")
    return {key: value for key, value in content.items() if key != SEAL}


def is_partial(file: Path) -> bool:
    """Whether a file is what a process left that was killed within `save_text` or `save_json`."""
    return file.name.startswith(".") and file.name.endswith(".partial")
