"""Random changes to the sound and the text of an utterance: pure functions of an input and a numpy generator.

Sound: noise, gain, pitch shift, time stretch, and masks like those of SpecAugment (Park et al. 2019). All act on the
waveform, so that every audio extractor sees them. Text: synonym replacement, swap and deletion of words, from EDA
(Wei & Zou 2019). Nothing here imports JAX, since workers run it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from jmer.base.errors import UserError
from jmer.base.types import SAMPLE_RATE
from jmer.media.sound import compiled_librosa

Lexicon = Mapping[str, tuple[str, ...]]  # a word -> the words that may replace it

VERSION = 1  # a number that is raised whenever the same input and generator give another result
# The ranges from which the operations draw their parameters, both ends included.
PARAMETERS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "audio": {
            "snr_db": (20.0, 40.0),
            "gain_db": (-6.0, 6.0),
            "semitones": (-2.0, 2.0),
            "rate": (0.9, 1.1),
            "mask_mels": (1, 4),  # width of the masked band of frequencies, out of 40 mels
            "mask_seconds": (0.05, 0.2),  # length of the masked span of time, at most a tenth of the whole
        },
        "text": {"share": 0.1},  # share of the words that an operation changes, at least one word; EDA's alpha
    }
)

_FFT = 1024  # samples, 64 ms; a window holds several periods of the lowest voice
_MASK_FFT = 512
_MELS = 40


# ---- sound -----------------------------------------------------------------------------------------------------------


def perturb_wave(wave: Float32[np.ndarray, " T"], rng: np.random.Generator) -> Float32[np.ndarray, " T_changed"]:
    """Applies a random subset of the operations, at least one, with random parameters.

    A wave shorter than 64 ms only gets noise and gain. The result is made quieter where it would leave [-1, 1].

    Args:
      wave: at `SAMPLE_RATE`, in [-1, 1].
    """
    draw = PARAMETERS["audio"]
    uniform = rng.uniform
    short = len(wave) < _FFT
    ops: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
        lambda wave: pitch_shift(wave, semitones=uniform(*draw["semitones"])),
        lambda wave: time_stretch(wave, rate=uniform(*draw["rate"])),
        lambda wave: mask_spectrogram(wave, **_random_masks(len(wave) / SAMPLE_RATE, rng)),
        lambda wave: add_noise(wave, rng, snr_db=uniform(*draw["snr_db"])),
        lambda wave: change_gain(wave, db=uniform(*draw["gain_db"])),
    )
    for op in _subset(ops[3:] if short else ops, rng):
        wave = op(wave)
    return (wave / max(1.0, float(np.abs(wave).max(initial=0.0)))).astype(np.float32)


def add_noise(wave: Float[np.ndarray, " T"], rng: np.random.Generator, *, snr_db: float) -> Float[np.ndarray, " T"]:
    """Adds white noise whose power is `snr_db` decibels below the wave's mean power; silence stays silent."""
    noise = rng.standard_normal(len(wave), dtype=np.float32)
    power = np.square(wave, dtype=np.float64).mean() / 10 ** (snr_db / 10)
    return wave + noise * np.float32(np.sqrt(power))


def change_gain(wave: Float[np.ndarray, " T"], *, db: float) -> Float[np.ndarray, " T"]:
    """Makes the wave louder by `db` decibels, or quieter where `db` is negative."""
    return wave * np.float32(10 ** (db / 20))


def pitch_shift(wave: Float[np.ndarray, " T"], *, semitones: float) -> Float[np.ndarray, " T"]:
    """Raises every frequency by `semitones` at the same speed. The wave is at least 64 ms long."""
    factor = 2 ** (semitones / 12)
    slow = time_stretch(wave, rate=1 / factor)
    shifted = compiled_librosa().resample(slow, orig_sr=factor * SAMPLE_RATE, target_sr=SAMPLE_RATE)
    return compiled_librosa().util.fix_length(shifted, size=len(wave))


def time_stretch(wave: Float[np.ndarray, " T"], *, rate: float) -> Float[np.ndarray, " T_stretched"]:
    """Plays the wave `rate` times as fast at the same pitch. The wave is at least 64 ms long.

    This is `librosa.effects.time_stretch`, which cannot be called without a warning in librosa 1.0.
    """
    with np.errstate(invalid="ignore"):  # in librosa 1.0, compiled code reads memory before it is filled
        spectrum = compiled_librosa().phase_vocoder(compiled_librosa().stft(wave, n_fft=_FFT), rate=rate)
    return compiled_librosa().istft(spectrum, n_fft=_FFT, length=round(len(wave) / rate))


def mask_spectrogram(
    wave: Float[np.ndarray, " T"],
    *,
    band: tuple[float, float] = (0.0, 0.0),
    span: tuple[float, float] = (0.0, 0.0),
) -> Float[np.ndarray, " T"]:
    """Silences a band of frequencies and a span of time.

    SpecAugment masks the spectrogram that a network reads, which other extractors would not see. This function masks a
    spectrogram and turns it back into sound.

    Args:
      band: lower (included) and upper (excluded) frequency in Hz.
      span: start (included) and end (excluded) in seconds.
    """
    spectrum = compiled_librosa().stft(wave, n_fft=_MASK_FFT)
    hertz = compiled_librosa().fft_frequencies(sr=SAMPLE_RATE, n_fft=_MASK_FFT)
    seconds = compiled_librosa().times_like(spectrum, sr=SAMPLE_RATE, hop_length=_MASK_FFT // 4)
    spectrum[(hertz >= band[0]) & (hertz < band[1])] = 0
    spectrum[:, (seconds >= span[0]) & (seconds < span[1])] = 0
    return compiled_librosa().istft(spectrum, n_fft=_MASK_FFT, length=len(wave))


def _random_masks(length: float, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """Draws the arguments of `mask_spectrogram`: a band of some mels, and a span of a wave of `length` seconds."""
    fewest, most = PARAMETERS["audio"]["mask_mels"]
    edges = compiled_librosa().mel_frequencies(n_mels=_MELS + 1, fmin=0.0, fmax=SAMPLE_RATE / 2).tolist()
    width = rng.integers(fewest, most, endpoint=True)
    low = rng.integers(_MELS - width, endpoint=True)
    seconds = min(rng.uniform(*PARAMETERS["audio"]["mask_seconds"]), 0.1 * length)
    start = rng.uniform(0.0, length - seconds)
    return {"band": (edges[low], edges[low + width]), "span": (start, start + seconds)}


def _subset(items: Sequence[Any], rng: np.random.Generator) -> list[Any]:
    """Takes each item with probability 1/2, in order; takes one at random where none would be left."""
    chosen = rng.random(len(items)) < 0.5
    chosen[rng.integers(len(items))] |= not chosen.any()
    return [item for item, taken in zip(items, chosen, strict=True) if taken]


# ---- text ------------------------------------------------------------------------------------------------------------

_WORD = re.compile(r"([^\W_]+(?:['’-][^\W_]+)*)")
# Negations are neither deleted nor moved, since the text would say something else.
_NEGATION = re.compile(
    r"no|not|never|none|nobody|nothing|nowhere|neither|nor|without|hardly|barely|scarcely|cannot|.*n['’]t",
    re.IGNORECASE,
)


def perturb_text(text: str, rng: np.random.Generator, lexicon: Lexicon) -> str:
    """Applies a random subset of the operations, at least one, in random order.

    A text that no operation can change, such as a single word without synonyms, is returned unchanged.
    """
    share = PARAMETERS["text"]["share"]
    ops = [
        lambda text: replace_synonyms(text, rng, lexicon, share=share),
        lambda text: swap_words(text, rng, share=share),
        lambda text: delete_words(text, rng, share=share),
    ]
    wanted = rng.integers(len(ops)) + 1
    for i in rng.permutation(len(ops)):
        changed = ops[i](text)
        wanted -= changed != text
        text = changed
        if not wanted:
            break
    return text


def replace_synonyms(text: str, rng: np.random.Generator, lexicon: Lexicon, *, share: float) -> str:
    """Replaces a share of the words, at least one, by synonyms from the lexicon in the same case."""
    parts, words = _split(text)
    known = [i for i in words if parts[i].lower() in lexicon]
    for i in _choice(known, rng, most=_count(words, share)):
        group = lexicon[parts[i].lower()]
        parts[i] = _cased(group[rng.integers(len(group))], like=parts[i])
    return "".join(parts)


def swap_words(text: str, rng: np.random.Generator, *, share: float) -> str:
    """Swaps two words, once for each word of the share and at least once; punctuation and negations stay in place."""
    parts, words = _split(text)
    movable = [i for i in words if not _NEGATION.fullmatch(parts[i])]
    if len(movable) > 1:
        for _ in range(_count(words, share)):
            i, j = _choice(movable, rng, most=2)
            parts[i], parts[j] = parts[j], parts[i]
    return "".join(parts)


def delete_words(text: str, rng: np.random.Generator, *, share: float) -> str:
    """Deletes a share of the words, at least one, but no negation and never the only word that is left."""
    parts, words = _split(text)
    movable = [i for i in words if not _NEGATION.fullmatch(parts[i])]
    chosen = _choice(movable, rng, most=min(_count(words, share), len(words) - 1))
    for i in sorted(chosen, reverse=True):
        before, after = parts[i - 1 : i + 2 : 2]
        parts[i - 1 : i + 2] = [after if after.strip() and i > 1 else before]  # keeps the gap with punctuation
    return "".join(parts).strip() if chosen else text


def _split(text: str) -> tuple[list[str], range]:
    """Splits a text into gaps and words in turn, and returns the positions of the words too."""
    parts = _WORD.split(text)
    return parts, range(1, len(parts), 2)


def _count(words: Sequence[int], share: float) -> int:
    return max(1, round(share * len(words)))


def _choice(items: Sequence[int], rng: np.random.Generator, *, most: int) -> list[int]:
    """Draws `most` different items, or all where there are fewer, in random order."""
    return [items[i] for i in rng.permutation(len(items))[:most]]


def _cased(word: str, *, like: str) -> str:
    if like.isupper() and len(like) > 1:
        return word.upper()
    return word[0].upper() + word[1:] if like[0].isupper() else word


# ---- the lexicon -----------------------------------------------------------------------------------------------------

BUNDLED = Path(__file__).with_name("synonyms.txt")


def read_lexicon(file: Path = BUNDLED) -> Lexicon:
    """Reads a list of synonyms.

    Args:
      file: UTF-8; each line holds a group of lower-case words that may replace each other; `#` begins a comment.

    Raises:
      UserError: the file cannot be read, or a line is not such a group.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UserError(f"config.lexicon: {file} cannot be read ({reason}); expected a list of synonyms") from error
    lexicon: dict[str, tuple[str, ...]] = {}
    line_of: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        group = line.split("#")[0].split()
        wrong = [word for word in group if word != word.lower() or not _WORD.fullmatch(word)]
        twice = [word for i, word in enumerate(group) if word in line_of or word in group[:i]]
        fault = ""
        if wrong:
            fault = f"'{wrong[0]}' is not a word in lower case"
        elif twice:
            fault = f"'{twice[0]}' is already on line {line_of.get(twice[0], number)}"
        elif len(group) == 1:
            fault = f"'{group[0]}' stands alone"
        if fault:
            raise UserError(f"{file}:{number}: {fault}; expected two or more words that mean the same, each once")
        line_of |= dict.fromkeys(group, number)
        lexicon |= {word: tuple(other for other in group if other != word) for word in group}
    if not lexicon:
        raise UserError(f"{file}: holds no words; expected lines of two or more words that mean the same")
    return lexicon
