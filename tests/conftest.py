"""Settings that every test runs under: strict dtypes and ranks, four simulated devices, compiled programs shared."""

import gc
import itertools
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The arrays of the tests are so small that almost all time goes into compiling. Programs are therefore compiled without
# optimisation, and each one only once for the whole suite. jax 0.10 can also leave out the fusion emitters, which take
# twice as long; later versions cannot.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    + (" --xla_cpu_use_fusion_emitters=false" if version("jax").startswith("0.10.") else ""),
)
# Without bytecode, each command that a test starts would compile jmer's sources again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import jax
import jaxtyping
import pytest
from browser import browser  # noqa: F401 (a fixture)

# Shapes and types in signatures are checked at run time, over the whole test run.
jaxtyping.install_import_hook("jmer", "type_checker.check")

# Importing jmer adds the flag that mends jaxlib 0.10.2 to those above: tests/base/test_jaxsetup.py.
from jmer.base import console  # noqa: E402 (after the hook)
from jmer.base.paths import cache_root  # noqa: E402

# Tests name caches of their own. With numba's cache in them, every test would compile librosa's functions again.
os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_root() / "numba"))
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Tracing makes many small objects, through which the garbage collector would go hundreds of times to no effect.
gc.set_threshold(100_000, 20, 20)


def pytest_configure(config: pytest.Config):
    """Makes one folder of compiled programs for the workers and for the commands that tests start."""
    if hasattr(config, "workerinput"):
        return
    folder = tempfile.TemporaryDirectory(prefix="jmer-tests-xla-")
    config.add_cleanup(folder.cleanup)
    for name, value in (
        ("jax_compilation_cache_dir", folder.name),
        ("jax_persistent_cache_min_compile_time_secs", 0.03),
    ):
        os.environ[name.upper()] = str(value)
        jax.config.update(name, value)


_modules = itertools.count(1)


@pytest.fixture(scope="module", autouse=True)
def _programs():
    """Frees the compiled programs of eight test modules. Those of the whole suite would take gigabytes."""
    yield
    if next(_modules) % 8 == 0:
        jax.clear_caches()


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]):
    """What jmer says as in a command, where a test calls a function of a command itself."""
    with console.shown():
        yield capsys


ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The root folder of the project."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and weights for development, which are never part of the project."""
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


@pytest.fixture(scope="module")
def optax_promotion():
    """Optax raises a float to an integer power, which strict promotion forbids; jmer's own code is strict elsewhere."""
    with jax.numpy_dtype_promotion("standard"):
        yield
