"""From clips to batches of sounds. Numpy only."""

import functools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from jmer.base import cli, limits
from jmer.base.errors import UserError
from jmer.base.types import UNLABELLED, Dialogue, Utterance
from jmer.features import worker
from jmer.features.audio.encoder import HFAudio
from jmer.features.extractor import Prepared
from jmer.features.processes import LostError
from jmer.media import cutting
from jmer.tuning.rows import targets

_log = logging.getLogger(__name__)

_HELD = np.float16  # type in which sounds wait for their batch


class SoundBatch(NamedTuple):
    """Sounds of one utterance each, then padding; a pytree of numpy or JAX arrays. U is 1.

    sound: `[B, T]` waves or `[B, T, mels]` spectrograms, float32.
    length: `[B]` int32, the valid entries of each sound.
    utterance: `[B, 1]` int32, the number within the split; N in the padding.
    label, sentiment: `[B, 1]` int32; `UNLABELLED` where not known and in the padding.
    """

    sound: Any
    length: Any
    utterance: Any
    label: Any
    sentiment: Any


@dataclass(frozen=True, kw_only=True)
class SoundSplit:
    """The sounds of a split.

    sounds: of each utterance; None where the utterance has no sound that can be heard.
    label, sentiment: `[N + 1]` int32, of all utterances, then one of padding.
    """

    sounds: tuple[np.ndarray | None, ...]
    label: Int[np.ndarray, " _"]
    sentiment: Int[np.ndarray, " _"]

    def __len__(self) -> int:
        return len(self.label) - 1

    @property
    def heard(self) -> list[int]:
        """The numbers of the utterances that have a sound."""
        return [i for i, sound in enumerate(self.sounds) if sound is not None]


@dataclass(frozen=True, kw_only=True)
class Crop:
    """How an update hears a sound: a part of it, from a random place on, warped, behind two masks along each axis.

    entries: of the part.
    entries_masked, bands_masked: the most that each mask hides.
    warp: the most by which the part is quicker or slower, and by which its frequencies are higher or lower, as a share.
    """

    entries: int
    entries_masked: int
    bands_masked: int
    warp: float

    def __call__(self, sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        speed, pitch = rng.uniform(1 - self.warp, 1 + self.warp, size=2)
        size = min(math.ceil(self.entries * speed), len(sound))
        start = rng.integers(len(sound) - size + 1)
        part = _stretched(sound[start : start + size].astype(np.float32), 1 / speed)[: self.entries]
        part = _higher(part, pitch) if part.ndim == 2 else part
        silence = part.mean()
        for axis, most in enumerate((self.entries_masked, self.bands_masked)[: part.ndim]):
            for _ in range(2):
                size = rng.integers(min(most, part.shape[axis] // 2) + 1)
                first = rng.integers(part.shape[axis] - size + 1)
                part[(slice(None),) * axis + (slice(first, first + size),)] = silence
        return part


def _stretched(sound: np.ndarray, factor: float) -> np.ndarray:
    """Returns a sound that takes `factor` times as long; a wave also becomes lower by this, a spectrogram does not."""
    size = max(round(len(sound) * factor), 1)
    place = np.minimum(np.arange(size) / factor, len(sound) - 1)
    before = place.astype(int)
    share = (place - before).astype(np.float32).reshape(-1, *[1] * (sound.ndim - 1))
    return (1 - share) * sound[before] + share * sound[np.minimum(before + 1, len(sound) - 1)]


def _higher(spectrogram: np.ndarray, factor: float) -> np.ndarray:
    """Moves each band of a spectrogram `[T, mels]` to the band of `factor` times its number.

    This imitates another length of the vocal tract (VTLP, Jaitly & Hinton 2013).
    """
    place = np.clip(np.arange(spectrogram.shape[1]) / factor, 0, spectrogram.shape[1] - 1)
    before = place.astype(int)
    share = (place - before).astype(np.float32)
    after = np.minimum(before + 1, spectrogram.shape[1] - 1)
    return (1 - share) * spectrogram[:, before] + share * spectrogram[:, after]


def sound_splits(
    splits: Mapping[str, Sequence[Dialogue]], extractor: HFAudio, *, labels: Sequence[str]
) -> dict[str, SoundSplit]:
    """Decodes the clips of all splits in worker processes, and prints what cannot be heard or is cut.

    Of a sound of more than 30 s, the first of its equal parts of at most 30 s is taken.

    Args:
      extractor: prepares the encoder's input of a clip.
      labels: the label set.

    Raises:
      UserError: no worker process can be started.
    """
    pool = worker.pool(limits.cores())
    try:
        return {
            name: _sound_split(dialogues, extractor, labels=labels, name=name, pool=pool)
            for name, dialogues in splits.items()
        }
    except BrokenProcessPool as error:
        raise UserError(
            f"worker processes cannot be started ({error}); free memory, and run the same command again"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _sound_split(
    dialogues: Sequence[Dialogue], extractor: HFAudio, *, labels: Sequence[str], name: str, pool: Executor
) -> SoundSplit:
    utterances = [u for dialogue in dialogues for u in dialogue.utterances]
    jobs = _jobs(utterances, {"audio": extractor}, pool)
    sounds, silent, cut = [], [], []
    bar = cli.progress_bar(jobs, total=len(jobs), desc=f"hearing {name}", unit=" clips")
    for utterance, job in zip(utterances, bar, strict=True):
        prepared = job()["audio"] if job else Prepared(payload=None, reason="its clip is missing")
        sounds.append(prepared.payload[0][0].astype(_HELD) if prepared.payload else None)
        if not prepared.payload:
            silent.append(f"{utterance.id}: {prepared.reason}")
        elif len(prepared.payload) > 1:
            cut.append(utterance.id)
    if silent:
        _log.info(f"{name}: {len(silent)} of {len(utterances)} utterances are not heard, such as {silent[0]}")
    if cut:
        _log.info(f"{name}: of {len(cut)} utterances of more than 30 s the first part is heard, such as {cut[0]}")
    label, sentiment = targets(utterances, labels)
    label[[i for i, sound in enumerate(sounds) if sound is None]] = UNLABELLED
    return SoundSplit(sounds=tuple(sounds), label=label, sentiment=sentiment)


def _jobs(
    utterances: Sequence[Utterance], extractors: Mapping[str, HFAudio], pool: Executor
) -> list[Callable[[], Mapping[str, Prepared]] | None]:
    """Gives the clips to the pool, each recording of several utterances once.

    Returns: a function for each utterance that waits for its payloads; None where it has no clip.
    """
    parts: dict[Path, list[cutting.Part]] = {}
    number: list[int | None] = []  # of each utterance among the parts of its recording
    for u in utterances:
        part = cutting.part_of(u)
        if u.clip is None or part is None:
            number.append(None)
        else:
            number.append(len(parts.setdefault(u.clip, [])))
            parts[u.clip].append(part)
    submitted = {clip: pool.submit(worker.prepare_recording, clip, each, extractors) for clip, each in parts.items()}
    payloads = functools.cache(lambda clip: dict(submitted[clip].result()))  # by the number of the part

    def job(u: Utterance, place: int | None) -> Callable[[], Mapping[str, Prepared]] | None:
        if u.clip is None:
            return None
        clip = u.clip
        if place is None:
            result = pool.submit(worker.prepare, clip, extractors, max_seconds=u.max_seconds).result
        else:
            result = lambda: payloads(clip)[place]  # noqa: E731

        def wait() -> Mapping[str, Prepared]:
            try:
                return result()
            except LostError as error:
                return worker.failed(error, extractors, clip=clip)

        return wait

    return [job(u, place) for u, place in zip(utterances, number, strict=True)]


def batches(
    split: SoundSplit, *, rows: int, crop: Crop, padded_length: Any, rng: np.random.Generator | None = None
) -> Iterator[SoundBatch]:
    """Yields batches until every sound was in one.

    Args:
      rows: B.
      crop: of the sounds of an update.
      padded_length: a function that rounds the length of a whole sound up to one of a few.
      rng: for updates; it shuffles the sounds and chooses what is heard of them. Without it, whole sounds come in the
        order of their lengths.
    """
    heard = split.heard
    lengths = {i: len(split.sounds[i]) for i in heard}  # pyright: ignore[reportArgumentType]
    order = rng.permutation(heard).tolist() if rng is not None else sorted(heard, key=lambda i: -lengths[i])
    for start in range(0, len(order), rows):
        numbers = order[start : start + rows]
        parts: list[Any] = [split.sounds[i] for i in numbers]
        parts = [crop(sound, rng) for sound in parts] if rng is not None else parts
        entries = crop.entries if rng is not None else padded_length(max(map(len, parts)))
        sound = np.zeros((rows, entries, *parts[0].shape[1:]), np.float32)
        length = np.zeros(rows, np.int32)
        utterance = np.full((rows, 1), len(split), np.int32)
        for row, (i, part) in enumerate(zip(numbers, parts, strict=True)):
            sound[row, : len(part)], length[row], utterance[row] = part, len(part), i
        yield SoundBatch(sound, length, utterance, split.label[utterance], split.sentiment[utterance])
