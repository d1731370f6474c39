"""Fetches large files over HTTP, and goes on where an earlier attempt was cut off.

It uses urllib. The requests package would undo the `Content-Encoding: gzip` that some servers put on tar.gz files: the
bytes on the disk would then differ from the bytes sent, so that neither the length nor a Range would fit.
"""

import http.client
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from jmer.base import files
from jmer.base.errors import UserError
from jmer.corpora.fetch import disk

_WAITS = (1, 2, 4, 8, 16)  # seconds before each further attempt
_TIMEOUT = 60  # seconds without a byte
_CHUNK = 1 << 20  # bytes


class Unreachable(UserError):
    """The server cannot be reached, or does not send the file."""


class _Dropped(Exception):
    """The connection broke. Another attempt may succeed."""


class _NotConnected(_Dropped):
    """No connection could be made."""


def download(url: str, target: Path, *, sha256: str = "") -> str:
    """Fetches `url` to `target` and returns its SHA-256.

    The bytes received so far are kept in `target` + `.part`, and `target` + `.json` records the file that they belong
    to. The next call goes on from there if the server still has the same file, judged by length, ETag and time of
    change. Otherwise it starts over.

    Args:
      url: an http or https address.
      target: the path of the file; its folder is made if necessary.
      sha256: the SHA-256 that the file must have. Without one only the length is checked, if the server says it.

    Raises:
      Unreachable: there is no network, the server has no such file, or the connection broke six times in a row.
      UserError: `url` is no http address, the SHA-256 differs, or the disk is full.
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
            if disk.size_of(part) > before:
                waits = list(_WAITS)  # the attempt made progress
            if not (met and waits):
                raise Unreachable(f"{drop}" + (f", {len(_WAITS) + 1} times in a row" if met else "")) from drop
            wait = waits.pop(0)
            print(f"{drop}; trying again in {wait} s", file=sys.stderr)
            time.sleep(wait)

    print(f"computing the SHA-256 of {part.name}", file=sys.stderr)
    digest = check_sha256(part, sha256)
    with disk.writing(target.parent):
        files.save_json(record, disk.load(record) | {"sha256": digest})
        os.replace(part, target)
    return digest


def check_sha256(file: Path, sha256: str) -> str:
    """Returns the file's SHA-256.

    Raises:
      UserError: `sha256` is given and differs.
    """
    digest = files.sha256(file)
    if sha256 and digest != sha256.lower():
        raise UserError(
            f"{file}: its SHA-256 is {digest}, expected {sha256}; correct --sha256, or delete the file and run the "
            "same command again to fetch it anew"
        )
    return digest


def _fetch(url: str, part: Path, record: Path) -> None:
    """Fetches over one connection: the rest of the file if `part` is its beginning, otherwise all of it."""
    known, have = disk.load(record), disk.size_of(part)
    length, validator = known.get("bytes"), known.get("etag") or known.get("last_modified")
    if have and (known.get("url") != url or not validator):
        print(f"{part}: its {disk.in_bytes(have)} may not be the beginning of {url}; starting over")
        have = 0
    if have and have == length:
        return  # the file is complete, and only its renaming was cut off
    headers = {"Range": f"bytes={have}-", "If-Range": validator} if have else {}
    with _connect(url, headers) as response:
        now = _described(url, response)
        part_only = response.status == 206
        goes_on = part_only and now == known and _range_start(response) == have
        if have and not goes_on:
            why = "the server cannot send the rest alone" if now == known else "the file on the server has changed"
            print(f"{part}: {why}; starting over, without the {disk.in_bytes(have)} there")
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
    if length is None:
        print("the server does not say how long the file is, so only unpacking will show whether it is complete")
    else:
        disk.need(length - have, part.parent, f"fetching {response.url}")
    with (
        disk.bar(length, "downloading", initial=have) as bar,
        disk.writing(part),
        part.open("r+b" if have else "wb") as file,
    ):
        file.seek(have)
        for chunk in _received(response):
            file.write(chunk)
            bar.update(len(chunk))
    if length is not None and disk.size_of(part) != length:
        host = urlsplit(response.url).hostname
        raise _Dropped(f"{host} broke off at {disk.in_bytes(disk.size_of(part))} of {disk.in_bytes(length)}")


def _connect(url: str, headers: dict[str, str]) -> Any:
    """Returns the response of the server. headers: those that ask for a range; empty to ask for the whole file."""
    host = urlsplit(url).hostname
    # Without `identity` an intermediary may compress the file, and its length would change.
    request = Request(url, headers={"User-Agent": "jmer", "Accept-Encoding": "identity"} | headers)
    try:
        response = urlopen(request, timeout=_TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416 and headers:  # the file is now shorter than `part`, and the server ignores If-Range
            return _connect(url, {})
        answer = f"{host} answered {error.code} {error.reason}"
        if error.code in (408, 425, 429) or error.code >= 500:
            raise _Dropped(answer) from error
        raise Unreachable(f"{answer} for {url}") from error
    except URLError as error:
        raise _NotConnected(f"cannot reach {host} ({error.reason})") from error
    except http.client.InvalidURL as error:
        raise UserError(f"'{url}' is no address to fetch from ({error})") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Dropped(f"{host} broke off ({error})") from error
    if response.status not in ((200, 206) if headers else (200,)):
        response.close()
        raise Unreachable(f"{host} answered {response.status} {response.reason} for {url}")
    return response


def _received(response: Any) -> Iterator[bytes]:
    try:
        while chunk := response.read1(_CHUNK):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _Dropped(f"{urlsplit(response.url).hostname} broke off ({error})") from error


def _described(url: str, response: Any) -> dict[str, Any]:
    """Returns what distinguishes versions of the file. A weak ETag does not count, as it allows different bytes."""
    etag = response.headers.get("ETag", "")
    length = response.headers.get("Content-Length", "")
    if response.status == 206:
        length = response.headers.get("Content-Range", "").rpartition("/")[2]
    return {
        "url": url,
        "etag": "" if etag.startswith("W/") else etag,
        "last_modified": response.headers.get("Last-Modified", ""),
        "bytes": int(length) if length.isdecimal() else None,
    }


def _range_start(response: Any) -> int | None:
    """Returns the position in the file at which the response begins; None if the response is no range."""
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None
