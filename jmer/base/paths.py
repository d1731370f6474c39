"""Where jmer keeps what it computes once, and where it finds what it brings along."""

import os
from pathlib import Path


def cache_root() -> Path:
    """Returns the cache folder: `$JMER_CACHE`, else `jmer` in `$XDG_CACHE_HOME`, else `jmer` in `~/.cache`."""
    if own := os.environ.get("JMER_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jmer"
