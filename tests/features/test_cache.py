"""The cache gives back what was put, notices damage, and bears several writers."""

import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import fakes
import numpy as np
import pytest

from jmer.base.errors import UserError
from jmer.base.paths import cache_root
from jmer.base.types import Extracted
from jmer.features import libraries, registry
from jmer.features.audio.lite import LiteAudio
from jmer.features.cache import Cache
from jmer.features.video.lite import LiteVideo
from jmer.features.views import AudioView

KEYS = [f"{i:064x}" for i in range(40)]
AUDIO = fakes.Loudness()


def vector(key: str) -> np.ndarray:
    return np.random.default_rng(int(key, 16)).normal(size=500).astype(np.float32)


def test_gives_back_what_was_put(tmp_path: Path):
    cache = Cache(tmp_path)
    assert cache.get(KEYS[0], AUDIO) is None
    cache.put(KEYS[0], AUDIO, Extracted(vector=vector(KEYS[0]), status="degraded", reason="ö; 'x'"))
    cache.put(KEYS[1], AUDIO, Extracted(vector=None, reason="no face"))
    got = Cache(tmp_path).get(KEYS[0], AUDIO)
    assert got is not None
    assert got.vector is not None
    np.testing.assert_array_equal(got.vector, vector(KEYS[0]))
    assert got.vector.dtype == np.float32
    assert (got.status, got.reason) == ("degraded", "ö; 'x'")
    assert Cache(tmp_path).get(KEYS[1], AUDIO) == Extracted(vector=None, reason="no face")
    assert cache.get(KEYS[0], fakes.Loudness(scale=2.0)) is None  # another extractor


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "noise"])
def test_damage_is_noticed_and_said(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture):
    cache = Cache(tmp_path)
    cache.put(KEYS[0], AUDIO, Extracted(vector=vector(KEYS[0])))
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    data = bytearray(file.read_bytes())
    data[-3] ^= 16
    file.write_bytes({"flip": bytes(data), "cut": bytes(data[:700]), "empty": b"", "noise": b"\0" * 3000}[damage])
    assert cache.get(KEYS[0], AUDIO) is None
    assert f"{file} is damaged" in caplog.text
    cache.put(KEYS[0], AUDIO, Extracted(vector=vector(KEYS[0])))
    assert cache.get(KEYS[0], AUDIO) is not None


def test_folder_that_cannot_be_used(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file cannot be used \(Not a directory\)"):
        Cache(tmp_path / "file").get(KEYS[0], AUDIO)
    with pytest.raises(UserError, match="cannot be used"):
        Cache(tmp_path / "file").put(KEYS[0], AUDIO, Extracted(vector=None))


def hammer(root: str) -> int:
    """Puts and gets all keys over and over; returns how often a value was there, whole."""
    cache, hits = Cache(Path(root)), 0
    for _ in range(5):
        for key in KEYS:
            cache.put(key, AUDIO, Extracted(vector=vector(key)))
            got = cache.get(key, AUDIO)
            hits += got is not None and got.vector is not None and bool((got.vector == vector(key)).all())
    return hits


def test_several_processes_at_once(tmp_path: Path):
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(hammer, [str(tmp_path)] * 3)) == [5 * len(KEYS)] * 3
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == len(KEYS)  # and nothing left over


@dataclass(frozen=True, kw_only=True)
class Heard(fakes.Loudness):
    libraries = ("librosa", "av")


def test_features_of_two_releases_never_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """They do in a cache without releases: one interpreter gets librosa 0.11, another one librosa 1.0."""
    cache, releases = Cache(tmp_path), {"librosa": "0.11", "av": "18.1"}
    monkeypatch.setattr(libraries, "release", lambda name: releases[name])
    fingerprint = Heard().fingerprint
    cache.put(KEYS[0], Heard(), Extracted(vector=vector(KEYS[0])))
    assert cache.get(KEYS[0], Heard()) is not None
    for name, newer in (("librosa", "1.0"), ("av", "19.0")):
        with monkeypatch.context() as upgrade:
            upgrade.setitem(releases, name, newer)
            assert cache.get(KEYS[0], Heard()) is None
            assert Heard().fingerprint == fingerprint  # a trained run still finds its extractor
    assert cache.get(KEYS[0], Heard()) is not None


def test_releases_of_all_extractors_are_known():
    for extractor in registry.EXTRACTORS:
        for name in extractor.libraries:
            assert re.fullmatch(r"\d+\.\d+", libraries.release(name))
    assert {"librosa", "av"} <= set(LiteAudio.libraries)
    assert {"opencv", "av"} <= set(LiteVideo.libraries)
    assert set(AudioView(base=fakes.Loudness(), number=1).libraries) == {"librosa", "numpy"}


def test_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("JMER_CACHE", str(tmp_path / "a"))
    assert cache_root() == tmp_path / "a"
    monkeypatch.delenv("JMER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "jmer"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "jmer"
