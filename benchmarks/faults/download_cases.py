"""The servers of `downloads.py`, one case each."""

import gzip
import hashlib
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

from tests.file_server import Answer, FileServer
from tests.meld_archive import damaged_clips

DONE, REFUSED = "data set complete", "refused, no data set"


@dataclass(kw_only=True)
class Scene:
    """The server and the folder of one case.

    root: the folder that the data set goes into.
    whole: the archive, as it should arrive.
    between: what happens on the server while jmer waits for the next attempt.
    known: the SHA-256 that jmer knows of the archive.
    free: the bytes that are free on the disk; None for those that are.
    largest: the size of the largest file that the disk takes; None for any.
    waits: the seconds that jmer waited, attempt by attempt.
    """

    server: FileServer
    root: Path
    whole: bytes
    between: Callable[[], object] = lambda: None
    known: str | None = None
    free: int | None = None
    largest: int | None = None
    waits: list[float] = field(default_factory=list)

    @property
    def part(self) -> Path:
        """The file that holds the bytes received so far."""
        return self.root / "MELD.Raw.tar.gz.part"

    def cut(self, *, then: Callable[[], object] = lambda: None) -> None:
        """Breaks the first answer off in the middle, and changes the server before the second."""
        self.server.cuts, self.between = [len(self.whole) // 2], then

    def alter(self, *, status: int | None = None, **headers: str | None) -> None:
        """Changes the file's headers in every answer; `_` stands for a hyphen, and None takes a header away.

        status: of an answer without a file.
        """

        def change(answer: Answer) -> None:
            if status:
                answer.status, answer.body, answer.headers = status, b"", {"Content-Length": "0"}
            for name, value in headers.items():
                answer.headers.pop(name.replace("_", "-"), None)
                if value is not None:
                    answer.headers[name.replace("_", "-")] = value

        self.server.alter = change

    def alter_part(self, change: Callable[[Answer], object]) -> None:
        """Breaks the first answer off, and changes the answers with the rest of the file."""
        self.cut()
        self.server.alter = lambda answer: change(answer) if answer.status == 206 else None

    def put_right(self) -> None:
        """Makes the server behave, and the disk take everything."""
        self.server.alter, self.server.statuses, self.server.cuts = (lambda _: None), [], []
        self.server.data, self.free, self.largest = self.whole, None, None


@dataclass(frozen=True, kw_only=True)
class Case:
    """One server.

    spoil: makes the server misbehave.
    done: the data set is complete in the end; otherwise the download is refused.
    says: a pattern of the error, or of what the command prints.
    check: whether all else is as it should be.
    again: the same command completes the data set once the server behaves.
    path: of the address.
    """

    name: str
    spoil: Callable[[Scene], object]
    done: bool
    says: str
    check: Callable[[Scene], bool]
    again: bool
    path: str


CASES: list[Case] = []


def case(
    name: str,
    spoil: Callable[[Scene], object],
    *,
    done: str | None = None,
    refused: str | None = None,
    check: Callable[[Scene], bool] = lambda _: True,
    again: bool = False,
    path: str = "/MELD.Raw.tar.gz",
) -> None:
    """Adds a case. done, refused: what the command says if it is done, or in its error."""
    says = done if refused is None else refused
    CASES.append(
        Case(name=name, spoil=spoil, done=refused is None, says=says or "", check=check, again=again, path=path)
    )


def clips(size: int) -> dict[str, bytes]:
    """Returns clips of random bytes, which do not compress. size: of a clip in bytes."""
    draw = random.Random(0).randbytes
    return damaged_clips(draw(size), long=draw(size))


# ---- length ----------------------------------------------------------------------------------------------------------

DAMAGED = "is cut off, damaged or no tar or zip archive .* the archive is now .*rejected, which may be deleted; run"


def _longer(scene: Scene) -> None:
    scene.alter(Content_Length=str(len(scene.whole) + 100))


def _shorter(scene: Scene) -> None:
    scene.alter(Content_Length=str(len(scene.whole) - 100))


def _untold_and_cut(scene: Scene) -> None:
    scene.cut()
    scene.alter(Content_Length=None)


def _chunked(scene: Scene) -> None:
    scene.server.alter = lambda answer: setattr(answer, "chunked", True)


def _chunked_and_told(scene: Scene) -> None:
    def change(answer: Answer) -> None:
        answer.chunked, answer.headers["content-length"] = True, "1700"

    scene.server.alter = change


def _chunked_and_cut(scene: Scene) -> None:
    scene.cut()
    _chunked(scene)


def _endless(scene: Scene) -> None:
    scene.server.data, scene.free = scene.whole * 4, (64 << 20) + len(scene.whole)
    scene.alter(Content_Length=None)


def _empty(scene: Scene) -> None:
    scene.server.data = b""


def _each_byte_once(scene: Scene) -> bool:
    return sum(scene.server.sent) == len(scene.whole)


case("body cut short", Scene.cut, done="broke off at .*; trying again in 1 s", check=_each_byte_once)
case("Content-Length too large", _longer, refused="broke off at .*, 6 times in a row; run the same command again")
case("Content-Length too small", _shorter, refused=DAMAGED, again=True)
case("no Content-Length", lambda scene: scene.alter(Content_Length=None), done="does not say how long the file is")
case("no Content-Length, and cut short", _untold_and_cut, refused=DAMAGED, again=True)
case("chunks", _chunked, done="does not say how long the file is")
case("chunks and another Content-Length", _chunked_and_told, done="does not say how long the file is")
case("chunks, and cut short", _chunked_and_cut, done="starting over")
case("no end", _endless, refused="needs .* on the disk .*; make room", again=True)
case("no bytes at all", _empty, refused="sent something else: .*; fetch .* by other means", again=True)


# ---- which file it is ------------------------------------------------------------------------------------------------


def _other_bytes(scene: Scene) -> None:
    half = len(scene.whole) // 2
    other = random.Random(1).randbytes(len(scene.whole) - half)
    scene.cut(then=lambda: setattr(scene.server, "data", scene.whole[:half] + other))


def _other_bytes_than_known(scene: Scene) -> None:
    scene.known = hashlib.sha256(scene.whole).hexdigest()
    _other_bytes(scene)


def _changed(scene: Scene) -> None:
    def change() -> None:
        scene.whole = scene.server.data = gzip.compress(gzip.decompress(scene.whole), 1, mtime=0)
        scene.server.etag = '"2"'

    scene.cut(then=change)


def _nameless(scene: Scene) -> None:
    scene.cut()
    scene.server.etag = scene.server.modified = ""


def _no_ranges(scene: Scene) -> None:
    scene.cut()
    scene.server.ranges = False


def _content_range(pattern: str | None) -> Callable[[Scene], None]:
    """pattern: the Content-Range, with `start`, `end` and `size`; None for none."""

    def change(answer: Answer) -> None:
        whole = answer.headers.pop("Content-Range").removeprefix("bytes ").replace("/", "-").split("-")
        start, end, size = map(int, whole)
        if pattern:
            answer.headers["Content-Range"] = pattern.format(start=start, end=end, size=size, wrong=start + 7)

    return lambda scene: scene.alter_part(change)


def _no_part(answer: Answer) -> None:
    answer.status, answer.body, answer.headers = 416, b"", {"Content-Length": "0"}


def _more_than_the_rest(scene: Scene) -> None:
    def change(answer: Answer) -> None:
        answer.body += bytes(5 << 20)
        answer.headers["Content-Length"] = str(len(answer.body))

    scene.largest = len(scene.whole)  # what comes behind the end is not written
    scene.alter_part(change)


def _longer_part(scene: Scene) -> None:
    scene.root.mkdir()
    scene.part.write_bytes(bytes(len(scene.whole) + 5000))
    server = scene.server
    names = {"etag": server.etag, "last_modified": server.modified, "bytes": len(scene.whole)}
    record = {"url": f"{server.url}/MELD.Raw.tar.gz"} | names
    scene.part.with_suffix(".json").write_text(json.dumps(record))


WRONG_HASH = "its SHA-256 is .*, expected .*; delete the file and run the same command again"
case("other bytes under the same ETag, SHA-256 known", _other_bytes_than_known, refused=WRONG_HASH)
case("other bytes under the same ETag", _other_bytes, refused=DAMAGED, again=True)
case("another ETag at the second attempt", _changed, done="has changed; starting over")
case("neither ETag nor Last-Modified", _nameless, done="may not be the beginning of .*; starting over")
case("Range ignored", _no_ranges, done="cannot send the rest alone; starting over")
case("Content-Range with another start", _content_range("bytes {wrong}-{end}/{size}"), done="starting over")
case("Content-Range of another file", _content_range("bytes {start}-{end}/9{size}"), done="starting over")
case("no Content-Range", _content_range(None), done="starting over")
case("416 for a part", lambda scene: scene.alter_part(_no_part), done="starting over")
case("more than the rest", _more_than_the_rest, done="sent more than")
case("a part on the disk that is longer than the file", _longer_part, done="is longer than .*; starting over")


# ---- answers ---------------------------------------------------------------------------------------------------------


def _status(*codes: int, retry_after: str | None = None) -> Callable[[Scene], None]:
    def ask_to_wait(answer: Answer) -> None:
        if retry_after and answer.status != 200:
            answer.headers["Retry-After"] = retry_after

    def spoil(scene: Scene) -> None:
        scene.server.statuses, scene.server.alter = list(codes), ask_to_wait

    return spoil


def _waited(*seconds: float) -> Callable[[Scene], bool]:
    return lambda scene: scene.waits == list(seconds)


OTHER_MEANS = "; fetch .* by other means, put it at .* and run: python -m jmer.download meld"
case("403", _status(403), refused=f"answered 403 Forbidden for .*{OTHER_MEANS}", again=True)
case("404", _status(404), refused=f"answered 404 Not Found for .*{OTHER_MEANS}", again=True)
case("429", _status(429, 429), done="trying again in 2 s", check=_waited(1, 2))
case("429 with Retry-After", _status(429, retry_after="7"), done="trying again in 7 s", check=_waited(7))
TOMORROW = formatdate(time.time() + 86_400, usegmt=True)
case("429 until tomorrow", _status(429, retry_after=TOMORROW), refused="asks to be left alone for 8.... s", again=True)
case("500 once", _status(500), done="answered 500 Internal Server Error; trying again in 1 s", check=_waited(1))
case("500 for ever", _status(*[500] * 99), refused=f"answered 500 .*, 6 times in a row{OTHER_MEANS}", again=True)
case("204", _status(204), refused=f"answered 204 No Content for .*{OTHER_MEANS}", again=True)


# ---- redirection and other content -----------------------------------------------------------------------------------


def _redirect(location: str) -> Callable[[Scene], None]:
    return lambda scene: scene.alter(status=302, Location=location)


def _page(scene: Scene) -> None:
    scene.server.data = b"<!DOCTYPE html><html>log in</html>"


def _page_by_type(scene: Scene) -> None:
    _page(scene)
    scene.alter(Content_Type="text/html; charset=utf-8")


def _page_instead_of_the_rest(scene: Scene) -> None:
    scene.cut(then=lambda: _page_by_type(scene))


def _kept(scene: Scene) -> bool:
    return _each_byte_once(scene) or scene.part.stat().st_size == len(scene.whole) // 2


def _compressed(scene: Scene) -> None:
    scene.server.data = gzip.compress(scene.whole, 1)
    scene.alter(Content_Encoding="gzip")


NO_HTTP = "redirects to '.*', which is neither http nor https"
case("redirected", lambda _: None, path="/moved")
case("redirected in a circle", _redirect("/again"), refused=f"redirects to '/again', in a circle{OTHER_MEANS}")
case("redirected to file://", _redirect("file:///etc/passwd"), refused=NO_HTTP + OTHER_MEANS)
case("redirected to ftp://", _redirect("ftp://127.0.0.1/x"), refused=NO_HTTP + OTHER_MEANS)
case("a web page", _page_by_type, refused=f"sent a web page .text/html. instead of the file.*{OTHER_MEANS}", again=True)
case("a web page without Content-Type", _page, refused="sent something else: .* begins with '<!DOCTYPE", again=True)
case("a web page in place of the rest", _page_instead_of_the_rest, refused="sent a web page", check=_kept, again=True)
case("Content-Encoding: gzip for the file as it is", lambda scene: scene.alter(Content_Encoding="gzip"))
case("compressed once more on the way", _compressed, refused="sent something else: .*compressed twice", again=True)


# ---- connection and disk ---------------------------------------------------------------------------------------------


def _reset(scene: Scene) -> None:
    scene.cut(then=scene.put_right)
    scene.server.alter = lambda answer: setattr(answer, "reset", True)


def _stall(scene: Scene) -> None:
    scene.cut()
    scene.server.stall = True


def _trickle(scene: Scene) -> None:
    scene.server.alter = lambda answer: setattr(answer, "pause", 0.02)


def _disk_full(scene: Scene) -> None:
    scene.largest = len(scene.whole) // 2


def _small_disk(scene: Scene) -> None:
    scene.free = (64 << 20) + 1000


case("connection reset", _reset, done="broke off .*; trying again in 1 s")
case("stalls", _stall, done="broke off .*timed out.*; trying again", check=_each_byte_once)
case("one byte at a time", _trickle, refused="sent only .* in .* s, 6 times in a row", again=True)
case("disk full meanwhile", _disk_full, refused="cannot be written .*; make room", again=True)
case("disk too small", _small_disk, refused="needs .* on the disk of .*; make room", again=True)
