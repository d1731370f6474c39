"""The hostile and damaged archives of `archives.py`, one function each."""

import bz2
import contextlib
import gzip
import io
import random
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from unittest import mock

from jmer.corpora.fetch import guard, members
from tests.meld_archive import tar_bytes

SECONDS, MEMORY = 120, 150  # MiB; importing takes 45


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large the archives are.

    members: of an archive that has too many.
    honest: members of an archive that is as large as MELD.
    bomb: bytes that a few kilobytes unpack to.
    free: bytes that any archive may unpack to.
    header: bytes of a header that is too long.
    """

    members: int
    honest: int
    bomb: int
    free: int
    header: int


FULL = Sizes(members=100_000, honest=14_000, bomb=2 << 30, free=guard.FREE_BYTES, header=256 << 20)
SMALL = Sizes(members=150, honest=60, bomb=5 << 20, free=1 << 20, header=1 << 20)


@contextlib.contextmanager
def small_caps() -> Iterator[None]:
    """Lowers the caps to what suits `SMALL`."""
    with (
        mock.patch.multiple(guard, FREE_BYTES=SMALL.free, MOST_MEMBERS=100, MOST_FOLDERS=70),
        mock.patch.object(members, "_PADDING", 2 << 20),
    ):
        yield


@dataclass(frozen=True, kw_only=True)
class Case:
    """One archive.

    write: writes the archive. Returns the files that it should unpack to, or None if it should be refused.
    says: a pattern of the refusal.
    inner: the case may also be tried within another archive; those that are about nesting may not.
    """

    name: str
    write: Callable[[Path, Sizes], Mapping[str, bytes] | None]
    says: str = ""
    suffix: str = ".tar.gz"
    inner: bool = True


CASES: list[Case] = []


def case(name: str, *, says: str = "", suffix: str = ".tar.gz", inner: bool = True):
    """Adds the case that the decorated function writes."""

    def add(write: Callable[[Path, Sizes], Mapping[str, bytes] | None]):
        CASES.append(Case(name=name, write=write, says=says, suffix=suffix, inner=inner))
        return write

    return add


def data_case(name: str, data: bytes, *, says: str, suffix: str = ".tar.gz", inner: bool = True) -> None:
    """Adds an archive of the given bytes, which is refused."""

    @case(name, says=says, suffix=suffix, inner=inner)
    def write(file: Path, _: Sizes) -> None:
        file.write_bytes(data)


# ---- names, links and devices ----------------------------------------------------------------------------------------


def member(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", path: str = "", mode: int = 0o644):
    """Returns a member of a tar file. path: its name in a pax header, which overrules `name`."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    if path:
        info.pax_headers = {"path": path}
    return info


def write_tar(file: Path, *infos: tarfile.TarInfo, form: int = tarfile.PAX_FORMAT) -> None:
    """Writes a tar file with a good file and then the members given, each of which holds its own number."""
    with tarfile.open(file, "w:gz", format=form) as tar:
        for i, info in enumerate((member("good"), *infos)):
            info.size = 1 if info.isreg() else 0
            tar.addfile(info, io.BytesIO(str(i).encode()))


def members_case(name: str, *infos: tarfile.TarInfo, says: str, form: int = tarfile.PAX_FORMAT) -> None:
    """Adds a case that is refused for one of its members."""

    @case(name, says=says)
    def write(file: Path, _: Sizes) -> None:
        write_tar(file, *infos, form=form)


OUTSIDE = "which is outside of its folder"
LINK = "which is a link or device"
members_case("a name with ..", member("../evil"), says=rf"holds '\.\./evil', {OUTSIDE}")
members_case("a name with .. within", member("a/../../evil"), says=rf"holds 'a/\.\./\.\./evil', {OUTSIDE}")
members_case("a name with .. at its end", member("folder/..", tarfile.DIRTYPE), says=rf"'folder/\.\.', {OUTSIDE}")
members_case("a name with .. and backslash", member("..\\evil"), says=OUTSIDE)
members_case("a Windows drive", member("C:/evil"), says=f"'C:/evil', {OUTSIDE}")
members_case("a Windows drive without root", member("C:evil"), says=f"'C:evil', {OUTSIDE}")
members_case("a Windows share", member("\\\\server\\share\\evil"), says=OUTSIDE)


@case("an absolute name", says=f"evil', {OUTSIDE}")
def _absolute(file: Path, _: Sizes) -> None:
    write_tar(file, member("evil", path=f"{file.parent.parent}/evil"))


SYMLINK, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE
members_case("a symbolic link out", member("l", SYMLINK, link="../.."), member("l/evil"), says=f"'l', {LINK}")
members_case("an absolute symbolic link", member("l", SYMLINK, link="/etc"), says=f"'l', {LINK}")
members_case("a symbolic link within", member("l", SYMLINK, link="good"), says=f"'l', {LINK}")
members_case("a symbolic link named as a later file", member("l", SYMLINK, link="../../secret"), member("l"), says=LINK)
members_case("a hard link out", member("l", HARD, link="../../secret"), member("l"), says=f"'l', {LINK}")
members_case("an absolute hard link", member("l", HARD, link="/etc/passwd"), says=f"'l', {LINK}")
members_case("a hard link to a later file", member("l", HARD, link="later"), member("later"), says=f"'l', {LINK}")
members_case("a character device", member("null", tarfile.CHRTYPE), says=f"'null', {LINK}")
members_case("a block device", member("sda", tarfile.BLKTYPE), says=f"'sda', {LINK}")
members_case("a pipe", member("pipe", tarfile.FIFOTYPE), says=f"'pipe', {LINK}")

UNREADABLE = "whose name holds control characters or bytes that are no UTF-8"
members_case("NUL in a name", member("x", path="evil\0.mp4"), says=rf"'evil\\x00\.mp4', {UNREADABLE}")
members_case("a newline and colours in a name", member("a\n\x1b[31mb"), says=rf"'a\\n\\x1b\[31mb', {UNREADABLE}")
members_case("a name that is no UTF-8", member("caf\udce9.mp4"), says=UNREADABLE, form=tarfile.GNU_FORMAT)
members_case("a name of 300 bytes", member("n" * 300), says=r"'nnnn.*, whose name is too long")
members_case("a path of 2,000 bytes", member("/".join(["n" * 199] * 10)), says="whose name is too long")
members_case("a path of 100 folders", member("d/" * 100 + "f"), says="more than 64 folders deep")
members_case("a file without a name", member("./"), says="which has no name")
members_case("a name that jmer keeps", member(".x.tar.gz.partial/evil"), says="whose name jmer keeps for itself")

members_case("upper and lower case", member("A/b"), member("a/B"), says="'a/B', which clashes with 'A'")
members_case("a file where a folder is", member("a/b"), member("a"), says="'a', although 'a' is a folder already")
members_case("a folder where a file is", member("a"), member("a/b"), says="'a/b', although 'a' is a file already")


@case("two files of one name")
def _twice(file: Path, _: Sizes) -> Mapping[str, bytes]:
    write_tar(file, member("a"), member("a"))
    return {"good": b"0", "a": b"2"}  # as tar does it


@case("setuid and executable files")
def _modes(file: Path, _: Sizes) -> Mapping[str, bytes]:
    write_tar(file, member("run", mode=0o6777))
    return {"good": b"0", "run": b"1"}


WITHIN = r"x\.tar\.gz/in\.tar\.gz"
REPLACING = tar_bytes({"a": b"1", "in.tar.gz": tar_bytes({"a": b"2"})})
data_case("a file within that replaces another", REPLACING, says=f"{WITHIN}: holds 'a', which differs", inner=False)


# ---- bombs -----------------------------------------------------------------------------------------------------------

TOO_MANY_BYTES = "and therefore to more than the .* that jmer allows"


def zeros(stream: IO[bytes] | gzip.GzipFile, count: int) -> None:
    """Writes zeros to a stream, chunk by chunk."""
    for begin in range(0, count, 1 << 20):
        stream.write(bytes(min(1 << 20, count - begin)))


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = member(name, kind)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def packed_zeros(count: int) -> bytes:
    """Returns a tar file, packed, with a file of zeros."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as stream:
        stream.write(header("zeros", count))
        zeros(stream, count + -count % 512)
        stream.write(bytes(1024))
    return buffer.getvalue()


@case("a gzip bomb", says=f"'zeros', .*{TOO_MANY_BYTES}")
def _bomb(file: Path, sizes: Sizes) -> None:
    file.write_bytes(packed_zeros(sizes.bomb))


@case("a gzip bomb of a file that is left out", says=rf"'\._zeros', .*{TOO_MANY_BYTES}")
def _skipped_bomb(file: Path, sizes: Sizes) -> None:
    with gzip.open(file, "wb", compresslevel=1) as stream:
        stream.write(header("._zeros", sizes.bomb))
        zeros(stream, sizes.bomb)
        stream.write(bytes(1024))


@case("a gzip bomb behind the last member", says="headers or padding of more than .* after 'a'")
def _bomb_behind(file: Path, sizes: Sizes) -> None:
    with gzip.open(file, "wb", compresslevel=1) as stream:
        stream.write(header("a", 0))
        zeros(stream, sizes.bomb)


@case("a sparse file", says="'sparse', which is a sparse file")
def _sparse(file: Path, sizes: Sizes) -> None:
    block = bytearray(header("sparse", 0, tarfile.GNUTYPE_SPARSE))
    block[386:398] = block[398:410] = b"%011o\0" % 0  # one piece: at 0, of no bytes
    block[483:495] = b"%011o\0" % (3 << 30)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    file.write_bytes(gzip.compress(bytes(block) + bytes(1024)))


@case("archives within, each below the caps", says=rf"/b/\d\.tar\.gz: holds 'zeros', .*{TOO_MANY_BYTES}", inner=False)
def _bombs_within(file: Path, sizes: Sizes) -> None:
    inner = packed_zeros(sizes.free // 4)
    file.write_bytes(tar_bytes({f"b/{i}.tar.gz": inner for i in range(8)}))


@case("ten archives, each within the other", inner=False)
def _nested(file: Path, _: Sizes) -> Mapping[str, bytes]:
    data = levels = [tar_bytes({"bottom": b"x"})]
    for i in range(9, 0, -1):
        levels.append(tar_bytes({f"{i}.tar.gz": data[-1]}))
    file.write_bytes(levels[-1])
    return {"4.tar.gz": levels[5]}  # three levels are unpacked


@case("100,000 members", says=r"holds '\d+' and more than [\d,]+ files and folders in all")
def _many(file: Path, sizes: Sizes) -> None:
    with gzip.open(file, "wb", compresslevel=1) as stream:
        for i in range(sizes.members):
            stream.write(header(str(i), 0))
        stream.write(bytes(1024))


@case("one file 100,000 times", says=r"holds 'a' and more than [\d,]+ files and folders in all")
def _often(file: Path, sizes: Sizes) -> None:
    with gzip.open(file, "wb", compresslevel=1) as stream:
        stream.write(header("a", 0) * sizes.members + bytes(1024))


@case("100,000 folders that few members imply", says=r"and more than [\d,]+ folders in all")
def _folders(file: Path, sizes: Sizes) -> None:
    with tarfile.open(file, "w:gz", compresslevel=1) as tar:
        for i in range(sizes.members // 50):
            tar.addfile(member(f"{i}/" + "d/" * 50))


@case("a zip bomb of one file listed many times", says=f"{TOO_MANY_BYTES}|Overlapped", suffix=".zip")
def _zip_bomb(file: Path, sizes: Sizes) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed, packed.open("zeros", "w") as stream:
        zeros(stream, sizes.free // 4)
    data = buffer.getvalue()
    begin, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    count = 100
    entries = data[begin:end] * count
    number = count.to_bytes(2, "little")
    tail = data[end : end + 8] + number + number + len(entries).to_bytes(4, "little") + data[end + 16 :]
    file.write_bytes(data[:begin] + entries + tail)


@case("a zip bomb in bzip2", says="'zeros', which is packed by a method other than deflate", suffix=".zip")
def _zip_bzip2(file: Path, sizes: Sizes) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_BZIP2) as packed, packed.open("zeros", "w") as stream:
        zeros(stream, sizes.header)


@case("a zip file with a list of 256 MiB", says="headers or padding of more than .* at its beginning", suffix=".zip")
def _zip_list(file: Path, sizes: Sizes) -> None:
    size = max(sizes.header, 10 << 20)
    end = b"PK\5\6" + bytes(4) + b"\1\0\1\0" + size.to_bytes(4, "little") + (4).to_bytes(4, "little") + bytes(2)
    with file.open("wb") as stream:
        stream.write(b"PK\3\4")
        stream.seek(size, io.SEEK_CUR)  # a hole
        stream.write(end)


# ---- headers ---------------------------------------------------------------------------------------------------------

TOO_LONG = "headers or padding of more than .* after 'good'"


def write_headers(file: Path, *pieces: bytes | int) -> None:
    """Writes a tar file of a good file and pieces, where a number stands for as many bytes of padding."""
    with gzip.open(file, "wb", compresslevel=1) as stream:
        stream.write(header("good", 0))
        for piece in pieces:
            zeros(stream, piece) if isinstance(piece, int) else stream.write(piece)
        stream.write(header("a", 0) + bytes(1024))


def pax(body: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return header("pax", len(body), kind) + body + bytes(-len(body) % 512)


def header_case(name: str, kind: bytes, *, size: int | None = None, start: str = "") -> None:
    """Adds a header of 256 MiB. size: what it says of its size; None for the truth."""

    @case(name, says=TOO_LONG)
    def write(file: Path, sizes: Sizes) -> None:
        begin = header("header", sizes.header if size is None else size, kind)
        write_headers(file, begin, start.format(sizes.header).encode(), sizes.header)


header_case("a pax header of 256 MiB", tarfile.XHDTYPE, start="{} comment=")
header_case("a global pax header of 256 MiB", tarfile.XGLTYPE, start="{} comment=")
header_case("a name of 256 MiB", tarfile.GNUTYPE_LONGNAME)
header_case("a header of a negative size", tarfile.GNUTYPE_LONGNAME, size=-512)


@case("a map of a sparse file without end", says=TOO_LONG)
def _sparse_map(file: Path, sizes: Sizes) -> None:
    block = bytearray(header("sparse", 0, tarfile.GNUTYPE_SPARSE))
    block[482] = 1  # the map goes on in the next block
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    more = (b"%011o\0" % 1) * 42 + b"\1" + bytes(7)
    write_headers(file, bytes(block), *[more * 2048] * (sizes.header >> 20))


@case("a chain of pax headers", says=TOO_LONG)
def _chain(file: Path, _: Sizes) -> None:
    write_headers(file, pax(b"14 comment=ab\n") * 1000)


@case("global pax headers that pile up", says="more than 100 fields for all of its members after 'f9'")
def _pile(file: Path, _: Sizes) -> None:
    fields = [b"1015 f%07d=%s\n" % (i, b"x" * 1000) for i in range(10_000)]
    parts = (b"".join(fields[i : i + 10]) for i in range(0, len(fields), 10))
    write_headers(file, *(pax(part, tarfile.XGLTYPE) + header(f"f{i}", 0) for i, part in enumerate(parts)))


@case("pax headers of digits", says="a number of more than 100 digits after 'good'")
def _digits(file: Path, _: Sizes) -> None:  # tarfile's search takes the square of their length, for each anew
    write_headers(file, *(pax(b"1" * 15_000) + header(f"f{i}", 0) for i in range(500)))


# ---- damage ----------------------------------------------------------------------------------------------------------

DAMAGED = "is cut off, damaged or no tar or zip archive"
NOTHING_SO_FAR = rf"{DAMAGED} \(at its beginning"
THREE = tar_bytes({"a": b"1", "b": random.Random(0).randbytes(100_000), "c": b"3"}, mode="w:")
FLIPPED = THREE[:1024] + bytes([THREE[1024] ^ 1]) + THREE[1025:]


def sized(size: int) -> bytes:
    """Returns a tar file whose second file says that it has `size` bytes, and has none."""
    return gzip.compress(header("good", 0) + header("a", size) + bytes(1024))


data_case("a negative size", sized(-512), says=rf"{DAMAGED} \(after 'good': negative size\)")
data_case("a size of 4 EiB", sized(1 << 62), says=f"'a', .*{TOO_MANY_BYTES}")
data_case("a size larger than the file", sized(500_000), says=rf"{DAMAGED} \(in 'a'")
data_case("cut off", gzip.compress(THREE)[:-9000], says=rf"{DAMAGED} \(in 'b'")
data_case("cut off between two files", THREE[:1024], says=rf"{DAMAGED} \(after 'a'", suffix=".tar")
data_case("a damaged header", FLIPPED, says=r"\(after 'a': neither a file nor the end at 1024", suffix=".tar")
CUT_WITHIN = tar_bytes({"in.tar.gz": tar_bytes({"b": b"2"})[:-9]})
data_case("an archive within that is cut off", CUT_WITHIN, says=f"{WITHIN}: {DAMAGED}", inner=False)
data_case("no bytes at all", b"", says=NOTHING_SO_FAR)
data_case("random bytes", random.Random(0).randbytes(100_000), says=NOTHING_SO_FAR)
data_case("a web page", b"<!DOCTYPE html><html>log in</html>" * 100, says=NOTHING_SO_FAR)
data_case("packed twice", bz2.compress(gzip.compress(THREE)), says=f"{NOTHING_SO_FAR}: it is compressed twice")


@case("a zip file with a size smaller than the file", says=rf"{DAMAGED} \(in 'zeros': Bad CRC", suffix=".zip")
def _zip_lies(file: Path, sizes: Sizes) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed, packed.open("zeros", "w") as stream:
        zeros(stream, sizes.header)
    file.write_bytes(file.read_bytes().replace(sizes.header.to_bytes(4, "little"), (10).to_bytes(4, "little")))


@case("an archive of nothing")
def _nothing(file: Path, _: Sizes) -> Mapping[str, bytes]:
    file.write_bytes(tar_bytes({}))
    return {}


@case("a zip file with ..", says=rf"'\.\./evil', {OUTSIDE}", suffix=".zip")
def _zip_outside(file: Path, _: Sizes) -> None:
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("../evil", "")


@case("a zip file with a symbolic link", says=f"'l', {LINK}", suffix=".zip")
def _zip_link(file: Path, _: Sizes) -> None:
    info = zipfile.ZipInfo("l")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr(info, "/etc/passwd")


@case("three archives within, as many members as MELD")
def _honest(file: Path, sizes: Sizes) -> Mapping[str, bytes]:
    draw, parts = random.Random(0), range(3)
    splits = [{f"{i}/dia{j}.mp4": draw.randbytes(500) for j in range(sizes.honest // 3)} for i in parts]
    file.write_bytes(tar_bytes({f"MELD.Raw/{i}.tar.gz": tar_bytes(splits[i]) for i in parts}))
    return {f"MELD.Raw/{name}": data for split in splits for name, data in split.items()}
