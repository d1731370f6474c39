"""Hostile and damaged archives, and what unpacking makes of them.

    python benchmarks/faults/archives.py

Each archive is written, in its full size, into a folder that holds other files, and a process of its own unpacks it.
The promise: an archive is unpacked as it should be, or refused in one line that names the archive and the member. After
a refusal the folder is as it was before, and nothing outside of the folder of the archive is ever written. No archive
takes more than two minutes or 150 MiB of memory. Exits with 1 if a promise was not kept.

`tests/corpora/fetch/test_hostile_archives.py` runs the same cases, with small archives and small caps.
"""

import hashlib
import json
import re
import resource
import stat
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.archive_cases import CASES, FULL, Case, Sizes
from benchmarks.faults.outcomes import Row, show
from jmer.base.errors import UserError
from jmer.corpora.fetch import archive
from tests.meld_archive import read_tree

SECONDS, MEMORY = 120, 150  # MiB; importing takes 45


@dataclass(frozen=True, kw_only=True)
class Result:
    """What unpacking came to. error: the message of the refusal; empty if there was none. memory: the peak in MiB."""

    error: str
    seconds: float = 0
    memory: float = 0


def unpack(file: Path, out: Path) -> Result:
    """Unpacks in this process. An error that is no UserError passes through."""
    begin = time.monotonic()
    try:
        archive.unpack(file, out)
    except UserError as error:
        return Result(error=str(error), seconds=time.monotonic() - begin)
    return Result(error="", seconds=time.monotonic() - begin)


def unpack_apart(file: Path, out: Path, *, memory: int | None = None) -> Result:
    """Unpacks in a process of its own. memory: MiB that the process may take on top of those it begins with."""
    command = [sys.executable, "-m", "benchmarks.faults.archives", "--unpack", str(file), str(out), str(memory or "")]
    root = Path(__file__).resolve().parent.parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        return Result(error=f"ended with {done.returncode}: {(done.stderr.strip().splitlines() or [''])[-1]}")
    return Result(**json.loads(done.stdout.splitlines()[-1]))


def _child(file: str, out: str, memory: str) -> None:
    status = Path("/proc/self/status")

    def mib(name: str) -> int:
        return next(int(line.split()[1]) >> 10 for line in status.read_text().splitlines() if line.startswith(name))

    if memory:
        most = (mib("VmSize:") + int(memory)) << 20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    result = unpack(Path(file), Path(out))
    print(json.dumps({"error": result.error, "seconds": result.seconds, "memory": mib("VmHWM:")}))


def _there(folder: Path) -> dict[str, str]:
    """Returns what is in a folder: path -> kind, mode and hash."""
    found = {}
    for path in folder.rglob("*"):
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else ""
        found[str(path.relative_to(folder))] = f"{stat.filemode(path.lstat().st_mode)} {content}"
    return found


def attempt(
    case: Case, folder: Path, *, sizes: Sizes, unpack: Callable[[Path, Path], Result], inner: bool = False
) -> Row:
    """Writes the archive of a case into `folder`, which is empty, and unpacks it.

    inner: the archive lies within another one.
    """
    (folder / "place").mkdir()
    (folder / "secret").write_text("not to be touched")
    (folder / "place/mine").write_text("not to be touched either")
    file, out = folder / f"place/x{case.suffix}", folder / "place/out"
    expected = case.write(file, sizes)
    if inner:
        packed = file.read_bytes()
        file.unlink()
        file = folder / "place/x.zip"
        with zipfile.ZipFile(file, "w") as outer:
            outer.writestr(f"x{case.suffix}", packed)
    before = _there(folder)
    result = unpack(file, out)
    after = _there(folder)
    wrong = []
    if expected is None:
        if not re.search(case.says, result.error) or not result.error.startswith(str(folder)) or "\n" in result.error:
            wrong.append("another message")
        wrong += [f"left {path}" for path in after.keys() - before.keys()]
    else:
        if result.error or read_tree(out) != expected:
            wrong.append("not unpacked")
        outside = {path for path in after if not path.startswith("place/out/")} - before.keys()
        wrong += [f"wrote {path}" for path in outside - {"place/out", "place/out.unpacked.json"}]
        modes = {path: mode for path, mode in after.items() if mode.startswith("-") and set("xsS") & set(mode[:10])}
        wrong += [f"{path} has the mode {mode[:10]}" for path, mode in modes.items()]
    wrong += [f"changed {path}" for path in before if after.get(path) != before[path]]
    wrong += ["took too long"] * (result.seconds > SECONDS) + ["took too much memory"] * (result.memory > MEMORY)
    message = result.error.replace(f"{folder}/place/", "").partition(", so nothing of")[0]
    outcome = "; ".join([*wrong[:3], message or f"{len(after) - len(before)} files and folders unpacked"])
    promise = "refused by name, nothing written" if expected is None else "unpacked"
    took = f" ({result.seconds:.1f} s, {result.memory:.0f} MiB)" if result.memory else ""
    return Row(case=case.name, promise=promise, outcome=outcome + took, held=not wrong)


def rows() -> list[Row]:
    """Runs every case in its full size."""
    found = []
    for case in CASES:
        with tempfile.TemporaryDirectory(prefix="jmer-archives-") as folder:
            found.append(attempt(case, Path(folder), sizes=FULL, unpack=unpack_apart))
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--unpack"]:
        _child(*sys.argv[2:])
    else:
        sys.exit(show("hostile archives", rows()))
