"""A disk that fills while jmer writes to it, and folders that may not be written to.

    python benchmarks/faults/full_disk.py [--seed=0]

The disk is a small tmpfs, which only root may mount. It fills at a random instant of a phase of the command, or before
the command begins, when a few random KiB are left. The promise: the command ends with one line that begins with
"error: ", no traceback and exit code 5; what was whole before can still be loaded; and the same command, when there is
room again, leaves what an undisturbed one leaves. A command that had no more to write when the disk filled ends well,
which is counted apart. A read-only folder is the same disk, mounted read-only, since root may write wherever the
permissions of a folder forbid writing. Exits with 1 if a promise was not kept.
"""

import contextlib
import hashlib
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.faults import commands, trainings
from benchmarks.faults.outcomes import Row, parser, show
from jmer.base.errors import StorageError, UserError
from jmer.dataset import store
from jmer.runs import directory
from jmer.training import checkpoint

sys.path.insert(0, str(commands.ROOT / "tests"))
import tiny_encoders  # pyright: ignore[reportMissingImports] (of the tests)

OPTIONS = {"seeds": 2, "epochs": 12}
PROMISE = "one line, exit code 5, what was good can be loaded, a rerun with room goes on"
SIZE = 64  # MiB


class Unavailable(Exception):
    """No disk can be mounted here."""


@dataclass(frozen=True, kw_only=True)
class Disk:
    """A disk in memory, mounted at a path."""

    path: Path

    @classmethod
    @contextlib.contextmanager
    def mounted(cls, path: Path) -> Iterator["Disk"]:
        """Mounts a disk. Raises Unavailable where this process may not."""
        path.mkdir(parents=True, exist_ok=True)
        try:
            _mount("-t", "tmpfs", "-o", f"size={SIZE}m", "tmpfs", path)
        except (OSError, subprocess.CalledProcessError) as error:
            raise Unavailable(f"mounting a tmpfs needs rights that this process has not ({error})") from error
        try:
            yield cls(path=path)
        finally:
            subprocess.run(["umount", "--lazy", path], check=True)

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"

    def fill(self, *, leave: int = 0) -> None:
        """Writes until the disk is full, but for so many bytes."""
        with contextlib.suppress(OSError), self._ballast.open("wb", buffering=0) as file:
            size = shutil.disk_usage(self.path).free - leave
            for _ in range(size // 4096):
                file.write(bytes(4096))
            if not leave:  # another process may have removed files meanwhile
                while file.write(bytes(4096)):
                    pass

    def empty(self) -> None:
        """Makes room again, and lets the disk be written to."""
        _mount("-o", "remount,rw", self.path)
        self._ballast.unlink(missing_ok=True)

    def forbid(self) -> None:
        """Lets nobody write to the disk."""
        _mount("-o", "remount,ro", self.path)


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def refused(code: int | None, errors: str) -> str:
    """Returns what is wrong with the end of a command that could not write; empty if nothing is."""
    if code == 0:
        return ""
    lines = errors.splitlines()
    if code != StorageError.exit_code:
        return f"exit code {code}: {' '.join(lines[-1:])[:200]}"
    if len(lines) != 1 or not lines[0].startswith("error: "):
        return f"{len(lines)} lines of errors, the first {' '.join(lines[:1])[:100]}"
    return ""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A command that writes to a disk.

    program: the arguments of Python.
    good: raises UserError if what was whole before can no longer be loaded.
    done: returns what the command leaves at its end, to be compared with `expected`.
    """

    name: str
    program: Sequence[str | Path]
    good: Callable[[], Any]
    done: Callable[[], Any]
    expected: Any


def attempted(attempt: Attempt, folder: Path, fault: Callable[[], Any], disk: Disk) -> Row:
    """Does a fault to the disk, runs the command on it, mends the disk, and runs the command again."""
    environment = {"JMER_CACHE": folder / "cache"}
    fault()
    process = commands.start(attempt.program, folder, environment=environment)
    code = process.wait()
    wrong = refused(code, (folder / "errors.txt").read_text())
    return _judged(attempt, folder, disk, code=code, wrong=wrong, environment=environment)


def _judged(attempt: Attempt, folder: Path, disk: Disk, *, code: int, wrong: str, environment: dict[str, Path]) -> Row:
    try:
        attempt.good()
    except UserError as error:
        wrong = wrong or f"lost: {error}"
    disk.empty()
    again = commands.start(attempt.program, folder, environment=environment).wait()
    if not wrong and again:
        wrong = f"with room again, exit code {again}: {(folder / 'errors.txt').read_text()[-300:]}"
    if not wrong and attempt.done() != attempt.expected:
        wrong = "with room again, another result"
    kept = "one line, exit code 5, and the rerun leaves the same" if code else "there was room enough"
    return Row(case=attempt.name, promise=PROMISE, outcome=wrong or kept, held=not wrong)


def training_row(name: str, phase: str, subject: trainings.Subject, disk: Disk, rng: random.Random) -> Row:
    """Fills the disk of a training at a random instant of a phase."""
    training = subject.training
    subject.forget_run()
    while not subject.reach(phase, process := training.start(), rng):  # it was quicker
        process.wait()
        subject.forget_run()
    disk.fill()
    last = checkpoint.latest_epoch(training.run / "checkpoints")
    code = process.wait()
    wrong = refused(code, (training.folder / "errors.txt").read_text())
    if last:
        try:
            kept = directory.load(training.run).progress.epoch
            wrong = wrong or (f"epoch {last} became {kept}" if kept < last else "")
        except UserError as error:
            wrong = wrong or f"lost: {error}"
    disk.empty()
    ending = subject.ending()
    wrong = wrong or (ending if ending != trainings.EQUAL else "")
    told = f"one line, exit code 5, epoch {last} stays, the rerun is equal" if code else "nothing was left to write"
    case = f"the disk fills during {phase} of a training, {name}"
    return Row(case=case, promise=PROMISE, outcome=wrong or told, held=not wrong)


def rows(*, seed: int = 0) -> list[Row]:
    """Returns a row for each of 26 faults; none where no disk can be mounted."""
    rng, found = random.Random(seed), []
    with tempfile.TemporaryDirectory(prefix="jmer-disk-") as name:
        folder = Path(name)
        try:
            with Disk.mounted(folder / "disk") as disk:
                for form, phases in (("resident", trainings.PHASES), ("streamed", ("start-up", "epochs", "saving"))):
                    options = OPTIONS | {"data_mode": form}
                    subject = trainings.Subject.prepared(folder / form, options, run=disk.path / form / "run")
                    found += [training_row(form, phase, subject, disk, rng) for phase in phases]
                # The last training is whole now: what is read from it, and what is written beside it, comes next.
                read = [scoring(subject, disk), predicting(subject, disk), going_on(subject, disk)]
                for attempt in read[:2]:
                    found.append(attempted(attempt, folder, disk.fill, disk))
                packed = extraction(folder, disk)
                for _ in range(3):
                    shutil.rmtree(disk.path / "cache", ignore_errors=True)
                    shutil.rmtree(disk.path / "out", ignore_errors=True)
                    left = rng.randrange(1 << 20)
                    found.append(attempted(packed, folder, lambda left=left: disk.fill(leave=left), disk))
                replaced = replacing(folder, disk)
                found.append(attempted(replaced, folder, disk.fill, disk))
                new = [exporting(subject, disk, folder), sweeping(subject, disk, folder), finetuning(disk, folder)]
                for attempt in new:
                    found.append(attempted(attempt, folder, disk.fill, disk))
                    shutil.rmtree(disk.path / "new")
                for attempt in (*read, packed, replaced, streaming(subject, disk), *new):
                    found.append(_forbidden(attempt, folder, disk))
        except Unavailable as error:
            print(f"full disks are left out: {error}", file=sys.stderr)
    return found


def _forbidden(attempt: Attempt, folder: Path, disk: Disk) -> Row:
    row = attempted(attempt, folder, disk.forbid, disk)
    return Row(case=f"{attempt.name.split(' on a')[0]} in a read-only folder", promise=row.promise,
               outcome=row.outcome, held=row.held)  # fmt: skip


def files_of(folder: Path) -> dict[str, str]:
    """Returns the hash of each file of a folder."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def scoring(subject: trainings.Subject, disk: Disk) -> Attempt:
    """Scores a run that was scored before: the files of the earlier scores stay."""
    run = subject.training.run
    before = files_of(run / "eval")

    def good() -> None:
        directory.load(run)
        if files_of(run / "eval") != before:
            raise UserError("the scores of before are damaged")

    program = ["-m", "jmer.evaluate", f"--workdir={run}", f"--dataset={subject.training.dataset}"]
    return Attempt(name="jmer.evaluate on a full disk", program=program, good=good, expected=before,
                   done=lambda: files_of(run / "eval"))  # fmt: skip


def predicting(subject: trainings.Subject, disk: Disk) -> Attempt:
    """Predicts a split into a file."""
    run, out = subject.training.run, disk.path / "answers.csv"
    program = ["-m", "jmer.predict", "--quiet", subject.training.dataset, "--split=test", "--vote", f"--workdir={run}",
               f"--out={out}"]  # fmt: skip
    return Attempt(name="jmer.predict --out on a full disk", program=program, good=lambda: directory.load(run),
                   done=lambda: len(out.read_text().splitlines()), expected=19)  # fmt: skip


def going_on(subject: trainings.Subject, disk: Disk) -> Attempt:
    """Trains a run on that is whole already."""
    training = subject.training
    return Attempt(name="jmer.train that goes on", program=["-m", "jmer.train", *training.arguments],
                   good=lambda: directory.load(training.run), done=lambda: trainings.content(training.run),
                   expected=subject.expected)  # fmt: skip


def streaming(subject: trainings.Subject, disk: Disk) -> Attempt:
    """Trains a new run, whose features are streamed from a file beside it."""
    run = disk.path / "new/run"
    arguments = [f"--workdir={run}" if x.startswith("--workdir=") else x for x in subject.training.arguments]

    def epochs() -> int:
        return directory.load(run).progress.epoch

    return Attempt(name="jmer.train that begins, streamed", program=["-m", "jmer.train", *arguments],
                   good=lambda: None, done=epochs, expected=OPTIONS["epochs"])  # fmt: skip


def exporting(subject: trainings.Subject, disk: Disk, folder: Path) -> Attempt:
    """Exports a run with its program."""
    run = subject.training.run

    def program(place: Path) -> list[str | Path]:
        return ["-m", "jmer.export", "--quiet", f"--workdir={run}", f"--out={place / 'new/model'}", "--stablehlo"]

    return _compared("jmer.export", program, disk, folder, good=lambda: directory.load(run), left="new/model")


def sweeping(subject: trainings.Subject, disk: Disk, folder: Path) -> Attempt:
    """Tries two settings."""
    shared = [x for x in subject.training.arguments if not x.startswith("--workdir=")]

    def program(place: Path) -> list[str | Path]:
        search = ["--search=lr=0.01/0.1", "--trials=2", "--width=1", "--config.epochs=2"]
        return ["-m", "jmer.sweep", "--quiet", *shared, *search, f"--workdir={place / 'new/sweep'}"]

    return _compared("jmer.sweep", program, disk, folder, good=lambda: None, left="new/sweep/trials.csv")


def finetuning(disk: Disk, folder: Path) -> Attempt:
    """Fine-tunes a small encoder on the texts of the sample."""
    encoder = tiny_encoders.save_bert(folder / "encoder")

    def program(place: Path) -> list[str | Path]:
        fields = {"source": "sample", "root": commands.ROOT / "data/sample", "model": encoder, "epochs": 1, "rank": 0}
        arguments = [f"--config.{name}={value}" for name, value in fields.items()]
        config = f"--config={commands.ROOT / 'configs/finetune/text.py'}"
        return ["-m", "jmer.finetune", "--quiet", config, *arguments, f"--workdir={place / 'new/tuned'}"]

    return _compared("jmer.finetune", program, disk, folder, good=lambda: None, left="new/tuned/model")


def _compared(
    name: str, program: Callable[[Path], Sequence[str | Path]], disk: Disk, folder: Path, *, good: Any, left: str
) -> Attempt:
    """Returns an attempt that is compared with the same command where there is room.

    Args:
      program: returns the arguments of Python that make the command write below a folder.
      left: the file or folder, below that one, whose content is compared.
    """
    whole = folder / "whole"
    if commands.start(program(whole), folder, environment={}).wait():
        raise RuntimeError(commands.told(folder))

    def content(place: Path) -> dict[str, str] | str:
        made = place / left
        return made.read_text() if made.is_file() else files_of(made)

    return Attempt(name=f"{name} on a full disk", program=program(disk.path), good=good,
                   done=lambda: content(disk.path), expected=content(whole))  # fmt: skip


def extraction(folder: Path, disk: Disk, *, views: int = 0) -> Attempt:
    """Extracts the texts of the sample; cache and dataset are on the disk."""

    def program(place: Path) -> list[str | Path]:
        fields = {"source": "sample", "root": commands.ROOT / "data/sample", "audio.model": "none",
                  "video.model": "none", "out": place / "out", "cache": place / "cache", "views": views}  # fmt: skip
        arguments = [f"--config.{name}={value}" for name, value in fields.items()]
        return ["-m", "jmer.extract", "--quiet", f"--config={commands.ROOT / 'configs/extract/lite.py'}", *arguments]

    whole = folder / f"whole{views}"
    if commands.start(program(whole), folder, environment={}).wait():
        raise RuntimeError(commands.told(folder))
    return Attempt(name="jmer.extract on a disk that fills", program=program(disk.path), good=lambda: None,
                   done=lambda: files_of(disk.path / "out"), expected=files_of(whole / "out"))  # fmt: skip


def replacing(folder: Path, disk: Disk) -> Attempt:
    """Extracts with other options into the folder of a dataset, which stays until the new one is whole."""
    made = extraction(folder, disk, views=1)
    return Attempt(name="jmer.extract over a dataset on a full disk", program=made.program,
                   good=lambda: store.load(disk.path / "out"), done=made.done, expected=made.expected)  # fmt: skip


def main() -> int:
    args = parser(__doc__, count=26).parse_args()
    return show("disks that cannot be written to", rows(seed=args.seed))


if __name__ == "__main__":
    sys.exit(main())
