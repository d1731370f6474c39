"""Loads librosa, and keeps the machine code that numba compiles for it in a cache that processes can share.

Worker processes import this file, so it does not import jax.
"""

import functools
from pathlib import Path

import numpy as np
from filelock import FileLock

from jmer.base.errors import UserError
from jmer.base.paths import cache_root


@functools.cache
def compiled_librosa():
    """Returns the module, with every function that jmer calls compiled. With a new cache this takes 15 s, later 1 s.

    numba writes a function and its wrapper to the cache one after the other. If two processes fill a cache at the same
    time, the wrapper of one can end up beside the function of the other. Every call is then a segmentation fault, in
    later processes too (https://github.com/numba/numba/issues/10128). jmer therefore uses a cache of its own, in
    `$NUMBA_CACHE_DIR` or else beside the cache of features, and a lock lets only one process compile at a time.

    Raises:
      UserError: the folder of the cache cannot be written or locked.
    """
    import librosa
    from numba.core import config

    folder = Path(config.CACHE_DIR or cache_root() / "numba")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            config.CACHE_DIR = str(folder)  # pyright: ignore[reportAttributeAccessIssue]
            _compile(librosa)
    except (OSError, NotImplementedError) as error:  # NotImplementedError: the file system has no locks
        raise UserError(
            f"{folder}, the cache of compiled code, cannot be used ({error}); name another folder with NUMBA_CACHE_DIR "
            "or JMER_CACHE"
        ) from error
    return librosa


def _compile(librosa) -> None:
    """Calls librosa once, since numba compiles some functions when they are imported and others when first called."""
    wave = np.zeros(4096, np.float32)
    librosa.yin(wave, fmin=100.0, fmax=500.0)
    with np.errstate(invalid="ignore"):
        librosa.istft(librosa.phase_vocoder(librosa.stft(wave), rate=1.1))
