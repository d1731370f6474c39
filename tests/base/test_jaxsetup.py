"""JAX computes what it should on a CPU: the published reproductions, and the flag that mends them."""

import os
import platform
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import pytest
from jaxlib.version import __version__ as INSTALLED

from jmer.base.jaxsetup import mend_cpu_fusion

FLAG = "--xla_cpu_experimental_ynn_fusion_type="

# Issue 39103: wrong in 0.10.2, which gives 1071645696.
ROWS = """
i = jnp.arange(32_769, dtype=jnp.float32)
x = jnp.stack((i, jnp.zeros_like(i), jnp.zeros_like(i)), axis=1)
print(float(jax.jit(jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2)))(x)[-1]))
"""
# Issue 40412: a segmentation fault in 0.10.2.
RANK_7 = """
a, b = jnp.ones((2, 3, 1, 2, 2, 8, 8, 8))
print(float(jax.jit(lambda a, b: jnp.sum(a * b, axis=3))(a, b).sum()))
"""
# Issue 39257: a segmentation fault in 0.10.2 and 0.11.0.
RANK_8 = """
def likelihood(seen, table):
    return jnp.log(jnp.sum(seen[..., None, None, None, None, None] * table, axis=2))
seen, table = jnp.ones((10, 4, 6)), jnp.ones((10, 4, 6, 9, 9, 9, 9, 9))
print(round(float(jnp.exp(jax.jit(likelihood)(seen, table).max()))))
"""


def run(root: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a process of its own, with jmer's own choice of flags."""
    inherited = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(
        command, env=inherited | environment, cwd=root, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize(("code", "expected"), [(ROWS, "1073741824.0"), (RANK_7, "6144.0"), (RANK_8, "6")])
def test_published_reproductions_compute_what_they_should(root: Path, code: str, expected: str):
    # JAX is imported before jmer: the flag takes effect until a backend starts.
    done = run(root, f"import jax, jax.numpy as jnp, jmer\n{code}")
    assert (done.returncode, done.stdout.strip()) == (0, expected), done.stderr


@pytest.mark.skipif(INSTALLED != "0.10.2", reason="only jaxlib 0.10.2 shows all three defects")
@pytest.mark.parametrize(("code", "expected"), [(ROWS, "1073741824.0"), (RANK_7, "6144.0"), (RANK_8, "6")])
def test_reproductions_show_the_defect_without_the_flag(root: Path, code: str, expected: str):
    done = run(root, f"import jax, jax.numpy as jnp\n{code}")
    assert (done.returncode, done.stdout.strip()) != (0, expected)


def test_this_suite_runs_with_the_flag_where_it_is_needed():
    assert (FLAG in os.environ["XLA_FLAGS"]) == INSTALLED.startswith(("0.10.2", "0.11."))


@pytest.mark.parametrize(
    ("version", "given", "left"),
    [
        ("0.10.1", None, None),
        ("0.10.2", None, FLAG),
        ("0.11.2", "--xla_a=1", f"--xla_a=1 {FLAG}"),
        ("0.11.0.dev20260701", "", FLAG),
        ("0.12.0.1", None, None),
        ("0.10.2", f"{FLAG}-reduce", f"{FLAG}-reduce"),
    ],
)
def test_flag_is_added_where_it_is_needed(
    monkeypatch: pytest.MonkeyPatch, version: str, given: str | None, left: str | None
):
    monkeypatch.delitem(sys.modules, "jax._src.xla_bridge")  # as if JAX were not imported yet
    monkeypatch.delenv("XLA_FLAGS") if given is None else monkeypatch.setenv("XLA_FLAGS", given)
    mend_cpu_fusion(version)
    assert os.environ.get("XLA_FLAGS") == left


def test_a_backend_that_already_runs_is_warned_of(monkeypatch: pytest.MonkeyPatch):
    jax.devices()  # before XLA_FLAGS changes: XLA ends a process that starts with an unknown flag
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=1")
    with pytest.warns(RuntimeWarning, match=f"import jmer before JAX computes anything, or set XLA_FLAGS={FLAG}"):
        mend_cpu_fusion("0.10.2")
    assert os.environ["XLA_FLAGS"] == "--xla_a=1"


def test_a_file_of_flags_is_read_and_not_changed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    file = tmp_path / "flags"
    monkeypatch.setenv("XLA_FLAGS", str(file))
    with pytest.warns(RuntimeWarning, match=f"add {FLAG} to the file {file}"):
        mend_cpu_fusion("0.10.2")
    file.write_text(FLAG)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mend_cpu_fusion("0.10.2")
    assert os.environ["XLA_FLAGS"] == str(file)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is one of glibc")
def test_freed_memory_is_kept(root):
    """Counts the page faults of arrays of 32 MiB that are made and freed."""
    code = """
import resource, sys
import numpy as np
from jmer.base import jaxsetup
if sys.argv[1] == "kept":
    jaxsetup.keep_freed_memory()
for _ in range(20):
    np.ones(2**22)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""
    kept, given_back = (
        int(
            subprocess.run(
                [sys.executable, "-c", code, how], cwd=root, capture_output=True, text=True, check=True
            ).stdout
        )
        for how in ("kept", "given back")
    )
    assert kept < given_back / 2
