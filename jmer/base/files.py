"""Files that are written whole, and known by their hash."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def sha256(file: Path) -> str:
    """Returns the SHA-256 of a file's content, in hexadecimal. Raises OSError where it cannot be read."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def save_json(file: Path, value: Any) -> None:
    """Writes a JSON file in one stroke: it is never seen half written."""
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, file)
