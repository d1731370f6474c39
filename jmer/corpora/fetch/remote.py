"""Fetches large files over HTTP, and goes on where an earlier attempt was cut off.

It uses urllib. The requests package would undo the `Content-Encoding: gzip` that some servers put on tar.gz files: the
bytes on the disk would then differ from the bytes sent, so that neither the length nor a Range would fit.
"""

import email.utils
import http.client
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from jmer.base import files
from jmer.base.errors import UserError
from jmer.corpora.fetch import disk

_log = logging.getLogger(__name__)

_WAITS = (1, 2, 4, 8, 16)  # seconds before each further attempt
_LONGEST_WAIT = 300  # seconds that a server may ask to wait before the next attempt
_TIMEOUT = 60  # seconds without a byte
_SLOWEST = 1000  # bytes a second over `_TIMEOUT`; with fewer, the 10 GB of a corpus would take months
_CHUNK = 1 << 20  # bytes
_NO_FILE = ("text/html", "application/xhtml+xml")  # what servers send in place of a file: a login, a notice
_REDIRECTS = (301, 302, 303, 307, 308)


class Unreachable(UserError):
    """The server cannot be reached, or does not send the file."""


class _Dropped(Exception):
    """The connection broke. Another attempt may succeed.

    wait: the seconds that the server asks to wait before it.
    """

    def __init__(self, message: str, *, wait: float = 0):
        super().__init__(message)
        self.wait = wait


class _NotConnected(_Dropped):
    """No connection could be made."""


class _Slow(_Dropped):
    """The bytes came too slowly to call them progress."""


def download(url: str, target: Path, *, sha256: str = "", check: Callable[[Path], None] | None = None) -> str:
    """Fetches `url` to `target` and returns its SHA-256.

    The bytes received so far are kept in `target` + `.part`, and `target` + `.json` records the file that they belong
    to. The next call goes on from there if the server still has the same file, judged by length, ETag and time of
    change. Otherwise it starts over.

    Args:
      url: an http or https address.
      target: the path of the file; its folder is made if necessary.
      sha256: the SHA-256 that the file must have. Without one only the length is checked, if the server says it.
      check: raises a UserError if the file cannot be the one that is wanted. The file is then removed.

    Raises:
      Unreachable: there is no network, the server has no such file or sent something else, or the connection broke six
        times in a row.
      UserError: `url` is no http address, or the SHA-256 differs.
      StorageError: the disk is full, or may not be written to.
    """
    place = urlsplit(url)
    if place.scheme not in ("http", "https") or not place.hostname:
        raise UserError(f"'{url}' is no address to fetch from; expected http://... or https://...")
    part, record = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.json")
    with disk.writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)

    waits, met = list(_WAITS), False
    while True:
        before = disk.size_of(part)
        try:
            _fetch(url, part, record)
            break
        except _Dropped as drop:
            met = met or not isinstance(drop, _NotConnected)
            if disk.size_of(part) > before and not isinstance(drop, _Slow):
                waits = list(_WAITS)  # the attempt made progress
            if drop.wait > _LONGEST_WAIT:
                raise Unreachable(f"{drop} and asks to be left alone for {drop.wait:.0f} s") from drop
            if not (met and waits):
                raise Unreachable(f"{drop}" + (f", {len(_WAITS) + 1} times in a row" if met else "")) from drop
            wait = max(waits.pop(0), drop.wait)
            _log.warning(f"{drop}; trying again in {wait:.0f} s")
            time.sleep(wait)

    if check:
        _check(part, record, check, urlsplit(url).hostname)
    _log.info(f"computing the SHA-256 of {part.name}")
    digest = check_sha256(part, sha256)
    with disk.writing(target.parent):
        files.save_json(record, disk.load(record) | {"sha256": digest})
        os.replace(part, target)
    return digest


def set_aside(target: Path) -> Path | None:
    """Renames a file that `download` fetched and that proved to be wrong, so that the next call fetches it anew.

    Returns:
      The new path; None if the file is not the one that `download` fetched, which stays where it is.
    """
    record, aside = target.with_name(f"{target.name}.json"), target.with_name(f"{target.name}.rejected")
    known = disk.load(record)
    if "sha256" not in known or known.get("bytes") not in (None, disk.size_of(target)):
        return None
    with disk.writing(target.parent):
        os.replace(target, aside)
        record.unlink()
    return aside


def check_sha256(file: Path, sha256: str) -> str:
    """Returns the file's SHA-256.

    Raises:
      UserError: `sha256` is given and differs.
    """
    digest = files.sha256(file)
    if sha256 and digest != sha256.lower():
        raise UserError(
            f"{file}: its SHA-256 is {digest}, expected {sha256}; delete the file and run the same command again to "
            "fetch it anew, or give --sha256 with the one that the file should have"
        )
    return digest


def _check(part: Path, record: Path, check: Callable[[Path], None], host: str | None) -> None:
    """Calls `check` on what was fetched. Removes it if it is wrong, since going on from it would lead nowhere."""
    try:
        check(part)
    except UserError as error:
        with part.open("rb") as file:
            start = file.read(24)
        with disk.writing(part.parent):
            part.unlink()
            record.unlink(missing_ok=True)
        raise Unreachable(f"{host} sent something else: {error}; it begins with {ascii(start)[1:]}") from error


def _fetch(url: str, part: Path, record: Path) -> None:
    """Fetches over one connection: the rest of the file if `part` is its beginning, otherwise all of it."""
    known, have = disk.load(record), disk.size_of(part)
    length = known["bytes"] if isinstance(known.get("bytes"), int) else None
    validator = known.get("etag") or known.get("last_modified")
    if have and (known.get("url") != url or not validator):
        _log.info(f"{part}: its {disk.in_bytes(have)} may not be the beginning of {url}; starting over")
        have = 0
    if have and have == length:
        return  # the file is complete, and only its renaming was cut off
    if length is not None and have > length:
        _log.info(f"{part}: is longer than the {disk.in_bytes(length)} of the file; starting over")
        have = 0
    headers = {"Range": f"bytes={have}-", "If-Range": validator} if have else {}
    with _connect(url, headers) as response:
        now = _described(url, response)
        part_only = response.status == 206
        goes_on = part_only and now == known and _range_start(response) == have
        if have and not goes_on:
            why = "the server cannot send the rest alone" if now == known else "the file on the server has changed"
            _log.info(f"{part}: {why}; starting over, without the {disk.in_bytes(have)} there")
            have = 0
        if not have:
            with disk.writing(part.parent):
                part.unlink(missing_ok=True)  # before the new record is written, which must never describe old bytes
                files.save_json(record, now)
        if goes_on or not part_only:
            _receive(response, part, have=have, length=now["bytes"])
            return
    _fetch(url, part, record)  # the server sent a part of a file that has changed; ask for all of it


def _receive(response: Any, part: Path, *, have: int, length: int | None) -> None:
    """Writes the response to `part`, behind its first `have` bytes. length: of the whole file; None if not known."""
    host, what = urlsplit(response.url).hostname, f"fetching {response.url}"
    if length is None:
        _log.info("the server does not say how long the file is, so only unpacking will show whether it is complete")
    else:
        disk.need(length - have, part.parent, what)
    got = have
    with (
        disk.bar(length, "downloading", initial=have) as bar,
        disk.writing(part),
        part.open("r+b" if have else "wb") as file,
    ):
        file.seek(have)
        for chunk in _received(response):
            got += len(chunk)
            if length is None:
                disk.need(len(chunk), part.parent, what)  # the answer may have no end
            elif got > length:
                break
            file.write(chunk)
            bar.update(len(chunk))
    if length is not None and got > length:
        part.unlink()  # which of its bytes belong to the file is not known
        raise _Dropped(f"{host} sent more than the {disk.in_bytes(length)} that it had announced")
    if length is not None and got < length:
        raise _Dropped(f"{host} broke off at {disk.in_bytes(got)} of {disk.in_bytes(length)}")


def _connect(url: str, headers: dict[str, str]) -> Any:
    """Returns the response of the server. headers: those that ask for a range; empty to ask for the whole file."""
    host = urlsplit(url).hostname
    # Without `identity` an intermediary may compress the file, and its length would change.
    request = Request(url, headers={"User-Agent": "jmer", "Accept-Encoding": "identity"} | headers)
    try:
        response = build_opener(_Redirects).open(request, timeout=_TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416 and headers:  # the file is now shorter than `part`, and the server ignores If-Range
            return _connect(url, {})
        if error.code in _REDIRECTS and (location := error.headers.get("Location")):
            raise _misled(url, location) from error
        # The standard phrase, as the server's own may hold anything.
        answer = f"{host} answered {error.code} {http.client.responses.get(error.code, '')}".rstrip()
        if error.code in (408, 425, 429) or error.code >= 500:
            raise _Dropped(answer, wait=_retry_after(error.headers.get("Retry-After", ""))) from error
        raise Unreachable(f"{answer} for {url}") from error
    except URLError as error:
        raise _NotConnected(f"cannot reach {host} ({error.reason})") from error
    except http.client.InvalidURL as error:
        raise UserError(f"'{url}' is no address to fetch from ({error})") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Dropped(f"{host} broke off ({error})") from error
    if response.status not in ((200, 206) if headers else (200,)):
        response.close()
        phrase = http.client.responses.get(response.status, "")
        raise Unreachable(f"{host} answered {response.status} {phrase}".rstrip() + f" for {url}")
    if (kind := response.headers.get_content_type()) in _NO_FILE:  # before it replaces what is there already
        response.close()
        raise Unreachable(f"{host} sent a web page ({kind}) instead of the file, perhaps to ask for a login")
    return response


class _Redirects(HTTPRedirectHandler):
    """Follows redirections to http and https, the latter not back to http. urllib would follow those to ftp too."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        allowed = ("https",) if req.type == "https" else ("http", "https")
        if urlsplit(newurl).scheme not in allowed:
            raise _misled(req.full_url, newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _misled(url: str, location: str) -> Unreachable:
    """Returns the error for a redirection that is not followed. location: where it leads."""
    schemes = urlsplit(url).scheme, urlsplit(urljoin(url, location)).scheme
    why = "in a circle"
    if schemes == ("https", "http"):
        why = "which gives up the protection of https"
    elif schemes[1] not in ("http", "https"):
        why = "which is neither http nor https"
    return Unreachable(f"{urlsplit(url).hostname} redirects to {location[:200]!a}, {why}")


def _retry_after(text: str) -> float:
    """Returns the seconds that a Retry-After header asks for, which it gives as a number or as a date."""
    if text.isdecimal():
        return float(text[:9])  # longer numbers stand for a wait that nobody waits
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _received(response: Any) -> Iterator[bytes]:
    host, begin, got = urlsplit(response.url).hostname, time.monotonic(), 0
    try:
        while chunk := response.read1(_CHUNK):
            yield chunk
            got += len(chunk)
            if (now := time.monotonic()) - begin >= _TIMEOUT:
                if got < _SLOWEST * _TIMEOUT:
                    raise _Slow(f"{host} sent only {disk.in_bytes(got)} in {now - begin:.0f} s")
                begin, got = now, 0
    except (OSError, http.client.HTTPException) as error:
        raise _Dropped(f"{host} broke off ({error})") from error


def _described(url: str, response: Any) -> dict[str, Any]:
    """Returns what distinguishes versions of the file. A weak ETag does not count, as it allows different bytes."""
    etag = response.headers.get("ETag", "")
    length = response.headers.get("Content-Length", "")
    if response.status == 206:
        length = response.headers.get("Content-Range", "").rpartition("/")[2]
    elif response.chunked:
        length = ""  # HTTP lets the chunks overrule the header
    return {
        "url": url,
        "etag": "" if etag.startswith("W/") else etag,
        "last_modified": response.headers.get("Last-Modified", ""),
        "bytes": int(length) if length.isdecimal() and len(length) < 20 else None,
    }


def _range_start(response: Any) -> int | None:
    """Returns the position in the file at which the response begins; None if the response is no range."""
    match = re.match(r"bytes (\d{1,19})-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None
