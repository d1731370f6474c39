"""A recording that is cut while it is decoded gives the same sound and frames as when it is decoded whole."""

import weakref
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import BLUE, GREEN, RED, sine, write_clip, write_wav

from jmer.base.types import SAMPLE_RATE, Media
from jmer.media import container, cutting, decoding
from jmer.media.cutting import Part, cut

COLOURS = [RED] * 10 + [GREEN] * 10 + [BLUE] * 10  # three seconds at 10 frames a second


def cut_all(path: Path, parts: list[Part], *, frames: int = 4) -> list[Media | container.MediaError]:
    found = list(cut(path, parts, frames=lambda seconds: frames))
    assert sorted(number for number, _ in found) == list(range(len(parts)))
    return [result for _, result in sorted(found, key=lambda pair: pair[0])]


def media(result: Media | container.MediaError) -> Media:
    assert isinstance(result, Media), result
    return result


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    tones = [sine(hertz, seconds=1, rate=48_000) for hertz in (300, 600, 900)]
    path = tmp_path_factory.mktemp("clips") / "three.mp4"
    return write_clip(path, colours=COLOURS, fps=10, samples=np.concatenate(tones), rate=48_000)


def test_the_whole_is_what_decoding_gives(clip: Path):
    whole = decoding.decode(clip, frames=9)
    (got,) = cut_all(clip, [Part(0.0, whole.seconds)], frames=9)
    got = media(got)
    assert whole.wave is not None
    assert got.wave is not None
    assert abs(len(got.wave) - len(whole.wave)) <= 0.03 * SAMPLE_RATE
    n = min(len(got.wave), len(whole.wave)) - 800
    lag = int(np.argmax(np.correlate(got.wave[:n], whole.wave[800 : n - 800], "valid"))) - 800
    assert abs(lag) <= 0.03 * SAMPLE_RATE
    np.testing.assert_array_equal(got.frames, whole.frames)
    assert got.damage == ""


def test_parts_have_the_sound_and_the_frames_of_their_time(clip: Path):
    parts = [Part(2.1, 2.9), Part(0.1, 0.9), Part(1.1, 1.9), Part(0.5, 2.5)]
    *single, overlapping = map(media, cut_all(clip, parts))
    for got, hertz, colour in zip(single, (900, 300, 600), (BLUE, RED, GREEN), strict=True):
        assert got.wave is not None
        assert got.frames is not None
        assert got.frame_times is not None
        assert len(got.wave) == pytest.approx(0.8 * SAMPLE_RATE, abs=2)
        spectrum = np.abs(np.fft.rfft(got.wave * np.hanning(len(got.wave))))
        assert np.argmax(spectrum) / 0.8 == pytest.approx(hertz, abs=5)
        assert np.abs(got.frames[:, -8, -8].astype(int) - colour).max() < 40
        np.testing.assert_allclose(got.frame_times, [0.1, 0.3, 0.5, 0.7], atol=0.11)
        assert (got.seconds, got.damage) == (pytest.approx(0.8), "")
    assert overlapping.frames is not None
    shown = [int(np.argmax(frame[-8, -8])) for frame in overlapping.frames]
    assert shown == [0, 1, 1, 2]


def test_a_part_comes_before_the_rest_is_read_and_its_sound_is_forgotten(tmp_path: Path, monkeypatch):
    long = write_wav(tmp_path / "long.wav", np.tile(sine(300, seconds=10, rate=16_000), 12), rate=16_000)
    read, held = [], []
    packets = cutting.packets_of
    monkeypatch.setattr(cutting, "packets_of", lambda *a: (read.append(p) or p for p in packets(*a)))
    forget = cutting._Reader.forget

    def watched(self, *, before):
        forget(self, before=before)
        held.append(sum(len(x) for _, x in self._held) / SAMPLE_RATE)

    monkeypatch.setattr(cutting._Reader, "forget", watched)
    total = len(list(packets(container.open_clip(long), container.streams_of(container.open_clip(long)))))
    found = cut(long, [Part(10.0 * i, 10.0 * i + 5) for i in range(12)], frames=lambda seconds: 0)
    assert next(found)[0] == 0
    assert len(read) < total / 10
    assert len(list(found)) == 11
    assert max(held) < 12


def test_beyond_the_end(clip: Path):
    whole, cut_short, late = cut_all(clip, [Part(0.0, 1.0), Part(2.0, 9.0), Part(7.0, 8.0)])
    assert media(whole).damage == ""
    assert "goes beyond the end of the recording, which lasts 3.0 s" in media(cut_short).damage
    assert media(cut_short).seconds == pytest.approx(1.0, abs=0.1)
    assert "begins after the end of the recording, which lasts 3.0 s" in str(late)


def test_sound_that_begins_late_is_at_its_time(tmp_path: Path):
    tone = sine(300, seconds=3, rate=16_000)
    clip = write_clip(tmp_path / "late.mkv", colours=[RED] * 40, fps=10, samples=tone, audio_delay=1.0)
    before, during = map(media, cut_all(clip, [Part(0.0, 0.9), Part(1.2, 2.0)]))
    assert before.wave is not None
    assert during.wave is not None
    assert np.abs(before.wave).max() < 0.01
    assert np.abs(during.wave).max() > 0.3


def test_one_track_alone(tmp_path: Path):
    blind = write_wav(tmp_path / "a.wav", sine(300, seconds=2, rate=8_000), rate=8_000)
    (got,) = map(media, cut_all(blind, [Part(0.5, 1.5)]))
    assert (got.frames, got.sound_only, got.damage) == (None, True, "")
    silent = write_clip(tmp_path / "b.mp4", colours=COLOURS, fps=10)
    first, last = map(media, cut_all(silent, [Part(0.0, 1.0), Part(2.0, 3.0)]))
    assert first.wave is None
    assert last.frames is not None
    assert int(np.argmax(last.frames[0, -8, -8])) == 2


def test_video_is_not_decoded_where_no_frame_is_wanted(clip: Path):
    (got,) = map(media, cut_all(clip, [Part(0.0, 1.0)], frames=0))
    assert got.frames is None
    assert got.damage == ""


def test_a_damaged_recording_fails_in_its_damaged_part(tmp_path: Path, clip: Path):
    cut_off = tmp_path / "cut.mp4"
    cut_off.write_bytes(clip.read_bytes()[: clip.stat().st_size // 3])
    with pytest.raises(container.MediaError):
        cut_all(cut_off, [Part(0.0, 1.0)])
    text = tmp_path / "text.mp4"
    text.write_text("no clip")
    with pytest.raises(container.MediaError, match="cannot be opened"):
        cut_all(text, [Part(0.0, 1.0)])


def test_real_recordings(shared: Path):
    file = shared / "datasets/grid/bbaf2n.mpg"
    whole = decoding.decode(file, frames=4)
    parts = [Part(0.0, 1.0), Part(1.0, 2.0)]
    for i, got in enumerate(map(media, cut_all(file, parts))):
        assert got.wave is not None
        assert whole.wave is not None
        own = whole.wave[i * SAMPLE_RATE : (i + 1) * SAMPLE_RATE]
        assert abs(got.wave.std() - own.std()) < 0.3 * own.std()
        assert got.frames is not None
        assert got.damage == ""


def test_a_part_begins_with_the_frame_on_show(tmp_path: Path):
    slow = write_clip(tmp_path / "slow.mp4", colours=[RED, GREEN, BLUE], fps=1)
    (got,) = map(media, cut_all(slow, [Part(1.2, 1.8)], frames=2))
    assert got.frames is not None
    assert [int(np.argmax(frame[-8, -8])) for frame in got.frames] == [1, 1]


def test_a_track_that_has_ended_is_not_waited_for(tmp_path: Path, monkeypatch):
    short = sine(300, seconds=1, rate=16_000)
    clip = write_clip(tmp_path / "short.mkv", colours=[RED] * 200, fps=1, samples=short, audio_codec="flac")
    read, packets = [], cutting.packets_of
    monkeypatch.setattr(cutting, "packets_of", lambda *a: (read.append(p.stream.type) or p for p in packets(*a)))
    found = cut(clip, [Part(2.0, 4.0), Part(190.0, 195.0)], frames=lambda seconds: 1)
    number, first = next(found)
    assert number == 0
    assert media(first).frames is not None
    assert read.count("video") < 150


def test_a_hole_in_the_sound_is_silence(tmp_path: Path):
    """Sound from 0 to 1 s and from 3 to 4 s, as a file has it where packets were lost."""
    clip = tmp_path / "hole.mkv"
    with av.open(str(clip), "w") as out:
        stream = out.add_stream("flac", rate=16_000, layout="mono")
        for begin in (0, 48_000):
            for at in range(0, 16_000, 4_000):
                tone = (16_000 * sine(440, seconds=0.25, rate=16_000)).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 16_000, begin + at, Fraction(1, 16_000)
                for packet in stream.encode(frame):
                    packet.pts = packet.dts = round((begin + at) / 16)
                    packet.time_base = Fraction(1, 1000)
                    out.mux(packet)
    before, within, after = map(media, cut_all(clip, [Part(0.2, 0.8), Part(1.5, 2.5), Part(3.3, 3.8)]))
    levels = [float(np.sqrt((got.wave**2).mean())) for got in (before, within, after) if got.wave is not None]
    assert levels[1] == 0
    assert levels[2] == pytest.approx(levels[0], rel=0.05)
    assert levels[0] > 0.1


def test_frames_of_parts_that_are_over_are_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An hour of film has a thousand utterances, whose frames would take gigabytes."""
    held = weakref.WeakSet[cutting.FramePicker]()

    class Watched(cutting.FramePicker):
        def __init__(self, **options):
            super().__init__(**options)
            held.add(self)

    monkeypatch.setattr(cutting, "FramePicker", Watched)
    recording = write_clip(tmp_path / "a.mp4", colours=[RED] * 250, samples=sine(440, seconds=10, rate=16_000))
    for number, _ in cut(recording, [Part(i, i + 1) for i in range(10)], frames=lambda _: 4):
        assert len(held) <= 11 - number  # itself and those to come, and the one before, which the loop still names
