"""Unpacks archives, and the archives within them. A call that was cut off goes on when it is repeated.

Archives are not trusted. `guard` refuses names that lead out of the folder and archives without measure, and links and
devices are refused too. Before a file is written, its size is compared with the free space. Damage anywhere raises an
error, so that no file is missing unnoticed. What a call has written of an archive that is refused, the call removes.
"""

import filecmp
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from jmer.base import files
from jmer.base.errors import UserError
from jmer.corpora.fetch import disk, guard, members
from jmer.corpora.fetch.guard import Refused

_log = logging.getLogger(__name__)

SUFFIXES = (".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz", ".zip")

_DEPTH = 3  # levels of archives within archives; an archive can contain itself


class Damaged(UserError):
    """The archive is incomplete, or the file is no archive."""


class _Clash(UserError):
    """A file in the folder has the name of a file that is to be moved there, and differs from it."""

    def __init__(self, message: str, path: Path):
        super().__init__(message)
        self.path = path


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One call.

    tree: the folder of the outermost archive.
    outer: the outermost archive; None if the user unpacked it.
    budget: what the archives of the call may unpack to.
    """

    tree: Path
    outer: Path | None
    budget: guard.Budget

    def title(self, archive: Path) -> str:
        """Returns how messages call an archive: by its place in the outermost one, as `tree` may be gone by then."""
        within = self.outer and archive != self.outer
        return f"{self.outer}/{archive.relative_to(self.tree)}" if within else str(archive)


def check(archive: Path) -> None:
    """Reads the first member of an archive.

    Raises:
      Damaged: the file does not begin as a tar or zip archive does.
      Refused: see `unpack`.
    """
    with archive.open("rb") as raw:
        next(_members(str(archive), raw), None)


def unpack(archive: Path, tree: Path, *, keep: bool = False) -> None:
    """Unpacks an archive to the new folder `tree`, and each archive within it to the folder that it lies in.

    `tree` + `.unpacked.json` records the archives that are done. If an earlier call was cut off, these are not unpacked
    again. If the earlier call was for another archive, `tree` is emptied first. Files that macOS adds to archives
    (`._*`, `.DS_Store`) are left out. Of two files with one name the later replaces the earlier, as tar does it.

    Args:
      archive: a tar file, compressed or not, or a zip file.
      keep: leave the inner archives where they are, instead of deleting each once it is unpacked.

    Raises:
      Damaged: the archive, or one within it, is cut off, damaged or no tar or zip archive. What the call unpacked is
        removed.
      Refused: the archive, or one within it, holds a member that could do harm, or exceeds a cap of `guard`. What the
        call unpacked is removed.
      UserError: there is no such file.
      StorageError: the disk is full, or may not be written to.
    """
    if not archive.is_file():
        raise UserError(f"{archive}: there is no such file; give the path of a tar or zip archive")
    job = _Job(tree=tree, outer=archive, budget=guard.Budget(packed=archive.stat().st_size))
    begun = _marked(tree, archive)
    if not begun:
        check(archive)  # before anything is removed for it
        with disk.writing(tree):
            if tree.exists():
                _log.info(f"{tree} was left by another archive, or by a call that was cut off early; starting over")
                shutil.rmtree(tree)
            _marks(tree).unlink(missing_ok=True)
    try:
        if not begun:
            _unpack_one(archive, tree, job)
        _unpack_within(job, keep=keep)
    except UserError as error:
        # What another call unpacked stays, as the user may have added to it; so does what this call can go on with.
        bad = isinstance(error, Damaged | Refused) and not begun
        if bad or not _marked(tree, archive):
            finish(tree)
        raise


def unpack_inner(tree: Path, *, keep: bool) -> None:
    """Unpacks every archive in a folder and its subfolders to the folder that the archive lies in.

    keep: see `unpack`.

    Raises:
      UserError: as `unpack`, or a file would replace another one that differs.
    """
    packed = sum(archive.stat().st_size for archive in _archives_in(tree))
    _unpack_within(_Job(tree=tree, outer=None, budget=guard.Budget(packed=packed)), keep=keep)


def install(tree: Path, out: Path) -> None:
    """Moves `tree` to `out`. If `out` exists, the files are moved into it.

    Raises:
      UserError: a file in `out` has the name of one in `tree` and differs from it. Nothing was moved.
    """
    with disk.writing(out):
        if not out.exists():
            tree.rename(out)
            return
        for path in tree.rglob("*"):
            there = out / path.relative_to(tree)
            same = there.is_dir() if path.is_dir() else there.is_file() and filecmp.cmp(path, there, shallow=False)
            if os.path.lexists(there) and not same:
                raise _Clash(
                    f"{there} is there already and differs from the archive's; move {out} away and run the same "
                    "command again, which will not fetch or unpack a second time",
                    there,
                )
        _merge(tree, out)


def finish(tree: Path) -> None:
    """Removes `tree`, which may be gone already, and the record of the archives that were unpacked to it."""
    with disk.writing(tree):
        _marks(tree).unlink(missing_ok=True)
        if tree.exists():
            shutil.rmtree(tree)


def _merge(tree: Path, out: Path) -> None:
    """Moves what is in `tree` into `out`, where files of the same name are equal, and removes `tree`."""
    for path in list(tree.iterdir()):
        there = out / path.name
        if not there.exists():
            path.rename(there)
        elif path.is_dir():
            _merge(path, there)
        else:
            path.unlink()
    tree.rmdir()


def _archives_in(tree: Path) -> list[Path]:
    found = (path for path in tree.rglob("*") if path.name.endswith(SUFFIXES) and path.is_file())
    return sorted(path for path in found if not any(name.endswith(guard.WORK) for name in path.relative_to(tree).parts))


def _unpack_within(job: _Job, *, keep: bool) -> None:
    """Unpacks the archives in the folder of a job."""
    for _ in range(_DEPTH):
        for archive in _archives_in(job.tree):
            if not _marked(job.tree, archive):
                _unpack_one(archive, archive.parent, job)
            if not keep:
                archive.unlink()


def _unpack_one(archive: Path, into: Path, job: _Job) -> None:
    """Unpacks one archive to a work folder in `into`, moves its content to `into`, and records that it is done."""
    work = into / f".{archive.name}{guard.WORK}"
    with disk.writing(into):
        if work.exists():
            shutil.rmtree(work)
        work.mkdir(parents=True)
    try:
        # The content takes at least the space of the archive. How much more it takes shows file by file.
        disk.need(archive.stat().st_size, work, f"unpacking {archive}")
        names = guard.Names(job.title(archive), PurePosixPath(into.relative_to(job.tree)), job.budget)
        with archive.open("rb") as raw, disk.bar(archive.stat().st_size, f"unpacking {archive.name}") as bar:
            skipped = _write(archive, raw, work, job, names, bar)
        try:
            install(work, into)
        except _Clash as clash:
            if job.outer is None:
                raise
            what = f"{guard.shown(clash.path.name)}, which differs from a file of that name in {job.outer}"
            raise guard.refusal(job.title(archive), what) from clash
    except UserError:
        shutil.rmtree(work, ignore_errors=True)
        raise
    if skipped:
        _log.info(f"{archive.name}: {skipped} files that macOS had added were left out")
    if names.repeated:
        _log.info(
            f"{archive.name}: {len(names.repeated)} files replace an earlier one of the same name, the first of them "
            f"{guard.shown(names.repeated[0])}"
        )
    with disk.writing(job.tree):
        record = disk.load(_marks(job.tree)) | {_mark(job.tree, archive): _identity(archive)}
        files.save_json(_marks(job.tree), record)


def _write(archive: Path, raw: IO[bytes], work: Path, job: _Job, names: guard.Names, bar: tqdm) -> int:
    """Writes the members of an archive to `work`. Returns how many files of macOS were left out."""
    title, skipped = job.title(archive), 0
    for member in _members(title, raw):
        if member.refused:
            raise guard.refusal(title, f"{guard.shown(member.name)}, which is {member.refused}")
        job.budget.take(title, member.name, size=member.size)
        place = names.path(member.name, folder=member.folder)
        if place is None:
            skipped += 1
            continue
        path = work / place
        if not member.folder:
            disk.need(member.size, work, f"unpacking {title}, at {guard.shown(member.name)},")
        with disk.writing(path):
            (path if member.folder else path.parent).mkdir(parents=True, exist_ok=True)
            if member.folder:
                continue
            with path.open("wb") as file:
                for chunk in _chunks(title, member):
                    file.write(chunk)
                    bar.update(raw.tell() - bar.n)
    bar.update(bar.total - bar.n)
    return skipped


def _members(title: str, raw: IO[bytes]) -> Iterator[members.Member]:
    """Yields the members of an archive. Raises what `_failure` makes of an error."""
    place = "at its beginning"
    try:
        for member in members.members(raw):
            place = f"after {guard.shown(member.name)}"
            yield member
    except Exception as error:  # on damage tarfile and zipfile raise errors of almost any class, IndexError too
        raise _failure(title, place, error) from error


def _chunks(title: str, member: members.Member) -> Iterator[bytes]:
    """Yields the content of a member. Raises what `_failure` makes of an error."""
    try:
        yield from member.chunks()
    except Exception as error:
        raise _failure(title, f"in {guard.shown(member.name)}", error) from error


def _failure(title: str, place: str, error: Exception) -> UserError:
    """Returns the error to raise for one that came up while an archive was read."""
    if isinstance(error, members.Oversized):
        return guard.refusal(title, f"{error} {place}")
    return Damaged(f"{title}: is cut off, damaged or no tar or zip archive ({place}: {error})")


def _marks(tree: Path) -> Path:
    """Returns the file that records which archives have been unpacked to `tree`."""
    return tree.with_name(f"{tree.name}.unpacked.json")


def _mark(tree: Path, archive: Path) -> str:
    """Returns the archive's name in the record: relative to `tree` if it lies there, otherwise absolute."""
    inside = archive.is_relative_to(tree)
    return str(archive.relative_to(tree) if inside else archive.resolve())


def _marked(tree: Path, archive: Path) -> bool:
    return tree.is_dir() and disk.load(_marks(tree)).get(_mark(tree, archive)) == _identity(archive)


def _identity(archive: Path) -> list[int]:
    """Returns size and time of change, which tell an archive from another one without reading it."""
    status = archive.stat()
    return [status.st_size, status.st_mtime_ns]
