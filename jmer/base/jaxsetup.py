"""Settings of JAX that must be made before JAX computes anything. This module does not import JAX.

The package `jaxlib` is only asked for its version. Its compiled part is not loaded.
"""

import ctypes
import os
import platform
import sys
import warnings
from pathlib import Path

from jaxlib.version import __version__ as _INSTALLED

# Settings of mallopt(3), by the names that its manual has, as number and value.
_MALLOC = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_ARENA_MAX": (-8, 1)}

_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
_FIRST_WRONG, _FIRST_RIGHT = (0, 10, 2), (0, 12)  # versions of jaxlib


def mend_cpu_fusion(version: str = _INSTALLED) -> None:
    """Turns a defective optimisation of jaxlib off for this process and the processes that it starts.

    From 0.10.2 until 0.12, jaxlib hands some fused CPU operations to the library YNN. Some of these programs compute
    wrong numbers (jax issue 39103), others crash (jax issues 39257 and 40412). The flag
    `--xla_cpu_experimental_ynn_fusion_type=` turns YNN off. XLA reads `XLA_FLAGS` when JAX starts its first backend, so
    the flag takes effect even if JAX is already imported. A value that the user has given to the flag stays.

    Args:
      version: of jaxlib; by default of the installed one.

    Warns:
      RuntimeWarning: the flag can no longer take effect because JAX has already started a backend, or `XLA_FLAGS` names
        a file, which jmer does not change.
    """
    if not _FIRST_WRONG <= _numbers(version) < _FIRST_RIGHT:
        return
    flags = os.environ.get("XLA_FLAGS", "").strip()
    in_file = bool(flags) and not flags.startswith("-")
    if _FLAG in (Path(flags).read_text(encoding="utf-8") if in_file and Path(flags).is_file() else flags):
        return
    if in_file:
        _warn(f"add {_FLAG}= to the file {flags} that XLA_FLAGS names")
        return
    bridge = sys.modules.get("jax._src.xla_bridge")  # JAX has no public function that says whether a backend runs
    if bridge is not None and bridge.backends_are_initialized():
        _warn(f"import jmer before JAX computes anything, or set XLA_FLAGS={_FLAG}=")
        return
    os.environ["XLA_FLAGS"] = f"{flags} {_FLAG}=".strip()


def take_memory_as_needed() -> None:
    """Lets JAX take memory of a GPU as it needs it, and not three quarters of it at the start.

    A value that the user has given to the variable stays. JAX reads the variable when it starts its first backend.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def keep_freed_memory() -> None:
    """Lets this process keep freed memory for its next arrays, and not give it back to the system; glibc alone.

    XLA's CPU backend allocates every large array anew. By default glibc gives such memory back at once, so that each
    array costs a page fault for every 4 KiB. Commands call this before JAX computes; a library should not.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for parameter, value in _MALLOC.values():
        libc.mallopt(parameter, value)


def _numbers(text: str) -> tuple[int, ...]:
    """Returns the leading numbers of a version: `(0, 12, 0)` of `0.12.0.dev1`."""
    numbers = []
    for part in text.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _warn(cure: str) -> None:
    message = f"this version of jaxlib computes some programs wrongly on a CPU (jax issue 39103); {cure}"
    warnings.warn(message, RuntimeWarning, stacklevel=4)
