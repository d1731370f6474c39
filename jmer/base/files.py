"""Writes files atomically, and hashes them."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def sha256(file: Path) -> str:
    """Returns the SHA-256 of a file's content, in hexadecimal. Raises OSError if the file cannot be read."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def save_text(file: Path, text: str) -> None:
    """Writes a text file atomically, so that a reader sees the old text or the new one, never a part."""
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, file)


def save_json(file: Path, value: Any) -> None:
    """Writes a JSON file, as `save_text` does."""
    save_text(file, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def is_partial(file: Path) -> bool:
    """Whether a file is what a process left that was killed within `save_text` or `save_json`."""
    return file.name.startswith(".") and file.name.endswith(".partial")
