from pathlib import Path

import numpy as np
import pytest
from media_files import BLUE, GREEN, RED, sine, write_clip, write_wav

from jmer.base.types import SAMPLE_RATE
from jmer.media import decoding

TEXT = "This is not a clip, whatever its name says.\n" * 200
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000000301010018dd8db0"
    "0000000049454e44ae426082"
)
GIF = bytes.fromhex("47494638396101000100800000ff0000ffffff21f90401000000002c00000000010001000002024401003b")


def pitch(wave: np.ndarray) -> float:
    """Returns the strongest frequency, in Hz."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return float(np.argmax(spectrum)) * SAMPLE_RATE / len(wave)


def peak(wave: np.ndarray) -> float:
    """Returns the amplitude of a sine, measured away from its ends."""
    return float(np.sqrt(2) * wave[1600:-1600].std())


def middle_colours(frames: np.ndarray) -> np.ndarray:
    return frames[:, -8, -8].astype(int)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_wave_is_16_khz_whatever_the_rate(tmp_path: Path, rate: int):
    path = write_wav(tmp_path / "a.wav", sine(440, seconds=1.5, rate=rate), rate=rate)

    got = decoding.decode(path, frames=4)

    assert got.wave is not None
    assert got.wave.dtype == np.float32
    assert abs(len(got.wave) - 1.5 * SAMPLE_RATE) <= 1
    assert pitch(got.wave) == pytest.approx(440, abs=1)
    assert peak(got.wave) == pytest.approx(0.5, rel=0.01)
    assert got.seconds == pytest.approx(1.5, abs=0.01)
    assert (got.frames, got.sound_only, got.damage) == (None, True, "")


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 8])
def test_the_same_sound_in_every_channel_stays_as_loud(tmp_path: Path, channels: int):
    tone = sine(300, seconds=1, rate=48_000, peak=0.9)
    path = write_wav(tmp_path / "a.wav", np.tile(tone, (channels, 1)), rate=48_000)

    wave = decoding.decode(path, frames=0).wave

    assert wave is not None
    assert peak(wave) == pytest.approx(0.9, rel=0.01)
    assert np.abs(wave).max() <= 1


def test_both_sides_of_stereo_are_heard(tmp_path: Path):
    left, right = (sine(frequency, seconds=1, rate=16_000) for frequency in (300, 700))
    wave = decoding.decode(write_wav(tmp_path / "a.wav", np.stack([left, right]), rate=16_000), frames=0).wave

    assert wave is not None
    np.testing.assert_allclose(wave, (left + right) / 2, atol=1e-3)


def test_what_16_khz_cannot_hold_is_filtered_out(tmp_path: Path):
    path = write_wav(tmp_path / "a.wav", sine(11_000, seconds=1, rate=48_000), rate=48_000)
    wave = decoding.decode(path, frames=0).wave

    assert wave is not None
    assert peak(wave) < 0.005


@pytest.mark.parametrize("rate", [8_000, 22_050, 96_000])
def test_sound_is_not_shifted(tmp_path: Path, rate: int):
    clicks = np.zeros(2 * rate)
    clicks[[rate // 2, 3 * rate // 2]] = 0.9
    wave = decoding.decode(write_wav(tmp_path / "a.wav", clicks, rate=rate), frames=0).wave

    assert wave is not None
    assert np.abs(wave[:16_000]).argmax() == 8_000
    assert np.abs(wave[16_000:]).argmax() == 8_000


@pytest.mark.parametrize(
    ("name", "video_codec", "audio_codec", "rate", "layout"),
    [
        ("a.mp4", "libx264", "aac", 44_100, "stereo"),
        ("a.mp4", "libx264", "aac", 48_000, "5.1"),
        ("a.mkv", "libx264", "aac", 16_000, "mono"),
        ("a.avi", "mpeg4", "mp3", 44_100, "stereo"),
        ("a.mpg", "mpeg1video", "mp2", 44_100, "stereo"),
        ("a.ts", "mpeg2video", "mp2", 48_000, "mono"),
    ],
)
def test_video_formats(tmp_path: Path, name: str, video_codec: str, audio_codec: str, rate: int, layout: str):
    path = write_clip(
        tmp_path / name,
        colours=[RED] * 25 + [GREEN] * 25 + [BLUE] * 25,
        video_codec=video_codec,
        samples=sine(440, seconds=3, rate=rate),
        audio_codec=audio_codec,
        rate=rate,
        layout=layout,
    )

    got = decoding.decode(path, frames=9)

    assert got.damage == ""
    assert not got.sound_only
    assert got.seconds == pytest.approx(3, abs=0.15)
    assert decoding.seconds(path) == pytest.approx(3, abs=0.15)
    assert got.wave is not None
    assert len(got.wave) == pytest.approx(3 * SAMPLE_RATE, rel=0.04)
    assert pitch(got.wave) == pytest.approx(440, abs=1)
    assert got.frames is not None
    assert got.frames.shape == (9, 64, 96, 3)
    assert got.frames.dtype == np.uint8
    np.testing.assert_allclose(middle_colours(got.frames), [RED] * 3 + [GREEN] * 3 + [BLUE] * 3, atol=20)
    assert got.frames[:, :24, :40].max() < 40, "the black corner is top left"


def test_each_frame_is_from_the_middle_of_its_share(tmp_path: Path):
    greys = [(4 * index, 4 * index, 4 * index) for index in range(60)]
    path = write_clip(tmp_path / "a.mp4", colours=greys)

    frames = decoding.decode(path, frames=6).frames

    assert frames is not None
    np.testing.assert_allclose(middle_colours(frames)[:, 0] / 4, [5, 15, 25, 35, 45, 55], atol=0.8)


def test_fewer_frames_than_asked_for_are_repeated(tmp_path: Path):
    one = decoding.decode(write_clip(tmp_path / "one.mp4", colours=[GREEN]), frames=5)
    two = decoding.decode(write_clip(tmp_path / "two.mp4", colours=[RED, BLUE]), frames=4)

    assert one.frames is not None
    np.testing.assert_allclose(middle_colours(one.frames), [GREEN] * 5, atol=20)
    assert two.frames is not None
    np.testing.assert_allclose(middle_colours(two.frames), [RED, RED, BLUE, BLUE], atol=20)


def test_timestamps_missing(tmp_path: Path):
    path = write_clip(tmp_path / "a.h264", colours=[RED] * 25 + [BLUE] * 25, options={"framerate": "25"})

    got = decoding.decode(path, frames=4)

    assert got.frames is not None
    np.testing.assert_allclose(middle_colours(got.frames), [RED, RED, BLUE, BLUE], atol=20)
    assert got.seconds == pytest.approx(2, abs=0.1)


def test_tracks_that_are_absent(tmp_path: Path):
    silent = decoding.decode(write_clip(tmp_path / "silent.mp4", colours=[RED] * 10), frames=2)
    tone = sine(440, seconds=1, rate=16_000)
    blind = decoding.decode(write_clip(tmp_path / "blind.mp4", samples=tone), frames=2)
    m4a = decoding.decode(write_clip(tmp_path / "a.m4a", samples=tone), frames=2)
    mp3 = decoding.decode(write_clip(tmp_path / "a.mp3", samples=tone, audio_codec="mp3"), frames=2)

    assert silent.wave is None
    assert silent.frames is not None
    assert blind.frames is m4a.frames is mp3.frames is None
    # An mp4 without a video track lacks something; an audio file does not.
    assert [clip.sound_only for clip in (silent, blind, m4a, mp3)] == [False, False, True, True]
    assert {clip.damage for clip in (silent, blind, m4a, mp3)} == {""}


def test_no_frames_asked_for(tmp_path: Path):
    clip = write_clip(tmp_path / "a.mp4", colours=[RED] * 25, samples=sine(440, seconds=1, rate=16_000))
    got = decoding.decode(clip, frames=0)

    assert got.frames is None
    assert got.wave is not None
    assert decoding.decode(write_clip(tmp_path / "silent.mp4", colours=[RED] * 25), frames=0).wave is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be opened"),
        (TEXT.encode(), "cannot be opened"),
        (PNG, "holds no video and no audio"),
        (bytes(100_000), "cannot be opened"),
        (b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp42" + bytes(5_000), "cannot be opened"),
    ],
)
def test_unreadable(tmp_path: Path, content: bytes, reason: str):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)

    with pytest.raises(decoding.MediaError, match=reason) as caught:
        decoding.decode(path, frames=4)

    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(decoding.MediaError):
        decoding.seconds(path)


def test_missing_file(tmp_path: Path):
    with pytest.raises(decoding.MediaError, match="No such file"):
        decoding.decode(tmp_path / "none.mp4", frames=4)


def test_truncated(tmp_path: Path):
    rng = np.random.default_rng(0)
    colours = [tuple(rng.integers(0, 256, 3).tolist()) for _ in range(100)]
    noise = rng.uniform(-0.5, 0.5, 64_000).astype(np.float32)
    path = write_clip(tmp_path / "a.mp4", colours=colours, samples=noise, options={"movflags": "faststart"})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])

    got = decoding.decode(path, frames=4)

    assert 1 < got.seconds < 3
    assert f"ends after {got.seconds:.1f} of 4." in got.damage
    assert got.wave is not None
    assert len(got.wave) / SAMPLE_RATE == pytest.approx(got.seconds, abs=0.3)
    assert got.frames is not None

    path = write_clip(
        path, colours=colours, samples=noise
    )  # here the index, without which nothing works, is at the end
    path.write_bytes(path.read_bytes()[: len(whole) // 2])
    with pytest.raises(decoding.MediaError):
        decoding.decode(path, frames=4)
    assert decoding.is_media(path), "damaged, but a video"


def overwrite(path: Path, *, every: int) -> Path:
    """Writes noise into the middle of the file, 100 bytes at a time."""
    content = bytearray(path.read_bytes())
    for start in range(len(content) // 3, len(content) // 3 * 2, every):
        content[start : start + 100] = np.random.default_rng(start).bytes(100)
    path.write_bytes(content)
    return path


def test_damaged_video(tmp_path: Path):
    rng = np.random.default_rng(0)
    colours = [tuple(rng.integers(0, 256, 3).tolist()) for _ in range(100)]
    clip = overwrite(write_clip(tmp_path / "a.mpg", colours=colours, video_codec="mpeg1video"), every=3_000)

    got = decoding.decode(clip, frames=8)

    assert got.frames is not None
    assert "video frames are damaged" in got.damage


def test_damaged_sound(tmp_path: Path):
    clip = write_clip(tmp_path / "a.flac", samples=sine(440, seconds=4, rate=16_000), audio_codec="flac")
    got = decoding.decode(overwrite(clip, every=500), frames=8)

    assert got.wave is not None
    assert f"{len(got.wave) / SAMPLE_RATE:.1f} of 4.0 s of sound could be decoded" in got.damage


def test_a_miscut_clip_is_not_decoded(tmp_path: Path):
    path = write_wav(tmp_path / "a.wav", np.zeros(8_000 * 70), rate=8_000)

    with pytest.raises(
        decoding.MiscutError, match=r"mis-cut clip: lasts 70\.0 s where the utterance lasts at most 14\.0 s"
    ):
        decoding.decode(path, frames=4, max_seconds=14.0)
    assert decoding.decode(path, frames=4).seconds == pytest.approx(70), "where nothing limits it, any length will do"
    assert decoding.decode(path, frames=4, max_seconds=80.0).seconds == pytest.approx(70)


def test_is_media_judges_by_content(tmp_path: Path):
    tone = sine(440, seconds=1, rate=16_000)
    clips = [
        write_wav(tmp_path / "a.wav", tone, rate=16_000),
        write_clip(tmp_path / "a.flac", samples=tone, audio_codec="flac"),
        write_clip(tmp_path / "a.mp3", samples=tone, audio_codec="mp3"),
        write_clip(tmp_path / "a.aac", samples=tone),
        write_clip(tmp_path / "a.opus", samples=sine(440, seconds=1, rate=48_000), rate=48_000, audio_codec="libopus"),
        write_clip(tmp_path / "a.aiff", samples=tone, audio_codec="pcm_s16be"),
        write_clip(tmp_path / "a.m4a", samples=tone),
        write_clip(tmp_path / "a.mp4", colours=[RED] * 5),
        write_clip(tmp_path / "a.mov", colours=[RED] * 5),
        write_clip(tmp_path / "a.mkv", colours=[RED] * 5),
        write_clip(tmp_path / "a.avi", colours=[RED] * 5, video_codec="mpeg4"),
        write_clip(tmp_path / "a.mpg", colours=[RED] * 5, video_codec="mpeg1video"),
        write_clip(tmp_path / "a.ts", colours=[RED] * 5, video_codec="mpeg2video"),
    ]
    for clip in clips:
        assert decoding.is_media(clip), clip.name
        renamed = clip.rename(tmp_path / f"{clip.suffix[1:]}.txt")
        assert decoding.is_media(renamed), clip.name

    others = {
        "text.mp4": TEXT.encode(),
        "text.mp3": TEXT.encode(),
        "table.wav": b"dialogue,utterance,speaker\n" * 500,
        "subtitles.mp4": b"1\n00:00:01,000 --> 00:00:02,000\nHello\n\n" * 50,
        "picture.mp4": PNG,
        "picture.avi": GIF,
        "photo.mp4": bytes.fromhex("ffd8ffe000104a46494600010101006000600000") + bytes(500),
        "webp.mp4": b"RIFF\x24\x00\x00\x00WEBPVP8 " + bytes(100),
        "photo.mov": b"\x00\x00\x00\x18ftypheic" + bytes(100),
        "paper.mp4": b"%PDF-1.7\n" + TEXT.encode(),
        "archive.mp4": b"PK\x03\x04" + np.random.default_rng(0).bytes(50_000),
        "random.mp4": np.random.default_rng(1).bytes(50_000),
        "empty.mp4": b"",
        "utf16.mp3": TEXT.encode("utf-16"),
        "playlist.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    }
    for name, content in others.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert not decoding.is_media(path), name
    assert not decoding.is_media(tmp_path)
    assert not decoding.is_media(tmp_path / "none.mp4")


def test_real_clips(shared: Path):
    talking = decoding.decode(shared / "datasets/grid/bbaf2n.mpg", frames=16)
    assert talking.frames is not None
    assert talking.frames.shape == (16, 288, 360, 3)
    assert talking.wave is not None
    assert len(talking.wave) == pytest.approx(3 * SAMPLE_RATE, rel=0.02)
    assert (talking.damage, talking.sound_only) == ("", False)

    acted = decoding.decode(shared / "datasets/ravdess/clips/01-01-01-01-01-01-01.mp4", frames=16)
    assert acted.frames is not None
    assert acted.frames.shape == (16, 720, 1280, 3)
    assert acted.wave is not None
    assert (acted.damage, acted.seconds) == ("", pytest.approx(3.3, abs=0.05))
    # The clip shows a face before a white wall, so the middle is skin, with more red than blue.
    assert acted.frames[:, 5, 5].min() > 200
    assert acted.frames[8, 330, 640, 0] > acted.frames[8, 330, 640, 2] + 20

    spoken = decoding.decode(shared / "datasets/ravdess/speech_16k_flac/03-01-04-01-02-01-08.flac", frames=16)
    assert spoken.wave is not None
    assert (len(spoken.wave), spoken.sound_only, spoken.damage) == (57_124, True, "")


@pytest.mark.parametrize(("video_delay", "audio_delay"), [(0.0, 0.0), (1.2, 0.4), (0.0, 0.4)])
@pytest.mark.parametrize(
    ("name", "video_codec", "audio_codec", "rate"),
    [
        ("a.mp4", "libx264", "aac", 44_100),
        ("a.mkv", "mpeg4", "pcm_s16le", 48_000),
        ("a.mpg", "mpeg1video", "mp2", 44_100),
        ("a.ts", "mpeg2video", "mp2", 48_000),
    ],
)
def test_frames_are_timed_by_the_sound(
    tmp_path: Path, name: str, video_codec: str, audio_codec: str, rate: int, video_delay: float, audio_delay: float
):
    """A flash and a bang stay at the same moment, whenever the two tracks start."""
    moment, length = 2.0, 0.02
    bang = np.zeros(round((3 - audio_delay) * rate), np.float32)
    start = round((moment - audio_delay) * rate)
    bang[start : start + round(length * rate)] = sine(800, seconds=length, rate=rate, peak=0.8)
    path = write_clip(
        tmp_path / name,
        colours=[(30, 30, 30)] * round((moment - video_delay) * 25) + [(220, 220, 220)] * 25,
        video_codec=video_codec,
        samples=bang,
        audio_codec=audio_codec,
        rate=rate,
        video_delay=video_delay,
        audio_delay=audio_delay,
    )

    got = decoding.decode(path, frames=37)  # not a multiple of the clip's, so that no frame is at its wanted time

    assert got.frames is not None
    assert got.frame_times is not None
    assert got.wave is not None
    assert (got.frame_times.shape, got.frame_times.dtype) == ((37,), np.float64)
    flash = got.frame_times[np.argmax(middle_colours(got.frames)[:, 0] > 125)]
    heard = np.argmax(np.abs(got.wave) > 0.3) / SAMPLE_RATE
    # The first bright frame that was kept is the first of the clip, or the one 0.04 s later.
    assert min(abs(flash - heard), abs(flash - 0.04 - heard)) < 0.01
    assert got.frame_times[0] == pytest.approx(video_delay - audio_delay, abs=0.08)


def test_frames_are_timed_when_they_appear(tmp_path: Path):
    silent = decoding.decode(write_clip(tmp_path / "a.mp4", colours=[RED] * 10, fps=5, video_delay=0.6), frames=4)
    few = decoding.decode(write_clip(tmp_path / "b.mp4", colours=[RED, BLUE]), frames=4)
    sound = decoding.decode(write_wav(tmp_path / "a.wav", np.zeros(8_000), rate=8_000), frames=4)

    # The middles of the quarters of 2 s are 0.25, 0.75, ...; the frames on show then appeared at 0.2, 0.6, ...
    assert silent.frame_times == pytest.approx([0.2, 0.6, 1.2, 1.6])
    assert few.frame_times == pytest.approx([0, 0, 0.04, 0.04])
    assert sound.frame_times is None
