"""Archives unpacked with those within them; cut off at any moment, it goes on when called again.

Nothing of an archive is trusted: names that lead out of the folder, links and devices are refused, every file's size is
held against the free disk before it is written, and damage anywhere is an error, never a file less.
"""

import bz2
import filecmp
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, TypeVar

from jmer.base import files
from jmer.base.errors import UserError
from jmer.corpora.fetch import disk

SUFFIXES = (".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz", ".zip")

_CHUNK = 1 << 20  # bytes
_DEPTH = 3  # archives within archives within the archive; an archive can hold itself
_COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_WORK = ".partial"  # ends the names of folders that are not whole
_ZIP = b"PK\x03\x04"
_Item = TypeVar("_Item")


class Damaged(UserError):
    """An archive that is not whole, or none."""


def unpack(archive: Path, tree: Path, *, keep: bool = False) -> None:
    """Unpacks an archive, and the archives within it where they lie, to the new folder `tree`.

    `tree` + `.unpacked.json` says which are done. If an earlier call was cut off, those are not unpacked again; if it
    was for another archive, `tree` is emptied first. macOS' leftovers (`._*`, `.DS_Store`) are left out.

    Args:
      keep: whether to leave the inner archives; else each is deleted when it is unpacked.

    Raises:
      Damaged: it, or one within it, is cut off, damaged or no tar or zip archive.
      UserError: it holds what could do harm, or the disk is full.
    """
    if not archive.is_file():
        raise UserError(f"{archive}: there is no such file; give the path of a tar or zip archive")
    if not _marked(tree, archive):
        with disk.writing(tree):
            if tree.exists():
                print(f"{tree} is left of an unpacking that was of another archive, or had not got far; starting over")
                shutil.rmtree(tree)
            _marks(tree).unlink(missing_ok=True)
        _unpack_one(archive, tree, tree)
    unpack_inner(tree, keep=keep)


def unpack_inner(tree: Path, *, keep: bool) -> None:
    """Unpacks the archives that lie in a folder, beside themselves.

    Raises:
      UserError: as `unpack`, or what is unpacked is there already and differs.
    """
    for _ in range(_DEPTH):
        inner = [
            path
            for path in sorted(tree.rglob("*"))
            if path.name.endswith(SUFFIXES)
            and path.is_file()
            and not any(name.endswith(_WORK) for name in path.relative_to(tree).parts)
        ]
        for archive in inner:
            if not _marked(tree, archive):
                _unpack_one(archive, archive.parent, tree)
            if not keep:
                archive.unlink()


def install(tree: Path, out: Path) -> None:
    """Moves `tree` to `out`; where that exists, into it, if it holds nothing else under the same names.

    Raises:
      UserError: something in `out` differs from what should come there. Nothing was moved.
    """
    with disk.writing(out):
        if not out.exists():
            tree.rename(out)
            return
        for path in sorted(tree.rglob("*")):
            there = out / path.relative_to(tree)
            same = there.is_dir() if path.is_dir() else there.is_file() and filecmp.cmp(path, there, shallow=False)
            if os.path.lexists(there) and not same:
                raise UserError(
                    f"{there} is there already and differs from the archive's; move {out} away and run the same "
                    "command again: what is fetched and unpacked is kept"
                )
        _merge(tree, out)


def finish(tree: Path) -> None:
    """Removes what is left of `tree` and the note of what was unpacked to it."""
    with disk.writing(tree):
        _marks(tree).unlink(missing_ok=True)
        if tree.exists():
            shutil.rmtree(tree)


def _merge(tree: Path, out: Path) -> None:
    for path in list(tree.iterdir()):
        there = out / path.name
        if not there.exists():
            path.rename(there)
        elif path.is_dir():
            _merge(path, there)
        else:
            path.unlink()
    tree.rmdir()


def _unpack_one(archive: Path, into: Path, tree: Path) -> None:
    """Unpacks one archive to a folder in `into`, then moves what is in that to `into` and takes note in `tree`'s."""
    work = into / f".{archive.name}{_WORK}"
    with disk.writing(into):
        if work.exists():
            shutil.rmtree(work)
        work.mkdir(parents=True)
    # At least as much as the archive holds; how much more is only seen file by file.
    disk.need(archive.stat().st_size, work, f"unpacking {archive}")
    skipped = 0
    with archive.open("rb") as raw, disk.bar(archive.stat().st_size, f"unpacking {archive.name}") as bar:
        for entry in _reading(archive, _entries(raw)):
            parts = _parts(archive, entry)
            if any(part.startswith("._") or part in (".DS_Store", "__MACOSX") for part in parts):
                skipped += 1
                continue
            path = work.joinpath(*parts)
            if not entry.folder:
                disk.need(entry.size, work, f"unpacking {archive}, at {entry.name},")
            with disk.writing(path):
                if entry.folder:
                    path.mkdir(parents=True, exist_ok=True)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as file:  # of two entries of one name the later counts, as it does for tar
                    for chunk in _reading(archive, entry.chunks()):
                        file.write(chunk)
                        bar.update(raw.tell() - bar.n)
        bar.update(bar.total - bar.n)
    if skipped:
        print(f"{archive.name}: {skipped} leftovers of macOS left out")
    install(work, into)
    with disk.writing(tree):
        files.save_json(_marks(tree), disk.load(_marks(tree)) | {_mark(tree, archive): _identity(archive)})


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A file or folder in an archive; `refused` says why it may be neither. `chunks` must be read before the next."""

    name: str
    size: int
    folder: bool
    refused: str
    chunks: Callable[[], Iterator[bytes]]


def _entries(raw: IO[bytes]) -> Iterator[_Entry]:
    magic = raw.read(6)
    raw.seek(0)
    if magic.startswith(_ZIP):
        return _zip_entries(raw)
    opener = next((opener for start, opener in _COMPRESSED.items() if magic.startswith(start)), None)
    return _tar_entries(opener(raw) if opener else raw)


def _zip_entries(raw: IO[bytes]) -> Iterator[_Entry]:
    with zipfile.ZipFile(raw) as archive:
        # zipfile does not hold what it found against how many files there should be, which the archive's end tells.
        raw.seek(-min(raw.seek(0, os.SEEK_END), 22 + 0xFFFF), os.SEEK_END)
        _, _, end = raw.read().rpartition(b"PK\5\6")
        if int.from_bytes(end[6:8], "little") not in (len(archive.infolist()), 0xFFFF):  # the latter: too many to tell
            raise zipfile.BadZipFile("there should be another number of files in it")
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # of Unix, where the archive was made there
            yield _Entry(
                name=info.filename,
                size=info.file_size,
                folder=info.is_dir(),
                refused="" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "a link or device",
                chunks=partial(_chunks, partial(archive.open, info)),
            )


def _tar_entries(stream: Any) -> Iterator[_Entry]:
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        for member in archive:
            if member.size < 0:
                raise tarfile.ReadError("negative size")
            yield _Entry(
                name=member.name,
                size=member.size,
                folder=member.isdir(),
                refused="" if member.isreg() or member.isdir() else "a link or device",
                chunks=partial(_chunks, partial(archive.extractfile, member)),
            )
        # tarfile ends in silence at whatever is no header; only a block of zeros is the end.
        stream.seek(archive.offset)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"neither a file nor the end at {archive.offset}")
        while stream.read(_CHUNK):  # gzip's checksum is at its end
            pass


def _chunks(opener: Callable[[], Any]) -> Iterator[bytes]:
    with opener() as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _reading(archive: Path, items: Iterable[_Item]) -> Iterator[_Item]:
    """Yields `items`, and says of which archive it is that they cannot be read."""
    try:
        yield from items
    except Exception as error:  # tarfile and zipfile let about any error out, an IndexError too
        raise Damaged(f"{archive}: is cut off, damaged or no tar or zip archive ({error})") from error


def _parts(archive: Path, entry: _Entry) -> tuple[str, ...]:
    """The folders and the name of an entry. Stricter than tarfile's data filter, which early 3.11 and zip lack.

    Raises:
      UserError: it is a link or device, or leads out of the folder that the archive is unpacked to.
    """
    parts = PurePosixPath(entry.name.replace("\\", "/")).parts
    outside = ".." in parts or "\0" in entry.name or PureWindowsPath(entry.name).anchor
    if why := entry.refused or ("outside of its folder" if outside else ""):
        raise UserError(
            f"{archive}: holds {entry.name!a}, which is {why}, so nothing of it is used; give an archive of plain "
            "files and folders, or unpack it yourself if you trust it"
        )
    return parts


def _marks(tree: Path) -> Path:
    return tree.with_name(f"{tree.name}.unpacked.json")


def _mark(tree: Path, archive: Path) -> str:
    inside = archive.is_relative_to(tree)
    return str(archive.relative_to(tree) if inside else archive.resolve())


def _marked(tree: Path, archive: Path) -> bool:
    return tree.is_dir() and disk.load(_marks(tree)).get(_mark(tree, archive)) == _identity(archive)


def _identity(archive: Path) -> list[int]:
    """Changes with the archive, and costs nothing."""
    status = archive.stat()
    return [status.st_size, status.st_mtime_ns]
