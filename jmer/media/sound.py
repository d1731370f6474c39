"""librosa, with what numba compiles of it in a cache that several processes can fill. No jax: workers run it."""

import functools
from pathlib import Path

import numpy as np
from filelock import FileLock

from jmer.base.errors import UserError
from jmer.base.paths import cache_root


@functools.cache
def compiled_librosa():
    """Returns the module, with whatever jmer calls of it compiled; that takes 15 s where the cache is new, else one.

    numba writes a function and its wrapper one after the other. Of two processes that fill a cache at the same time,
    one's wrapper can end up beside the other's function, and then every call of it is a segmentation fault, in every
    later process too (https://github.com/numba/numba/issues/10128). So the cache is one of ours, in `$NUMBA_CACHE_DIR`
    or with the features', and only one process at a time compiles.

    Raises:
      UserError: the folder cannot be written or locked.
    """
    import librosa
    from numba.core import config

    folder = Path(config.CACHE_DIR or cache_root() / "numba")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            config.CACHE_DIR = str(folder)  # pyright: ignore[reportAttributeAccessIssue]
            _compile(librosa)
    except (OSError, NotImplementedError) as error:  # the latter where a file system has no locks
        raise UserError(
            f"{folder}, for compiled code, cannot be used ({error}); name another with NUMBA_CACHE_DIR or JMER_CACHE"
        ) from error
    return librosa


def _compile(librosa) -> None:
    """Most is compiled when a module of librosa's is first imported, the rest when it is first called."""
    wave = np.zeros(4096, np.float32)
    librosa.yin(wave, fmin=100.0, fmax=500.0)
    with np.errstate(invalid="ignore"):
        librosa.istft(librosa.phase_vocoder(librosa.stft(wave), rate=1.1))
