"""What a result depends on besides the config: versions, devices, the revision of the code."""

import contextlib
import os
import platform
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

from jmer.base.errors import UserError
from jmer.base.paths import cache_root

_PACKAGES = ("jmer", "jax", "jaxlib", "flax", "optax", "jraph", "orbax-checkpoint", "numpy", "librosa", "transformers")


def keep_compiled() -> None:
    """Makes JAX keep compiled programs in jmer's cache folder, for the next process.

    A folder that was set for JAX beforehand, such as by JAX_COMPILATION_CACHE_DIR, stays.
    """
    if not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", str(cache_root() / "xla"))


@contextlib.contextmanager
def on_device(name: str | None) -> Iterator[None]:
    """Lets JAX compute on a device, such as `cpu`, `gpu` or `gpu:1`; None changes nothing.

    Raises:
      UserError: JAX has no such device.
    """
    if name is None:
        yield
        return
    kind, _, number = name.partition(":")
    try:
        device = jax.devices(kind)[int(number or 0)]
    except (RuntimeError, ValueError, IndexError) as error:
        found = ", ".join(f"{d.platform}:{d.id}" for d in jax.devices())
        raise UserError(f"JAX has no device '{name}' here; it has {found}") from error
    with jax.default_device(device):
        yield


def environment() -> dict[str, Any]:
    """Returns the versions, devices and revision that `environment.json` records."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "devices": [f"{d.platform}: {d.device_kind}" for d in jax.devices()],
        "git_revision": _git_revision(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Returns the revision of the clone that holds this file; None where jmer was installed from a wheel."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None
