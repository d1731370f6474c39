"""Unpacks archives, and the archives within them. A call that was cut off goes on when it is repeated.

Archives are not trusted. Names that lead out of the folder, links and devices are refused. Before a file is written,
its size is compared with the free space. Damage anywhere raises an error, so that no file is missing unnoticed.
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
_DEPTH = 3  # levels of archives within archives; an archive can contain itself
_COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_WORK = ".partial"  # the suffix of folders that are still incomplete
_ZIP = b"PK\x03\x04"
_Item = TypeVar("_Item")


class Damaged(UserError):
    """The archive is incomplete, or the file is no archive."""


def unpack(archive: Path, tree: Path, *, keep: bool = False) -> None:
    """Unpacks an archive to the new folder `tree`, and each archive within it to the folder that it lies in.

    `tree` + `.unpacked.json` records the archives that are done. If an earlier call was cut off, these are not unpacked
    again. If the earlier call was for another archive, `tree` is emptied first. Files that macOS adds to archives
    (`._*`, `.DS_Store`) are left out.

    Args:
      archive: a tar file, compressed or not, or a zip file.
      keep: leave the inner archives where they are, instead of deleting each once it is unpacked.

    Raises:
      Damaged: the archive, or one within it, is cut off, damaged or no tar or zip archive.
      UserError: there is no such file, the archive holds an entry that could do harm, or the disk is full.
    """
    if not archive.is_file():
        raise UserError(f"{archive}: there is no such file; give the path of a tar or zip archive")
    if not _marked(tree, archive):
        with disk.writing(tree):
            if tree.exists():
                print(f"{tree} was left by another archive, or by a call that was cut off early; starting over")
                shutil.rmtree(tree)
            _marks(tree).unlink(missing_ok=True)
        _unpack_one(archive, tree, tree)
    unpack_inner(tree, keep=keep)


def unpack_inner(tree: Path, *, keep: bool) -> None:
    """Unpacks every archive in a folder and its subfolders to the folder that the archive lies in.

    keep: see `unpack`.

    Raises:
      UserError: as `unpack`, or a file would replace another one that differs.
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
    """Moves `tree` to `out`. If `out` exists, the files are moved into it.

    Raises:
      UserError: a file in `out` has the name of one in `tree` and differs from it. Nothing was moved.
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
                    "command again, which will not fetch or unpack a second time"
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


def _unpack_one(archive: Path, into: Path, tree: Path) -> None:
    """Unpacks one archive to a work folder in `into`, moves its content to `into`, and adds to the record of `tree`."""
    work = into / f".{archive.name}{_WORK}"
    with disk.writing(into):
        if work.exists():
            shutil.rmtree(work)
        work.mkdir(parents=True)
    # The content takes at least the space of the archive. How much more it takes shows file by file.
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
                with path.open(
                    "wb"
                ) as file:  # of two entries with one name the later replaces the earlier, as tar does it
                    for chunk in _reading(archive, entry.chunks()):
                        file.write(chunk)
                        bar.update(raw.tell() - bar.n)
        bar.update(bar.total - bar.n)
    if skipped:
        print(f"{archive.name}: {skipped} files that macOS had added were left out")
    install(work, into)
    with disk.writing(tree):
        files.save_json(_marks(tree), disk.load(_marks(tree)) | {_mark(tree, archive): _identity(archive)})


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A file or folder in an archive.

    size: of the unpacked file, in bytes.
    folder: the entry is a folder.
    refused: the kind of an entry that is neither file nor folder, such as `a link or device`; otherwise empty.
    chunks: gives the content piece by piece. It must be read before the next entry is asked for.
    """

    name: str
    size: int
    folder: bool
    refused: str
    chunks: Callable[[], Iterator[bytes]]


def _entries(raw: IO[bytes]) -> Iterator[_Entry]:
    """Yields the entries of an archive, whose format is known by its first bytes."""
    magic = raw.read(6)
    raw.seek(0)
    if magic.startswith(_ZIP):
        return _zip_entries(raw)
    opener = next((opener for start, opener in _COMPRESSED.items() if magic.startswith(start)), None)
    return _tar_entries(opener(raw) if opener else raw)


def _zip_entries(raw: IO[bytes]) -> Iterator[_Entry]:
    with zipfile.ZipFile(raw) as archive:
        # zipfile does not compare the number of entries that it finds with the number at the end of the archive.
        raw.seek(-min(raw.seek(0, os.SEEK_END), 22 + 0xFFFF), os.SEEK_END)
        _, _, end = raw.read().rpartition(b"PK\5\6")
        if int.from_bytes(end[6:8], "little") not in (
            len(archive.infolist()),
            0xFFFF,
        ):  # 0xFFFF stands for any larger number
            raise zipfile.BadZipFile("the number of its files differs from the number it states")
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # the Unix mode; 0 if the archive was made on another system
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
        # tarfile stops without an error at any block that is no header. Only a block of zeros is the real end.
        stream.seek(archive.offset)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"neither a file nor the end at {archive.offset}")
        while stream.read(_CHUNK):  # gzip's checksum is at its end
            pass


def _chunks(opener: Callable[[], Any]) -> Iterator[bytes]:
    """Yields the content of the file that `opener` opens."""
    with opener() as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _reading(archive: Path, items: Iterable[_Item]) -> Iterator[_Item]:
    """Yields `items`, which are read from `archive`. An error of the reading is raised as Damaged."""
    try:
        yield from items
    except Exception as error:  # on damage tarfile and zipfile raise errors of almost any class, IndexError too
        raise Damaged(f"{archive}: is cut off, damaged or no tar or zip archive ({error})") from error


def _parts(archive: Path, entry: _Entry) -> tuple[str, ...]:
    """Splits an entry's path into folders and name.

    The check is stricter than tarfile's data filter, which early versions of Python 3.11 lack, and zip files always.

    Raises:
      UserError: the entry is a link or device, or its path leads out of the folder that is unpacked to.
    """
    parts = PurePosixPath(entry.name.replace("\\", "/")).parts
    outside = ".." in parts or "\0" in entry.name or PureWindowsPath(entry.name).anchor
    if why := entry.refused or ("outside of its folder" if outside else ""):
        raise UserError(
            f"{archive}: holds {entry.name!a}, which is {why}, so nothing of the archive is used; give an archive of "
            "plain files and folders, or unpack it yourself if you trust it"
        )
    return parts


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
