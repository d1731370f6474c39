"""Acoustic features of sounds whose properties are known."""

import warnings

import numpy as np
import pytest
from scipy.fft import dct

from jmer.base.types import SAMPLE_RATE, Media
from jmer.features.audio import lite
from jmer.features.audio.lite import MELS, MFCC, MFCCS, PROSODY, LiteAudio, LogMel, Prosody, describe

TIME = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def harmonic(f0: np.ndarray) -> np.ndarray:
    """A voice-like tone whose F0 in Hz is `f0[t]`."""
    phase = 2 * np.pi * np.cumsum(f0) / SAMPLE_RATE
    return np.sum([0.1 * np.sin(k * phase) / k for k in range(1, 6)], axis=0).astype(np.float32)


def media(wave: np.ndarray) -> Media:
    return Media(wave=wave.astype(np.float32), frames=None, seconds=len(wave) / SAMPLE_RATE)


def prosody(wave: np.ndarray) -> dict[str, float]:
    return dict(zip(PROSODY, describe(wave.astype(np.float32))[0][-len(PROSODY) :].tolist(), strict=True))


@pytest.mark.parametrize("f0", [80.0, 120.0, 220.0, 400.0])
def test_f0_of_a_steady_voice(f0: float):
    found = prosody(harmonic(np.full_like(TIME, f0)))
    assert found["f0_mean"] == pytest.approx(np.log2(f0), abs=0.02)
    assert found["f0_std"] < 0.02
    assert found["voiced"] > 0.95


def test_f0_slope_is_octaves_a_second():
    found = prosody(harmonic(120 * 2 ** (0.5 * TIME)))
    assert found["f0_slope"] == pytest.approx(0.5, abs=0.02)
    assert found["f0_range"] == pytest.approx(0.9, abs=0.05)  # 5 % to 95 % of one octave
    assert prosody(harmonic(240 / 2 ** (0.5 * TIME)))["f0_slope"] == pytest.approx(-0.5, abs=0.02)


@pytest.mark.parametrize("wave", [RNG.normal(0, 0.1, len(TIME)), np.zeros_like(TIME), np.full_like(TIME, 0.5)])
def test_noise_silence_and_offset_are_not_voiced(wave: np.ndarray):
    found = prosody(wave)
    assert found["voiced"] < 0.05
    if not wave.std():
        assert found["energy_mean"] == -100
        assert found["pause"] == 1


def test_energy_in_decibels():
    wave = harmonic(np.full_like(TIME, 150.0))
    rms = 20 * np.log10(np.sqrt((wave.astype(float) ** 2).mean()))
    assert prosody(wave)["energy_mean"] == pytest.approx(rms, abs=0.3)
    assert prosody(wave / 10)["energy_mean"] == pytest.approx(rms - 20, abs=0.3)
    assert prosody(wave * 10 ** (TIME / 2))["energy_slope"] == pytest.approx(10, abs=0.5)  # dB a second


def test_jitter_and_shimmer_of_cycles_that_differ():
    def pulses(length: float, height: float) -> np.ndarray:
        """Every other cycle is longer and louder by these shares than the one before it."""
        wave, at, odd = np.zeros(2 * SAMPLE_RATE), 100.0, False
        while at < len(wave) - 200:
            x = (np.arange(len(wave)) - at) / 8
            wave += (1 + height * odd) * (1 - x**2) * np.exp(-0.5 * x**2)  # of mean 0
            at, odd = at + 120 * (1 + length * odd), not odd
        return 0.3 * wave

    for length, height in ((0.0, 0.0), (0.02, 0.0), (0.0, 0.1), (0.02, 0.1)):  # more, and two cycles are the period
        found = prosody(pulses(length, height))
        assert found["jitter"] == pytest.approx(length / (1 + length / 2), abs=0.003)
        assert found["shimmer"] == pytest.approx(height / (1 + height / 2), abs=0.01)
    assert prosody(RNG.normal(0, 0.1, len(TIME)))["jitter"] < 1


def test_parts_are_those_of_the_whole_and_sequences_their_frames():
    wave = harmonic(120 * 2 ** (0.5 * TIME))
    whole = LiteAudio(sequence_frames=1000).prepare(media(wave)).payload
    parts = [cls(sequence_frames=1000).prepare(media(wave)).payload for cls in (MFCC, LogMel, Prosody)]
    mfcc, mel, prosodic = (part.vector for part in parts)
    half, band = len(mfcc) // 2, len(mel) // 2
    order = [mfcc[:half], mel[:band], mfcc[half:], mel[band:], prosodic]
    np.testing.assert_array_equal(whole.vector, np.concatenate(order))
    length = len(whole.sequence)
    assert length == pytest.approx(200, abs=2)  # every 10 ms
    np.testing.assert_array_equal(whole.sequence, np.concatenate([part.sequence[:length] for part in parts], axis=1))
    assert whole.sequence.shape[1] == LiteAudio().frame_dim
    few = LiteAudio(sequence_frames=10).prepare(media(wave)).payload
    assert few.sequence.shape == (10, LiteAudio().frame_dim)
    np.testing.assert_allclose(few.sequence.mean(axis=0), whole.sequence.mean(axis=0), atol=0.2)


def test_pauses_and_syllables():
    wave = harmonic(np.full_like(TIME, 150.0)) * (np.sin(2 * np.pi * 4 * TIME) > 0)  # 4 bursts a second
    assert prosody(wave)["peak_rate"] == pytest.approx(4, abs=1)
    wave = harmonic(np.full_like(TIME, 150.0)) * ((TIME < 0.5) | (TIME > 1.5))
    found = prosody(wave)
    assert found["pause"] == pytest.approx(0.5, abs=0.03)
    assert found["longest_pause"] == pytest.approx(0.5, abs=0.03)
    assert found["pause_rate"] == pytest.approx(0.5)  # one in 2 seconds
    assert found["log_seconds"] == pytest.approx(np.log(2))


def test_spectral_means_against_numpy():
    wave = (0.1 * np.sin(2 * np.pi * 1000 * TIME)).astype(np.float32)
    features, _ = describe(wave)
    means, deviations = np.split(features[: -len(PROSODY)], 2)
    log_mel = means[3 * MFCCS :]
    assert len(log_mel) == MELS
    # The band of 1 kHz on Slaney's mel scale (linear up to there): bands are even in mel from 20 Hz to 8 kHz.
    top = 15 + np.log(8) / np.log(6.4) * 27
    low = 20 / (200 / 3)
    assert log_mel.argmax() == np.abs(low + (np.arange(MELS) + 1) / (MELS + 1) * (top - low) - 15).argmin()
    np.testing.assert_allclose(means[:MFCCS], np.asarray(dct(log_mel, norm="ortho"))[:MFCCS], rtol=1e-3, atol=1e-3)
    assert np.abs(means[MFCCS : 3 * MFCCS]).max() < 1  # nothing changes, so the deltas vanish
    assert deviations.min() >= 0


@pytest.mark.parametrize("samples", [512, 513, 700, 1600])
def test_short_sounds_are_finite(samples: int):
    for wave in (np.zeros(samples), RNG.normal(0, 0.1, samples), np.eye(1, samples)[0]):
        prepared = LiteAudio().prepare(media(wave))
        assert prepared.status == "ok"
        vector = prepared.payload.vector
        assert vector.shape == (LiteAudio().dim,)
        assert vector.dtype == np.float32
        assert np.isfinite(vector).all()


@pytest.mark.parametrize("samples", [0, 1, 511])
def test_less_than_a_window_is_absent(samples: int):
    prepared = LiteAudio().prepare(media(np.ones(samples)))
    assert prepared.payload is None
    assert prepared.status == "degraded"
    assert "less than one window" in prepared.reason


def test_f0_is_the_same_however_many_frames_are_computed_at_once(monkeypatch: pytest.MonkeyPatch):
    """Clips of minutes are computed in parts, since their frames would take gigabytes."""
    rng = np.random.default_rng(0)
    wave = (np.sin(np.cumsum(0.06 + 0.01 * rng.normal(size=50_000))) / 3).astype(np.float32)
    whole = lite._f0(wave)
    monkeypatch.setattr(lite, "_F0_FRAMES", 32)
    for at_once, in_parts in zip(whole, lite._f0(wave), strict=True):
        np.testing.assert_array_equal(in_parts, at_once)


def test_a_voice_that_begins_with_the_last_frame_has_no_cycles():
    """The last frame of a wave of a whole number of frames is centred on the wave's end."""
    wave = harmonic(np.full(3200, 200.0))
    times, heights = lite._peaks(wave, np.full(21, 200.0), 20, 21)
    assert len(times) == len(heights) == 0
