"""Models, runs and data from a stranger: pickles, headers that lie, repositories with code, files that name others.

    python benchmarks/faults/strangers.py

Each case is opened in its full size, as a user would open it. The promise: it is refused in one line that names the
file, or read without what could do harm. No code of the stranger runs, nothing asks the user anything, nothing is
fetched, no file is made, and no case takes more than 60 s or 1 GiB. Exits with 1 if a promise was not kept.

`tests/test_strangers.py` opens the same cases with small bombs.
"""

import builtins
import contextlib
import logging
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import huggingface_hub
import jax
from huggingface_hub.errors import LocalEntryNotFoundError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import tiny  # pyright: ignore[reportMissingImports] (of the tests)

from benchmarks.faults import stranger_files, stranger_folders
from benchmarks.faults.outcomes import Row, show
from benchmarks.faults.stranger_scene import CASES, Case, Scene
from jmer.base.errors import UserError

SECONDS, MEMORY = 60, 1024  # MiB
SIZE = 3 << 30  # bytes that a bomb unpacks to
MODULES = (stranger_files, stranger_folders)  # which add to CASES


class Forbidden(BaseException):
    """Something was asked or fetched. It is no `Exception`, so that nothing takes it for damage."""


def _forbidden(*args: object, **kwargs: object) -> None:
    raise Forbidden(f"{args[:1]}")


def _fetched(model: str, *, local_files_only: bool = False, **kwargs: object) -> None:
    if not local_files_only:
        raise Forbidden(model)
    raise LocalEntryNotFoundError("it was never fetched")


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Raises `Forbidden` where the user is asked something or the hub is called."""
    with (
        mock.patch.object(builtins, "input", _forbidden),
        mock.patch.object(huggingface_hub, "snapshot_download", _fetched),
    ):
        yield


def memory(name: str) -> int:
    """Returns an entry of this process's status in MiB, such as the resident memory `VmRSS`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith(name))


def attempt(case: Case, folder: Path, *, good: Path, size: int = SIZE) -> Row:
    """Writes the files of a case into `folder`, which is empty, and opens them.

    good: the folder of a run and its dataset, as `made` makes it.
    """
    (folder / "given").mkdir()
    scene = Scene(folder=folder / "given", trace=folder / "trace", good=good, size=size)
    opened, wrong, said = case.write(scene), [], ""
    before, path = _there(folder), list(sys.path)
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
    begin, resident = time.monotonic(), memory("VmRSS")
    try:
        with watched():
            opened()
    except UserError as error:
        said = str(error)
    except Forbidden as error:
        wrong.append(f"asked or fetched {error}")
    except Exception as error:
        wrong.append(f"traceback: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    seconds, peak = time.monotonic() - begin, memory("VmHWM") - resident
    wrong += ["code was run"] * (scene.trace.exists() or sys.path != path)
    wrong += [f"made {name}" for name in _there(folder) - before if name != "trace"]
    wrong += [f"took {seconds:.0f} s"] * (seconds > SECONDS) + [f"took {peak} MiB"] * (peak > MEMORY)
    if not wrong:
        wrong += ["another message"] * (not re.search(case.says, said) or bool(said) != bool(case.says))
        wrong += ["more than one line"] * ("\n" in said)
    outcome = "; ".join([*wrong, said.replace(f"{folder}/", "") or "read"])
    promise = "refused by name" if case.says else "read, without what could do harm"
    return Row(case=case.name, promise=promise, outcome=outcome[:300], held=not wrong)


def made(folder: Path) -> Path:
    """Makes the run and the dataset that cases change."""
    data = tiny.write_dataset(folder / "data")
    tiny.train(data, folder / "run", epochs=1, encoder="none", graph="none")
    return folder


def rows() -> list[Row]:
    """Opens every case in its full size."""
    found = []
    logging.getLogger("jmer").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="jmer-strangers-") as name:
        good = made(Path(name))
        for case in CASES:
            with tempfile.TemporaryDirectory(prefix="jmer-strangers-") as folder:
                found.append(attempt(case, Path(folder), good=good))
        jax.clear_caches()
    return found


def _there(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


if __name__ == "__main__":
    sys.exit(show("models, runs and data of strangers", rows()))
