"""Features by content of the input: any number of processes may read and write one cache at the same time.

Each input and extractor has one small file. A file system makes a single file appear whole or not at all, so that no
locks are needed, over a network either. A checksum finds damage later.
"""

import hashlib
import json
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jmer.base.errors import StorageError, UserError
from jmer.base.types import Extracted
from jmer.features import libraries
from jmer.features.extractor import Extractor

_log = logging.getLogger(__name__)

_DIGEST = 32  # bytes


@dataclass(frozen=True)
class Cache:
    """Features by input and extractor, under the folder `root`.

    An entry belongs to the releases of the extractor's libraries that were installed when it was written, so that one
    cache never mixes features of two releases.
    """

    root: Path

    def get(self, key: str, extractor: Extractor) -> Extracted | None:
        """Returns the entry that `put` wrote. Returns None where there is none, or where it is damaged, with a warning.

        Args:
          key: hexadecimal hash of the input.

        Raises:
          UserError: the folder cannot be read.
        """
        path = self._path(key, extractor)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error
        digest, body = data[:_DIGEST], data[_DIGEST:]
        if hashlib.sha256(body).digest() != digest:
            _log.warning(f"cache entry {path} is damaged; its features are computed again")
            return None
        head, _, values = body.partition(b"\n")
        entry = json.loads(head)
        dim, frames = entry.pop("dim"), entry.pop("frames")
        vector = sequence = None
        if dim:
            vector = np.frombuffer(values, "<f4", dim).astype(np.float32)
        if frames:
            sequence = np.frombuffer(values, "<f2", offset=4 * dim).astype(np.float16).reshape(frames, -1)
        return Extracted(vector=vector, sequence=sequence, **entry)

    def put(self, key: str, extractor: Extractor, extracted: Extracted) -> None:
        """Writes an entry, in place of an older one of the same key.

        Args:
          key: hexadecimal hash of the input.

        Raises:
          UserError: the folder cannot be written to.
        """
        vector, sequence = extracted.vector, extracted.sequence
        entry = {
            "dim": 0 if vector is None else len(vector),
            "frames": 0 if sequence is None else len(sequence),
            "status": extracted.status,
            "reason": extracted.reason,
        }
        body = json.dumps(entry).encode() + b"\n"
        body += b"" if vector is None else vector.astype("<f4").tobytes()
        body += b"" if sequence is None else sequence.astype("<f2").tobytes()
        path = self._path(key, extractor)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
                file.write(hashlib.sha256(body).digest() + body)
            os.replace(file.name, path)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> UserError:
        kind = UserError if isinstance(error, NotADirectoryError) else StorageError
        return kind(
            f"cache {self.root} cannot be used ({error.strerror}); "
            "name another folder with --config.cache or JMER_CACHE"
        )

    def _path(self, key: str, extractor: Extractor) -> Path:
        releases = [f"{name}{libraries.release(name)}" for name in sorted(set(extractor.libraries))]
        folder = "-".join([extractor.modality, extractor.kind, extractor.fingerprint[:32], *releases])
        return self.root / folder / key[:2] / key
