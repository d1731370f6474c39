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


def save_json(file: Path, value: Any) -> None:
    """Writes a JSON file atomically, so that a reader sees the old content or the new one, never a part."""
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, file)
