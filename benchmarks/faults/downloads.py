"""Servers that misbehave, and what `jmer.download` makes of each.

    python benchmarks/faults/downloads.py

A server on this machine offers an archive like MELD's, of 52 MB, and the command downloads and unpacks it. The promise:
the download is resumed, restarted or refused. After a refusal there is one line that says what to do, and no data set.
A file with the final name is the right one, or it is absent. Exits with 1 if a promise was not kept.

The waits between attempts are not waited, and the time limit is shortened. `tests/corpora/fetch/test_servers.py` runs
the same cases with a small archive.
"""

import contextlib
import io
import os
import re
import resource
import shutil
import sys
import tempfile
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from benchmarks.faults.download_cases import CASES, Case, Scene, clips
from benchmarks.faults.outcomes import Row, show
from jmer import download
from jmer.base import cli
from jmer.base.errors import StorageError, UserError
from jmer.corpora.fetch import remote
from tests.file_server import running
from tests.meld_archive import expected_tree, read_tree, write_meld_archive

_CURE = "run the same command again|by other means|make room"


def run(case: Case, scene: Scene) -> tuple[int, str, list[str]]:
    """Runs the command. Returns its exit code, what it printed, and its errors."""

    def sleep(seconds: float) -> None:
        scene.waits.append(seconds)
        scene.between()
        scene.between = lambda: None

    def usage(_: object) -> tuple[int]:
        received = scene.part.stat().st_size if scene.part.exists() else 0
        return namedtuple("usage", "free")((scene.free or 0) - received)

    printed = io.StringIO()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    source = replace(download.SOURCES["meld"], sha256=scene.known)
    with contextlib.ExitStack() as stack:
        for context in (
            mock.patch.dict(os.environ, no_proxy="*"),
            mock.patch.dict(download.SOURCES, meld=source),
            mock.patch.multiple(
                remote, _TIMEOUT=0.3, time=SimpleNamespace(sleep=sleep, monotonic=time.monotonic, time=time.time)
            ),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            stack.enter_context(context)
        if scene.free is not None:
            stack.enter_context(mock.patch.object(shutil, "disk_usage", usage))
        if scene.largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (scene.largest, hard))
            stack.callback(resource.setrlimit, resource.RLIMIT_FSIZE, (soft, hard))
        code = cli.run(download.main, ["meld", f"--root={scene.root}", f"--url={scene.server.url}{case.path}"])
    lines = printed.getvalue().replace("\r", "\n").splitlines()
    return code, "\n".join(lines), [line for line in lines if line.startswith("error: ")]


def attempt(case: Case, folder: Path, *, clip: int) -> Row:
    """Runs the command against the server of a case. folder: an empty one. clip: bytes of each of the eight clips."""
    tree = expected_tree(clips(clip))
    root, wrong = folder / "data", []
    whole = write_meld_archive(folder / "whole.tar.gz", clips=clips(clip)).read_bytes()
    with running() as server:
        server.data = whole
        scene = Scene(server=server, root=root, whole=whole)
        case.spoil(scene)
        code, printed, errors = run(case, scene)
        says = re.search(case.says, printed if case.done else "".join(errors))
        final, there = root / "MELD.Raw.tar.gz", root / "MELD.Raw"
        if case.done:
            wrong += ["not done"] * (code != 0 or not there.exists() or read_tree(there) != tree)
        else:
            expected = StorageError.exit_code if "make room" in case.says else UserError.exit_code
            wrong += ["not refused"] * (code != expected or len(errors) != 1 or there.exists())
            wrong += ["no cure"] * (not re.search(_CURE, "".join(errors)))
        wrong += ["another message"] * (not says) + ["another course"] * (not case.check(scene))
        wrong += ["a wrong file under the final name"] * (final.exists() and final.read_bytes() != scene.whole)
        if case.again:
            scene.put_right()
            again = run(case, scene)[0] == 0 and read_tree(there) == tree and final.read_bytes() == scene.whole
            wrong += ["not done when run again"] * (not again)
    message = errors[0] if errors else (says[0] if says else "")
    outcome = message.replace(f"{root}/", "").replace(server.url, "http://SERVER").partition("; fetch http")[0]
    promise = "done" if case.done else "refused, and done when run again" if case.again else "refused"
    return Row(case=case.name, promise=promise, outcome="; ".join([*wrong, outcome or "done"]), held=not wrong)


def rows() -> list[Row]:
    """Runs every case with an archive of 52 MB."""
    found = []
    for case in CASES:
        with tempfile.TemporaryDirectory(prefix="jmer-downloads-") as folder:
            found.append(attempt(case, Path(folder), clip=8_000_000))
    return found


if __name__ == "__main__":
    sys.exit(show("misbehaving servers", rows()))
