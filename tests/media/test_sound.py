"""Tests the cache of the functions that numba compiles for librosa, and the lock on it."""

import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from numba.core import config

from jmer.base.errors import UserError
from jmer.media import sound

# Prints the functions that are compiled, or read from the cache, after `compiled_librosa()` has returned.
LATE = """
import numpy as np
from numba.core.caching import Cache
from jmer.encoders import speech_input
from jmer.features import perturb
from jmer.features.audio import lite
from jmer.media import sound

sound.compiled_librosa()
load = Cache.load_overload
Cache.load_overload = lambda self, *rest: print(self) or load(self, *rest)
wave = np.random.default_rng(0).standard_normal(16_000, np.float32) / 10
lite.describe(wave)
speech_input.log_mel(wave, mels=80, seconds=1)
for seed in range(8):
    lite.describe(perturb.perturb_wave(wave, np.random.default_rng(seed)))
perturb.pitch_shift(perturb.time_stretch(perturb.mask_spectrogram(wave), rate=0.9), semitones=1.0)
"""


def test_all_is_compiled_at_once(root: Path):
    done = subprocess.run([sys.executable, "-c", LATE], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_one_process_compiles_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def compile_(_):
        assert tmp_path / "numba" == Path(config.CACHE_DIR)  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(Timeout), FileLock(tmp_path / "numba" / "lock", timeout=0):
            pass
        compiled.append(True)

    compiled = []
    monkeypatch.setattr(sound, "_compile", compile_)
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "numba"))
    sound.compiled_librosa.__wrapped__()
    assert compiled
    with FileLock(tmp_path / "numba" / "lock", timeout=0):
        pass


def test_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "file" / "numba"))
    with pytest.raises(UserError, match=r"file/numba, .*Not a directory.*JMER_CACHE"):
        sound.compiled_librosa.__wrapped__()
