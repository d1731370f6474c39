"""Tests downloads that are cut off, changed, refused and resumed."""

import hashlib
import json
import logging
import shutil
import socket
from collections import namedtuple
from pathlib import Path

import file_server
import pytest

from jmer.base.errors import UserError
from jmer.corpora.fetch import remote

DATA = hashlib.shake_256(b"data").digest(3_000_000)
OTHER = hashlib.shake_256(b"other").digest(3_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    with file_server.serving(monkeypatch) as server:
        server.data = DATA
        yield server


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Records the waits between attempts, without waiting."""
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    return waits


@pytest.fixture(autouse=True)
def _status_lines(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "jmer")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new" / "data.tar.gz"


def part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def interrupt(server: file_server.FileServer, target: Path, *, at: int) -> None:
    """Leaves a download that was cut off on the disk."""
    server.cuts = [at, 0, 0, 0, 0, 0]
    with pytest.raises(remote.Unreachable):
        remote.download(server.url, target)
    assert part(target).read_bytes() == server.data[:at]
    assert not target.exists()
    server.asked.clear()
    server.sent.clear()
    server.cuts.clear()


def test_whole_file_and_its_record(server, target: Path, waits: list[float]):
    assert remote.download(server.url, target, sha256=SHA256.upper()) == SHA256
    assert target.read_bytes() == DATA
    assert json.loads(target.with_name("data.tar.gz.json").read_text()) == {
        "url": server.url,
        "etag": server.etag,
        "last_modified": server.modified,
        "bytes": len(DATA),
        "sha256": SHA256,
    }
    assert sorted(path.name for path in target.parent.iterdir()) == ["data.tar.gz", "data.tar.gz.json"]
    assert server.asked[0]["accept-encoding"] == "identity"
    assert waits == []


def test_goes_on_after_every_cut(server, target: Path, waits: list[float]):
    server.cuts = [100_000, 1, 0, 700_000, 1_048_576, 0, 0, 0, 0]
    assert remote.download(server.url, target) == SHA256
    assert target.read_bytes() == DATA
    assert sum(server.sent) == len(DATA), "no byte twice"
    assert server.asked[1]["range"] == "bytes=100000-"
    assert server.asked[1]["if-range"] == server.etag
    assert waits == [1, 1, 2, 1, 1, 2, 4, 8, 16], "a try that gets on makes the waits short again"


def test_goes_on_in_another_run(server, target: Path):
    interrupt(server, target, at=2_000_000)
    remote.download(server.url, target)
    assert target.read_bytes() == DATA
    assert server.sent == [1_000_000]


def test_redirected(server, target: Path):
    server.cuts = [1_000_000]
    remote.download(f"{server.url}/moved", target)
    assert target.read_bytes() == DATA
    assert sum(server.sent) == len(DATA)


def test_last_modified_will_do_where_the_etag_is_weak(server, target: Path):
    server.etag = 'W/"1"'
    interrupt(server, target, at=10)
    remote.download(server.url, target)
    assert server.asked[0]["if-range"] == server.modified
    assert server.sent == [len(DATA) - 10]
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("heeds", [True, False])
@pytest.mark.parametrize("length", [3_000_000, 2_900_000, 500, 1000])
@pytest.mark.parametrize("told_by", ["etag", "modified"])
def test_changed_file_is_not_spliced(server, target: Path, caplog, heeds: bool, length: int, told_by: str):
    setattr(server, {"etag": "modified", "modified": "etag"}[told_by], "")
    interrupt(server, target, at=1000)
    server.data, server.heeds_if_range = OTHER[:length], heeds
    setattr(server, told_by, {"etag": '"2"', "modified": "Tue, 02 Jan 2024 00:00:00 GMT"}[told_by])
    remote.download(server.url, target)
    assert target.read_bytes() == OTHER[:length]
    assert "has changed; starting over" in caplog.text


def test_changed_length_alone_is_seen(server, target: Path):
    interrupt(server, target, at=1000)
    server.data = OTHER[:2_000_000]  # under the same ETag
    remote.download(server.url, target)
    assert target.read_bytes() == OTHER[:2_000_000]


def test_change_between_two_tries(server, target: Path, monkeypatch: pytest.MonkeyPatch):
    def change(_: float) -> None:
        server.data, server.etag = OTHER, '"2"'

    monkeypatch.setattr("time.sleep", change)
    server.cuts = [1000]
    remote.download(server.url, target)
    assert target.read_bytes() == OTHER


def test_server_without_ranges_starts_over_and_says_so(server, target: Path, caplog):
    server.ranges = False
    server.cuts = [1000]
    remote.download(server.url, target)
    assert target.read_bytes() == DATA
    assert "cannot send the rest alone; starting over, without the 1.00kB there" in caplog.text


def test_server_that_identifies_nothing_starts_over(server, target: Path):
    server.etag = server.modified = ""
    server.cuts = [1000]
    remote.download(server.url, target)
    assert target.read_bytes() == DATA
    assert "range" not in server.asked[1]


def test_part_of_another_address_is_not_used(server, target: Path, caplog):
    interrupt(server, target, at=1000)
    remote.download(f"{server.url}/mirror", target)
    assert target.read_bytes() == DATA
    assert "range" not in server.asked[0]
    assert "starting over" in caplog.text


@pytest.mark.parametrize("damaged", ["{", "[]", "7"])
def test_part_without_or_with_damaged_record_is_not_used(server, target: Path, caplog, damaged: str):
    interrupt(server, target, at=1000)
    target.with_name("data.tar.gz.json").write_text(damaged)
    remote.download(server.url, target)
    assert target.read_bytes() == DATA
    assert "is damaged" in caplog.text
    target.unlink()
    target.with_name("data.tar.gz.json").unlink()
    part(target).write_bytes(OTHER[:1000])
    remote.download(server.url, target)
    assert target.read_bytes() == DATA


def test_interruption_is_resumable(server, target: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupted)
    server.cuts = [1_500_000]
    with pytest.raises(KeyboardInterrupt):
        remote.download(server.url, target)
    remote.download(server.url, target)
    assert target.read_bytes() == DATA
    assert server.sent == [1_500_000, 1_500_000]


def test_killed_after_the_last_byte(server, target: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", killed_at(".part"))
        with pytest.raises(KeyboardInterrupt):
            remote.download(server.url, target)
    assert not target.exists()
    remote.download(server.url, target)
    assert target.read_bytes() == DATA
    assert len(server.asked) == 1


def killed_at(suffix: str):
    def replace(source: Path, target: Path) -> None:
        if str(source).endswith(suffix):
            raise KeyboardInterrupt
        shutil.move(source, target)

    return replace


def test_sha256(server, target: Path):
    with pytest.raises(UserError, match=f"its SHA-256 is {SHA256}, expected {'0' * 64}; delete the file and run"):
        remote.download(server.url, target, sha256="0" * 64)
    assert not target.exists()
    remote.download(server.url, target, sha256=SHA256)
    assert len(server.asked) == 1, "what was fetched is checked again, not fetched again"


def test_length_that_is_not_told(server, target: Path, caplog):
    server.tells_length = False
    remote.download(server.url, target)
    assert target.read_bytes() == DATA
    assert "does not say how long" in caplog.text


def test_passing_troubles_are_tried_again(server, target: Path, waits: list[float]):
    server.statuses = [500, 503, 429]
    remote.download(server.url, target)
    assert target.read_bytes() == DATA
    assert waits == [1, 2, 4]


@pytest.mark.parametrize(
    ("statuses", "message", "tries"),
    [
        ([404], "127.0.0.1 answered 404 Not Found for http://127", 1),
        ([403], "answered 403 Forbidden", 1),
        ([204], "answered 204 No Content", 1),
        ([500] * 6, "answered 500 Internal Server Error, 6 times in a row", 6),
    ],
)
def test_refusals(server, target: Path, statuses: list[int], message: str, tries: int):
    server.statuses = statuses
    with pytest.raises(remote.Unreachable) as caught:
        remote.download(server.url, target)
    assert message in str(caught.value)
    assert len(server.asked) == tries
    assert not target.exists()


def test_no_network_is_said_at_once(target: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(remote.Unreachable, match=r"^cannot reach 127\.0\.0\.1 \(.*refused\)$"):
        remote.download("http://127.0.0.1:1/x", target)

    def no_name(*_: object, **__: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr("socket.getaddrinfo", no_name)
    with pytest.raises(remote.Unreachable, match=r"^cannot reach some\.where \(.*name resolution\)$"):
        remote.download("http://some.where/x", target)
    assert waits == []


def test_network_that_goes_is_waited_for(server, target: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch):
    def closed(seconds: float) -> None:
        waits.append(seconds)
        server.socket.close()

    monkeypatch.setattr("time.sleep", closed)
    server.cuts = [1000]
    with pytest.raises(remote.Unreachable, match=r"cannot reach 127.0.0.1 .* 6 times in a row"):
        remote.download(server.url, target)
    assert waits == [1, 2, 4, 8, 16]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "MELD.tar.gz", "http://", "http://host:x/y"])
def test_what_is_no_address(target: Path, url: str):
    with pytest.raises(UserError, match="is no address to fetch from"):
        remote.download(url, target)


def test_disk_without_room(server, target: Path, monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(64 * 2**20 + len(DATA) - 1))
    with pytest.raises(UserError, match=r"needs 70.1MB on the disk of .*, which has 70.1MB free; make room"):
        remote.download(server.url, target)
    interrupted = part(target)
    assert not interrupted.exists()
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(64 * 2**20 + len(DATA)))
    remote.download(server.url, target)
    assert target.read_bytes() == DATA


def test_folder_that_cannot_be_written(server, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/below: cannot be written|file: cannot be written"):
        remote.download(server.url, tmp_path / "file" / "below" / "x")
