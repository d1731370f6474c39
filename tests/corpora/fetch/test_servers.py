"""Downloads from the misbehaving servers of benchmarks/faults, with a small archive."""

import email.utils
import io
import time
from http.client import HTTPMessage
from pathlib import Path
from urllib.request import Request

import pytest

from benchmarks.faults import downloads
from benchmarks.faults.download_cases import CASES, Case
from jmer.corpora.fetch import remote


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_server(tmp_path: Path, case: Case):
    row = downloads.attempt(case, tmp_path, clip=40_000)
    assert row.held, row.outcome


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 0), ("0", 0), ("120", 120), ("9" * 5000, 999_999_999), ("-1", 0), ("soon", 0), ("1.5", 0)],
)
def test_retry_after(text: str, seconds: float):
    assert remote._retry_after(text) == seconds


def test_retry_after_a_date():
    now = time.time()
    assert 100 < remote._retry_after(email.utils.formatdate(now + 120, usegmt=True)) <= 120
    assert remote._retry_after(email.utils.formatdate(now - 120, usegmt=True)) == 0


def test_https_is_not_given_up():
    answer = (Request("https://some.where/x"), io.BytesIO(), 302, "Found", HTTPMessage())
    assert remote._Redirects().redirect_request(*answer, "https://else.where/x") is not None
    with pytest.raises(remote.Unreachable, match=r"redirects to 'http://x/', which gives up the protection of https"):
        remote._Redirects().redirect_request(*answer, "http://x/")
