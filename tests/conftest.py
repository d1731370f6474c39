"""Settings every test runs under: strict dtypes and ranks, warnings as errors, four simulated devices."""

import os
import tempfile
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The shapes of the tests are so small that compiling them is all the time they take: no optimisation, and each program
# once for the whole suite. jax 0.10 can also do without the emitters that take twice as long; later ones cannot.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    + (" --xla_cpu_use_fusion_emitters=false" if version("jax").startswith("0.10.") else ""),
)

import jax
import jaxtyping
import pytest

# Shapes and types in signatures are checked at run time, over the whole test run.
jaxtyping.install_import_hook("jmer", "type_checker.check")

from jmer.base.paths import cache_root

# Tests name caches of their own, in which numba would compile librosa anew each time.
os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_root() / "numba"))
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

_CACHE = tempfile.TemporaryDirectory(prefix="jmer-tests-xla-")
jax.config.update("jax_compilation_cache_dir", _CACHE.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(scope="module", autouse=True)
def _programs():
    """Frees a module's compiled programs, which come to gigabytes over the suite."""
    yield
    jax.clear_caches()


ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and weights for development; never part of the project."""
    folder = Path(os.environ.get("JMER_SHARED", ROOT.parent / "shared")).resolve()
    if not (folder / "datasets").is_dir():
        pytest.skip(f"needs the development data: no {folder} (set JMER_SHARED to where it is)")
    return folder


@pytest.fixture
def unchecked():
    """Lets a test pass arguments of wrong types, as a user may, whose calls nothing checks at run time."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
