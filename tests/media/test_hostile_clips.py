"""Absurd and hostile clips: each is refused for a reason, or what can be read of it is marked."""

import os
import random
import struct
from pathlib import Path

import av
import fakes
import numpy as np
import pytest
from media_files import RED, sine, write_clip, write_wav

from benchmarks.faults.clip_cases import Special, mutants, specials, wav
from jmer.base.types import SAMPLE_RATE
from jmer.features import worker
from jmer.media import container, cutting, decoding, guards
from jmer.media.collecting import FramePicker, Sound
from jmer.media.cutting import Part
from jmer.media.vision import faces

TRACKS = {"audio": fakes.Loudness(), "video": fakes.Colour()}
SLOW = ("10 minutes of video", "3 hours of silence", "8000 x 8000 pixels")  # of the benchmark alone


@pytest.mark.parametrize("name", [case.name for case in specials(Path()) if case.name not in SLOW])
def test_special_clip(name: str, root: Path, tmp_path: Path):
    (case,) = [c for c in specials(root / "data/sample/train_splits/dia0_utt0.mp4") if c.name == name]
    clip = tmp_path / "clip.mp4"
    case.write(clip)
    assert decoding.is_media(clip) in (True, False)  # a look at a table's clips, in the main process
    results = worker.prepare(clip, TRACKS, max_seconds=None, sha256=worker.digest(clip)).values()
    worst = max((result.status for result in results), key=["ok", "degraded", "failed"].index)
    if "no face" in case.says:
        worst, case = (
            "degraded",
            Special(name=name, write=case.write, statuses=case.statuses),
        )  # no faces are looked for
    assert worst in case.statuses
    assert any(case.says in result.reason for result in results)
    assert all(result.reason for result in results if result.status != "ok")


def test_mutants_never_raise(root: Path, tmp_path: Path):
    """A few of the thousand of `benchmarks/faults/clips.py`."""
    clip = root / "data/sample/train_splits/dia0_utt0.mp4"
    for (kind, suffix, content), _ in zip(mutants([clip], random.Random(0)), range(40), strict=False):
        path = tmp_path / f"clip{suffix}"
        path.write_bytes(content)
        decoding.is_media(path)
        for result in worker.prepare(path, TRACKS, max_seconds=None).values():
            assert result.reason or result.status == "ok", kind
            assert "cannot be decoded (" not in result.reason, f"{kind}: {result.reason}"


@pytest.mark.parametrize(("make", "kind"), [(os.mkfifo, "named pipe"), (Path.mkdir, "folder")])
def test_what_is_no_file_is_not_opened(make, kind: str, tmp_path: Path):
    path = tmp_path / "clip.mp4"
    make(path)
    for read in (decoding.seconds, lambda p: decoding.decode(p, frames=1), lambda p: list(cut(p, Part(0, 1)))):
        with pytest.raises(decoding.MediaError, match=f"is a {kind}, not a file"):
            read(path)
    with pytest.raises(decoding.MediaError, match=r"cannot be opened: (stat: )?embedded null"):
        decoding.seconds(tmp_path / "a\0b")


def cut(path: Path, *parts: Part):
    return cutting.cut(path, parts, frames=lambda _: 2)


def test_pictures_beyond_the_bound_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clip = write_clip(tmp_path / "a.mp4", colours=[RED] * 5)
    monkeypatch.setattr(guards, "MOST_PIXELS", 64 * 96 - 1)
    with pytest.raises(decoding.MediaError, match="has pictures of 96 x 64 pixels, more than 78 x 78"):
        container.open_clip(clip)
    with pytest.raises(decoding.MediaError, match="has pictures of 96 x 64 pixels"):  # a header may lie
        FramePicker(count=1, start=0, end=1).add(av.VideoFrame(96, 64, "rgb24"), 0.0)


def test_frames_that_take_too_much_together_are_scaled_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clip = write_clip(tmp_path / "a.mp4", colours=[RED] * 5)
    whole = decoding.decode(clip, frames=8)
    assert whole.frames is not None
    size = whole.frames.nbytes
    for share, shape, damage in (
        (1.0, (64, 96), ""),
        (0.5, (45, 67), ""),
        (0.1, (20, 30), "8 frames of 96 x 64 pixels"),
    ):
        monkeypatch.setattr(guards, "MOST_FRAME_BYTES", int(size * share))
        got = decoding.decode(clip, frames=8)
        assert got.frames is not None
        assert got.frames.shape == (8, *shape, 3)
        assert got.frames.nbytes <= size * share
        assert got.damage.startswith(damage)
        assert bool(got.damage) == bool(damage)
        ((_, part),) = cut(clip, Part(0, 0.2))
        assert not isinstance(part, decoding.MediaError)
        assert part.frames is not None


def test_rates_beyond_the_bounds_are_refused(tmp_path: Path):
    least = guards.LEAST_RATE
    for rate in (least, guards.MOST_RATE):
        assert decoding.decode(write_wav(tmp_path / "a.wav", np.zeros(rate), rate=rate), frames=0).damage == ""
    clip = write_wav(tmp_path / "b.wav", np.zeros(least), rate=least - 1)
    with pytest.raises(decoding.MediaError, match="has sound of 1999 samples a second; expected 2000 to 768000"):
        container.open_clip(clip)
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 160), np.int16), format="s16", layout="mono")
    frame.sample_rate = least - 1
    with pytest.raises(decoding.MediaError, match="has sound of 1999 samples a second"):  # a header may lie
        Sound().add(frame)


def test_sound_that_is_too_long_for_an_utterance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clip = write_wav(tmp_path / "a.wav", sine(440, seconds=3, rate=8_000), rate=8_000)
    monkeypatch.setattr(guards, "MOST_SECONDS", 2.0)
    with pytest.raises(decoding.MediaError, match="hours of sound for one utterance"):
        decoding.decode(clip, frames=0)
    ((_, part),) = cut(clip, Part(1, 3))  # a recording may be as long as it likes
    assert not isinstance(part, decoding.MediaError)


def test_a_part_is_silenced_where_the_recording_holds_no_numbers(tmp_path: Path):
    samples = np.concatenate([np.full(SAMPLE_RATE, 0.1), np.full(SAMPLE_RATE, np.nan), np.full(SAMPLE_RATE, 1.5)])
    clip = tmp_path / "a.wav"
    clip.write_bytes(wav(samples.astype(np.float32), rate=SAMPLE_RATE))
    whole = decoding.decode(clip, frames=0)
    assert whole.wave is not None
    assert len(whole.wave) == 3 * SAMPLE_RATE
    assert "pieces of sound are silenced" in whole.damage
    assert not whole.wave[17_500:31_000].any()
    clip.write_bytes(wav(np.full(SAMPLE_RATE, np.nan, np.float32), rate=SAMPLE_RATE))
    nothing = decoding.decode(clip, frames=0).wave
    assert nothing is not None
    assert len(nothing) == 0  # no silence where nothing was heard
    clip.write_bytes(wav(samples.astype(np.float32), rate=SAMPLE_RATE))
    found = dict(cut(clip, Part(0, 0.9), Part(1.2, 1.8), Part(2.2, 3)))
    parts = {number: part for number, part in found.items() if not isinstance(part, decoding.MediaError)}
    assert [None if (wave := parts[i].wave) is None else len(wave) for i in range(3)] == [14_400, 0, 12_800]
    assert ["silenced" in parts[i].damage for i in range(3)] == [False, True, False]


def test_a_hole_of_hours_is_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    reader = cutting._Reader(_scan(), {"audio"})
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 160), np.int16), format="s16", layout="mono")
    frame.sample_rate = SAMPLE_RATE
    reader.take(frame, 3600.0, [])
    with pytest.raises(decoding.MediaError, match="has a hole of 9999 s in its sound"):
        reader.take(frame, 3600.01 + 9999, [])


def _scan() -> cutting.Scan:
    return cutting.Scan(
        seconds=1, promised=0, start=0, audio_seconds=1, video_start=0, video_end=0, video_rate=25
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(5000, 3), (3, 5000), (1, 1), (19, 19)])
def test_no_face_fits_into_a_picture_that_is_too_narrow(shape: tuple[int, int]):
    (found,) = faces.haar(np.zeros((1, *shape, 3), np.uint8))
    assert len(found.boxes) == 0


def test_titles_in_any_encoding(tmp_path: Path):
    clip = tmp_path / "a.wav"
    clip.write_bytes(wav(np.zeros(1600, np.int16), rate=16_000, title=b"caf\xe9"))
    assert decoding.decode(clip, frames=0).seconds == pytest.approx(0.1)
    assert decoding.is_media(clip)


def test_a_look_at_a_file_never_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A table's clips are looked at in the main process."""

    def opens(*_, **__):
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    monkeypatch.setattr(decoding.av, "open", opens)
    clip = tmp_path / "a.mp4"
    clip.write_bytes(struct.pack(">20I", *range(20)))
    assert not decoding.is_media(clip)
