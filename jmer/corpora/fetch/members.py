"""Reads the members of tar and zip archives one after another, in bounded memory.

tarfile and zipfile read a header into memory however long it says it is. They read here through `_Bounded`, which ends
the reading instead.
"""

import bz2
import gzip
import lzma
import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

from jmer.corpora.fetch import disk

CHUNK = 1 << 20  # bytes

# Headers that come before one member. A name of 1 kB and the attributes that macOS keeps of a file take 4 kB. tarfile
# needs the square of the length, in time and in memory, for headers that are made for that.
_HEADERS = 16 << 10
_DIGITS = re.compile(rb"\d{100}")  # no number in a header is as long; tarfile's search for one takes the square of it
_GLOBAL = 100  # fields that hold for all members that follow; each member gets a copy of them
_DIRECTORY = 8 << 20  # bytes of zip's list of members, 160 for each of as many as may be
_PADDING = 16 << 20  # bytes behind the last member; tar programs pad to 10 kB, or to the 1 MB of some tapes

_COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_ZIP = b"PK\x03\x04"
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Oversized(Exception):
    """The archive holds headers or padding without measure."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file or folder in an archive.

    size: of the unpacked file, in bytes.
    folder: the member is a folder.
    refused: what kind of member it is, if it is neither file nor folder, such as `a link or device`; otherwise empty.
    chunks: gives the content piece by piece. It must be read before the next member is asked for.
    """

    name: str
    size: int
    folder: bool
    refused: str
    chunks: Callable[[], Iterator[bytes]]


class _Bounded:
    """A stream that gives a bounded number of bytes, and remembers the bytes that it gave last."""

    def __init__(self, stream: Any, most: int):
        self._stream, self.last = stream, b""
        self.seek, self.tell = stream.seek, stream.tell
        self.allow(most)

    def allow(self, most: int | None) -> None:
        """Sets how many bytes may be read from now on; None for any number."""
        self._most = self._left = most

    def read(self, size: int = -1) -> bytes:
        if self._most is None or self._left is None:
            return self._stream.read(size)
        # A size that is too large is refused before it takes memory. A negative one stands for all that is there.
        data = self._stream.read(self._left + 1 if size < 0 else size) if size <= self._left else None
        if data is None or len(data) > self._left:
            raise Oversized(f"headers or padding of more than {disk.in_bytes(self._most)}")
        self._left -= len(data)
        self.last = data
        return data

    def seekable(self) -> bool:
        return True


class _Headers(_Bounded):
    """The headers of a tar file."""

    def read(self, size: int = -1) -> bytes:
        data = super().read(size)
        if self._most == _HEADERS and _DIGITS.search(data):
            raise Oversized("a header with a number of more than 100 digits")
        return data


def members(raw: IO[bytes]) -> Iterator[Member]:
    """Yields the members of an archive, whose format is known by its first bytes.

    Raises:
      Oversized: see there.
      Exception: the archive is cut off, damaged or no archive; tarfile and zipfile raise errors of almost any class.
    """
    magic = raw.read(6)
    raw.seek(0)
    if magic.startswith(_ZIP):
        return _of_zip(raw)
    opener = next((opener for start, opener in _COMPRESSED.items() if magic.startswith(start)), None)
    if opener is None:
        return of_tar(raw)
    stream = opener(raw)
    if stream.peek(6).startswith(tuple(_COMPRESSED)):  # by a server, on the way
        raise tarfile.ReadError("it is compressed twice")
    return of_tar(stream)


def _of_zip(raw: IO[bytes]) -> Iterator[Member]:
    bounded = _Bounded(raw, _DIRECTORY)
    with zipfile.ZipFile(bounded) as archive:  # pyright: ignore[reportArgumentType, reportCallIssue]
        bounded.allow(None)  # from here on zipfile reads chunk by chunk
        # zipfile does not compare the number of members that it finds with the number at the end of the archive.
        raw.seek(-min(raw.seek(0, os.SEEK_END), 22 + 0xFFFF), os.SEEK_END)
        _, _, end = raw.read().rpartition(b"PK\5\6")
        if int.from_bytes(end[6:8], "little") not in (
            len(archive.infolist()),
            0xFFFF,
        ):  # 0xFFFF stands for any larger number
            raise zipfile.BadZipFile("the number of its files differs from the number it states")
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # the Unix mode; 0 if the archive was made on another system
            refused = "" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "a link or device"
            if info.compress_type not in _ZIP_METHODS:  # zipfile unpacks a megabyte of the others at once: gigabytes
                refused = "packed by a method other than deflate"
            yield Member(
                name=info.filename,
                size=info.file_size,
                folder=info.is_dir(),
                refused=refused,
                chunks=partial(_chunks, partial(archive.open, info)),
            )


def of_tar(stream: Any) -> Iterator[Member]:
    """Yields the members of a tar file. stream: the file, unpacked."""
    headers = _Headers(stream, _HEADERS)
    with tarfile.open(fileobj=headers, mode="r:") as archive:  # pyright: ignore[reportArgumentType, reportCallIssue]
        while member := archive.next():
            archive.members.clear()  # tarfile keeps them all
            if len(archive.pax_headers) > _GLOBAL:
                raise Oversized(f"more than {_GLOBAL} fields for all of its members")
            if member.size < 0:
                raise tarfile.ReadError("negative size")
            headers.allow(None)
            plain = (member.isreg() and not member.issparse()) or member.isdir()
            yield Member(
                name=member.name,
                size=member.size,
                folder=member.isdir(),
                # Of a sparse file the archive holds a map and no zeros. Programs make them on request only, and
                # tarfile needs the square of a map's length if the map is made for that.
                refused="" if plain else "a sparse file" if member.isreg() else "a link or device",
                chunks=partial(_chunks, partial(archive.extractfile, member)),
            )
            headers.allow(_HEADERS)
        # tarfile stops without an error at any block that is no header. Only a block of zeros is the real end.
        if headers.last != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"neither a file nor the end at {archive.offset}")
        headers.allow(_PADDING)
        while headers.read(CHUNK):  # gzip's checksum is at its end
            pass


def _chunks(opener: Callable[[], Any]) -> Iterator[bytes]:
    """Yields the content of the file that `opener` opens."""
    with opener() as stream:
        while chunk := stream.read(CHUNK):
            yield chunk
