"""The page of jmer.demo: used in a browser as a visitor would, and attacked as a stranger would."""

import concurrent.futures
import http.client
import multiprocessing
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import reading_runs
from media_files import GREEN, RED, sine, write_clip

from jmer.base.errors import UserError
from jmer.serve.jobs import BusyError, Jobs
from jmer.serve.reader import Reader, Task

SRT = """1
00:00:00,100 --> 00:00:00,900
<v Ada>: This is wonderful!

2
00:00:01,100 --> 00:00:01,900
BEN: No, <script>window.hacked = 1</script><img src=x onerror="window.hacked=2"> it is awful.
"""
MOST = 3 << 20


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    return reading_runs.train(reading_runs.extract_dataset(folder), folder / "run")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tones = np.concatenate([sine(hertz, seconds=1, rate=16_000) for hertz in (300, 2000)])
    path = tmp_path_factory.mktemp("clips") / "talk <img src=x onerror=window.hacked=3>.mp4"
    return write_clip(path, colours=[RED, GREEN] * 10, fps=10, samples=tones)


class Server:
    """The command, as a process with a folder of its own for temporary files."""

    def __init__(self, run: Path, temporary: Path) -> None:
        self.temporary = temporary
        options = [f"--workdir={run}", "--port=0", f"--most-megabytes={MOST >> 20}", "--most-waiting=6"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jmer.demo", *options],
            env={**os.environ, "TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(re.findall(r":(\d+) in a browser", self.process.stdout.readline())[0])
        self.url = f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str, str]:
        """Returns the status, the body and the address of a redirection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host="Host" in headers)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            if body and not {"Content_Length", "Transfer_Encoding"} & headers.keys():
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders()
            connection.send(body)
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace"), response.getheader("location", "")
        finally:
            connection.close()

    def post(self, *parts: tuple[str, str, bytes], **headers: str) -> tuple[int, str, str]:
        """Sends a form. parts: name, file name (empty for a field) and content."""
        mark = uuid.uuid4().hex
        body = b"".join(
            f'--{mark}\r\nContent-Disposition: form-data; name="{name}"'.encode()
            + (f'; filename="{file}"' if file else "").encode()
            + b"\r\n\r\n"
            + content
            + b"\r\n"
            for name, file, content in parts
        )
        kind = f"multipart/form-data; boundary={mark}"
        return self.ask("POST", "/jobs", body + f"--{mark}--\r\n".encode(), Content_Type=kind, **headers)

    def result(self, path: str) -> tuple[int, str]:
        """Waits until a job has ended and returns the status and the text of its page."""
        for _ in range(600):
            if '"waiting"' not in (state := self.ask("GET", f"{path}/state")[1]) and '"reading"' not in state:
                break
            time.sleep(0.1)
        return self.ask("GET", path)[:2]

    def files(self) -> list[str]:
        return sorted(str(p.relative_to(self.temporary)) for p in self.temporary.rglob("*") if p.is_file())

    def memory(self) -> int:
        """The memory of the server, without that of the process that reads, in KiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0])


@pytest.fixture(scope="module")
def server(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(run, tmp_path_factory.mktemp("temporary"))
    yield server
    server.process.terminate()
    assert server.process.wait(20) == 75
    assert server.process.stdout is not None
    server.process.stdout.close()
    assert list(server.temporary.iterdir()) == []  # nothing is left behind


def test_a_visitor_uploads_waits_and_plays(browser, server, recording, tmp_path):
    (tmp_path / "talk.srt").write_text(SRT)
    browser.open(server.url)
    browser.one("#recording").send_keys(str(recording))
    browser.one("#transcript").send_keys(str(tmp_path / "talk.srt"))
    browser.one("button").click()
    browser.until("document.querySelectorAll('.cue').length === 2", seconds=90)
    assert browser.driver.title == f"Emotions of {recording.name}"
    browser.all(".cue")[1].click()
    browser.until("document.querySelector('.player').currentTime >= 1.1")
    assert "window.hacked = 1" in browser.one(".detail").text  # as a text
    assert browser.run("return window.hacked") is None
    assert browser.errors() == []
    assert all(url.startswith(server.url) for url in browser.requests())
    addresses = [link.get_attribute("href") or "" for link in browser.all("h1 + p a")][1:]
    assert [address.rpartition("emotions")[2] for address in addresses] == [
        ".csv", ".json", ".srt", ".vtt", ".rttm", ".TextGrid"
    ]  # fmt: skip
    for address in addresses:
        status, text, _ = server.ask("GET", address.removeprefix(server.url))
        assert status == 200
        assert len(text) > 50

    browser.open(server.url)
    browser.one("#dialogue").send_keys("Ada: A wonderful day!\nBen: <script>window.hacked = 4</script> Awful.")
    browser.all("form button")[1].click()
    browser.until("document.querySelectorAll('.cue').length === 2", seconds=60)
    assert browser.all(".lane > span")[1].text == "Ben"
    assert browser.run("return window.hacked") is None

    browser.open(server.url)
    browser.all("form button")[2].click()
    browser.until("document.querySelectorAll('.cue').length > 2", seconds=60)
    assert browser.driver.title == "Emotions of the sample"


def test_names_types_and_sizes_of_strangers(server, recording, tmp_path):
    before = server.files()
    evil = tmp_path / "evil.mp4"
    status, _, place = server.post(("recording", f"../../../..{evil}", recording.read_bytes()))
    assert status == 303
    assert server.result(place)[0] == 200
    assert not evil.exists()
    assert {Path(name).name for name in set(server.files()) - set(before)} == {"recording.mp4"}
    media = server.ask("GET", f"{place}/media/0", Range="bytes=0-3")
    assert media[0] == 206
    for path in (
        f"{place}/media/1",
        f"{place}/media/..%2f..%2fetc%2fpasswd",
        f"{place}/emotions.py",
        "/jobs/../../etc/passwd",
    ):
        assert server.ask("GET", path)[0] == 404

    refused = [
        (("recording", "x.mp4", b"no video"), "no video and no sound"),
        (("transcript", "x.exe", b"MZ"), "ends in .srt"),
        (("recording", "x.mp4", b""), "nothing was given"),
        (("dialogue", "", b"   "), "nothing was given"),
    ]
    for part, message in refused:
        status, text, _ = server.post(part)
        assert (status, message in text) == (400, True), text
    status, _, place = server.post(("transcript", "x.srt", b"no cues"))
    status, text = server.result(place)
    assert status == 422
    assert "no cues" not in text or "error" in text
    huge = server.ask(
        "POST", "/jobs", b"x" * 1000, Content_Type="multipart/form-data; boundary=x", Content_Length=str(2 << 30)
    )
    assert huge[0] == 413
    assert "3 MB are allowed" in huge[1]
    assert server.ask("POST", "/jobs", b"0\r\n\r\n", Transfer_Encoding="chunked")[0] == 411
    assert server.post(("dialogue", "", b"Ada: " + b"x" * 300_000))[0] == 400
    assert server.post(("dialogue", "", b"Ada: Hi"), Origin="http://evil.example")[0] == 403
    assert server.ask("GET", "/", Host="evil.example")[0] == 400
    assert server.ask("GET", "/jobs/AAAA")[0] == 404
    assert server.ask("POST", "/jobs", b"\xff" * 1000, Content_Type="multipart/form-data; boundary=x")[0] == 400


def test_fifty_at_once(server, recording):
    memory, content = server.memory(), recording.read_bytes() + b"\0" * (1 << 20)
    with concurrent.futures.ThreadPoolExecutor(50) as threads:
        found = list(threads.map(lambda _: server.post(("recording", "x.mp4", content)), range(50)))
    taken = [place for status, _, place in found if status == 303]
    assert {status for status, *_ in found} <= {303, 503}
    assert 6 <= len(taken) <= 20
    assert all("try again in a minute" in text for status, text, _ in found if status == 503)
    assert {server.result(place)[0] for place in taken} == {200}
    assert server.memory() - memory < 40_000
    assert len([name for name in server.files() if name.endswith(".mp4")]) <= len(taken) + 3


def test_a_task_that_takes_too_long_or_ends_its_process(run, tmp_path):
    reader = Reader([run], encoders=None, seconds=0)
    with pytest.raises(UserError, match=r"took more than 0 s and was given up; give a shorter recording"):
        reader.read(Task(), progress=lambda read, total: None)
    assert reader._process is None
    reader._pipe, other = multiprocessing.Pipe()
    other.close()
    with pytest.raises(UserError, match=r"ended the process that read it"):
        reader.read(Task(), progress=lambda read, total: None)
    assert reader._pipe is None
    missing = Reader([tmp_path / "no run"], encoders=None, seconds=60)
    with pytest.raises(UserError, match=r"the model cannot be used: .*config.json does not exist"):
        missing.read(Task(), progress=lambda read, total: None)


class _Slow(Reader):
    """A reader without a process."""

    def __init__(self):
        pass

    def read(self, task, *, progress):
        time.sleep(0.2)
        raise UserError("nothing to read")

    def close(self):
        pass


def test_jobs_wait_end_and_are_removed(tmp_path):
    jobs = Jobs(_Slow(), tmp_path, most=2, keep=0.3)
    first, second = jobs.new("a"), jobs.new("b")
    with pytest.raises(BusyError):
        jobs.new("c")
    for job in (first, second):
        (job.folder / "x").write_text("x")
        jobs.submit(job, Task())
    assert jobs.ahead_of(second) >= 1
    time.sleep(0.6)
    assert jobs.find(second.name) is second
    assert second.message == "nothing to read"
    time.sleep(0.6)
    assert jobs.find(second.name) is None
    assert list(tmp_path.iterdir()) == []
    jobs.close()
