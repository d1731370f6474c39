"""Each perturbation does what its name says, and the generator alone decides its parameters."""

import re
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from jmer.base.errors import UserError
from jmer.base.types import SAMPLE_RATE
from jmer.features import perturb

TIME = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
LEXICON = {"glad": ("happy",), "happy": ("glad",), "big": ("huge", "large"), "idiot": ("fool",)}
TEXTS = (
    "Oh my God! I can't believe you did that, Ross.",
    "I know",
    "Never, never again... not with him!",
    "I'm glad.",
    "“Really?” she said; nobody knew, and that's no joke",
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen",
)


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def generators(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in range(count)]


# ---- sound -----------------------------------------------------------------------------------------------------------


def tone(*hertz: float) -> np.ndarray:
    return np.sum([0.1 * np.sin(2 * np.pi * f * TIME) for f in hertz], axis=0).astype(np.float32)


def db(wave: np.ndarray) -> float:
    return 10 * np.log10(np.square(wave, dtype=np.float64).mean())


def peak(wave: np.ndarray) -> float:
    """Frequency of the highest peak of the spectrum, in Hz."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return spectrum.argmax() * SAMPLE_RATE / len(wave)


def band_db(wave: np.ndarray, low: float, high: float) -> float:
    hertz = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE)
    spectrum = np.abs(np.fft.rfft(wave))[(hertz >= low) & (hertz <= high)]
    return db(spectrum)


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 30.0])
def test_noise_is_that_far_below(snr_db: float):
    wave = tone(300)
    noise = perturb.add_noise(wave, np.random.default_rng(0), snr_db=snr_db) - wave
    assert db(wave) - db(noise) == pytest.approx(snr_db, abs=0.1)
    spectrum = np.abs(np.fft.rfft(noise)) ** 2  # white: as much in every eighth
    shares = [part.sum() / spectrum.sum() for part in np.array_split(spectrum, 8)]
    np.testing.assert_allclose(shares, 1 / 8, rtol=0.1)
    silence = np.zeros(100, np.float32)
    assert not perturb.add_noise(silence, np.random.default_rng(0), snr_db=0.0).any()


@pytest.mark.parametrize("gain", [-6.0, 3.0])
def test_gain_in_decibels(gain: float):
    assert db(perturb.change_gain(tone(300), db=gain)) == pytest.approx(db(tone(300)) + gain, abs=1e-3)


@pytest.mark.parametrize("semitones", [-2.0, 0.7, 4.0])
def test_pitch_moves_and_duration_stays(semitones: float):
    shifted = perturb.pitch_shift(tone(440), semitones=semitones)
    assert len(shifted) == len(TIME)
    middle = shifted[len(shifted) // 4 : -len(shifted) // 4]
    assert 12 * np.log2(peak(middle) / 440) == pytest.approx(semitones, abs=0.05)
    assert db(middle) == pytest.approx(db(tone(440)), abs=1)


@pytest.mark.parametrize("rate", [0.9, 1.1, 2.0])
def test_duration_changes_and_pitch_stays(rate: float):
    stretched = perturb.time_stretch(tone(440), rate=rate)
    assert len(stretched) == round(len(TIME) / rate)
    assert peak(stretched) == pytest.approx(440, abs=2)
    burst = tone(440) * (TIME < 0.5)
    loud = np.flatnonzero(np.abs(perturb.time_stretch(burst, rate=rate)) > 0.05)
    assert loud[-1] / SAMPLE_RATE == pytest.approx(0.5 / rate, abs=0.03)


def test_masks_silence_what_they_should():
    wave = np.random.default_rng(0).normal(0, 0.1, len(TIME)).astype(np.float32)
    masked = perturb.mask_spectrogram(wave, band=(1000.0, 1500.0))
    assert band_db(masked, 1060, 1440) < band_db(wave, 1060, 1440) - 30
    for low, high in ((0, 900), (1600, 8000)):
        assert band_db(masked, low, high) == pytest.approx(band_db(wave, low, high), abs=0.1)
    masked = perturb.mask_spectrogram(wave, span=(0.5, 0.7))
    inside, outside = (TIME > 0.52) & (TIME < 0.68), (TIME < 0.48) | (TIME > 0.72)
    assert np.abs(masked[inside]).max() < 1e-6
    np.testing.assert_allclose(masked[outside], wave[outside], atol=1e-6)
    np.testing.assert_allclose(perturb.mask_spectrogram(wave), wave, atol=1e-6)


@pytest.mark.parametrize("samples", [1, 100, 512, 1023, 1024, 5000])
def test_any_wave_can_be_perturbed(samples: int):
    wave = np.random.default_rng(0).uniform(-1, 1, samples).astype(np.float32)
    for rng in generators(20):
        out = perturb.perturb_wave(wave, rng)
        assert out.dtype == np.float32
        assert len(out) >= min(samples, 512), "what was long enough for the features still is"
        assert np.abs(out).max() <= 1
        assert samples < 100 or len(out) != samples or not np.array_equal(out, wave)
    assert not perturb.perturb_wave(np.zeros(samples, np.float32), np.random.default_rng(0)).any()


def test_every_subset_of_operations_comes(monkeypatch: pytest.MonkeyPatch):
    applied: list[str] = []
    names = ("pitch_shift", "time_stretch", "mask_spectrogram", "add_noise", "change_gain")
    for name in names:
        monkeypatch.setattr(perturb, name, lambda wave, *_, name=name, **__: applied.append(name) or wave)
    seen = set()
    for rng in generators(400):
        applied.clear()
        perturb.perturb_wave(tone(300), rng)
        seen.add(tuple(applied))
    assert len(seen) == 2**5 - 1


def test_random_masks_lie_within_the_wave():
    for rng in generators(200):
        masks = perturb._random_masks(0.5, rng)
        assert 0 <= masks["band"][0] < masks["band"][1] <= SAMPLE_RATE / 2 + 1e-6
        assert 0 <= masks["span"][0] < masks["span"][1] <= 0.5
        assert masks["span"][1] - masks["span"][0] <= 0.05 + 1e-9


# ---- text ------------------------------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    return re.findall(r"[\w'’-]+", text)


def punctuation(text: str) -> str:
    return re.sub(r"[\w'’\s-]", "", text)


@pytest.mark.parametrize("text", TEXTS)
def test_swap_keeps_words_and_punctuation(text: str):
    changed = 0
    for rng in generators(20):
        swapped = perturb.swap_words(text, rng, share=0.1)
        assert Counter(words(swapped)) == Counter(words(text))
        assert punctuation(swapped) == punctuation(text)
        moved = sum(a != b for a, b in zip(words(text), words(swapped), strict=True))
        assert moved <= 2 * max(1, round(0.1 * len(words(text))))
        changed += moved > 0
    assert changed >= 15


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_deletion_leaves_a_part_with_its_negations(text: str, share: float):
    negations = [word for word in words(text) if perturb._NEGATION.fullmatch(word)]
    deletable = len(words(text)) - len(negations)
    for rng in generators(20):
        left = perturb.delete_words(text, rng, share=share)
        rest = iter(words(text))
        assert all(word in rest for word in words(left)), "a subsequence"
        assert [word for word in words(left) if perturb._NEGATION.fullmatch(word)] == negations
        gone = len(words(text)) - len(words(left))
        assert gone == min(max(1, round(share * len(words(text)))), deletable, len(words(text)) - 1)
        assert words(left)
        assert left == left.strip()
        assert "  " not in left


def test_deletion_keeps_one_separator():
    left = {perturb.delete_words("Oh, my God! Stop.", rng, share=0.1) for rng in generators(40)}
    assert left == {"my God! Stop.", "Oh, God! Stop.", "Oh, my! Stop.", "Oh, my God."}


def test_synonyms_are_the_lexicons_in_the_same_case():
    def of(text: str, share: float = 1.0) -> set[str]:
        return {perturb.replace_synonyms(text, rng, LEXICON, share=share) for rng in generators(20)}

    assert of("You BIG idiot, I am Glad.") == {"You HUGE fool, I am Happy.", "You LARGE fool, I am Happy."}
    assert of("glad, glad, glad, glad", share=0.25) == {
        "happy, glad, glad, glad",
        "glad, happy, glad, glad",
        "glad, glad, happy, glad",
        "glad, glad, glad, happy",
    }
    assert of("bigger, gladly") == {"bigger, gladly"}
    assert of("A big BIG Big") >= {"A huge HUGE Huge", "A large HUGE Large"}


@pytest.mark.parametrize("text", [*TEXTS, "Hi!", "No.", "...", "日本語 😂", "42", "Stop", " ", "a\nb"])
def test_perturbed_text_is_never_empty(text: str):
    results = [perturb.perturb_text(text, rng, LEXICON) for rng in generators(30)]
    assert all(result.strip() or not text.strip() for result in results)
    if len(words(text)) > 3:
        assert text not in results
        assert len(set(results)) >= 10
    elif len(words(text)) < 2:
        assert set(results) == {text}


def test_text_is_changed_where_anything_can():
    assert {perturb.perturb_text("Big!", rng, LEXICON) for rng in generators(10)} == {"Huge!", "Large!"}
    two = {perturb.perturb_text("big dog", rng, {}) for rng in generators(30)}
    assert two == {"dog big", "big", "dog"}
    assert {perturb.perturb_text("Not never", rng, {}) for rng in generators(9)} == {"Not never"}


def test_generator_alone_decides():
    wave, text = tone(200, 900), TEXTS[-1]
    for seed in range(5):
        first, second = (np.random.default_rng(seed) for _ in range(2))
        np.testing.assert_array_equal(perturb.perturb_wave(wave, first), perturb.perturb_wave(wave, second))
        assert perturb.perturb_text(text, first, LEXICON) == perturb.perturb_text(text, second, LEXICON)
    before = wave.copy()
    perturb.perturb_wave(wave, np.random.default_rng(0))
    np.testing.assert_array_equal(wave, before)


# ---- the lexicon -----------------------------------------------------------------------------------------------------


def test_bundled_lexicon_keeps_polarity():
    lexicon = perturb.read_lexicon()
    groups = {frozenset((word, *others)) for word, others in lexicon.items()}
    assert len(groups) >= 250
    assert sum(map(len, groups)) == len(lexicon), "each word in one group"
    valence = SentimentIntensityAnalyzer().lexicon
    for group in groups:
        values = [valence.get(word, 0) for word in group]
        assert not min(values) < 0 < max(values), group
        assert len({bool(perturb._NEGATION.fullmatch(word)) for word in group}) == 1, group


def test_lexicon_file(tmp_path: Path):
    file = tmp_path / "mine.txt"
    file.write_text("# mine\n\nbig  huge large # size\nself-assured confident\n", encoding="utf-8")
    assert perturb.read_lexicon(file) == {
        "big": ("huge", "large"),
        "huge": ("big", "large"),
        "large": ("big", "huge"),
        "self-assured": ("confident",),
        "confident": ("self-assured",),
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("big huge\nlonely\n", r"mine.txt:2: 'lonely' stands alone; expected two or more"),
        ("big huge\nsmall Tiny\n", r"mine.txt:2: 'Tiny' is not a word in lower case"),
        ("big, huge\n", r"mine.txt:1: 'big,' is not a word"),
        ("big huge\n\nlarge big\n", r"mine.txt:3: 'big' is already on line 1"),
        ("big big\n", r"mine.txt:1: 'big' is already on line 1"),
        ("# nothing\n", r"mine.txt: holds no words"),
    ],
)
def test_malformed_lexicon(tmp_path: Path, content: str, message: str):
    (tmp_path / "mine.txt").write_text(content)
    with pytest.raises(UserError, match=message):
        perturb.read_lexicon(tmp_path / "mine.txt")


def test_lexicon_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(UserError, match=r"config.lexicon: .*none.txt cannot be read \(No such file"):
        perturb.read_lexicon(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes("naïf naïve\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"cannot be read \(it is not UTF-8\)"):
        perturb.read_lexicon(tmp_path / "latin.txt")
