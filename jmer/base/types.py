"""The axis legend, and the values that flow through jmer.

Every signature, docstring and einsum of the package names its axes by these letters:

    B rows of a batch           U utterances of a row, padded         N utterances of a split, end to end
    T tokens or audio frames    F video frames                        D features
    H heads                     E edges                               R relations
    M modalities, or branches   P speakers                            C classes
    S seeds                     V nodes of a graph                    K members of a list that the docstring names

A primed letter (T', D') is the same axis after an encoder, or within the frames of a sequence. jaxtyping writes it T2
and D2. A mask is boolean, and True means valid. Labels are integers; `UNLABELLED` marks an utterance without a label.

This module imports neither JAX nor anything else of jmer, so that worker processes load it at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

MODALITIES = ("text", "audio", "video")
SPLITS = ("train", "dev", "test")
SAMPLE_RATE = 16_000  # Hz; every waveform in jmer has it
UNLABELLED = -1
PRECISIONS = ("float32", "bfloat16")  # types of the factors of matrix products
UNNAMED = "speaker"  # who speaks where nobody is named

Status = Literal["ok", "degraded", "failed"]


class Turn(NamedTuple):
    """What someone said, as a text extractor is given it."""

    speaker: str
    text: str


class Heard(NamedTuple):
    """An utterance within its dialogue, as a text extractor is given it.

    turns: of the whole dialogue.
    own: the number of the utterance's turn.
    """

    turns: tuple[Turn, ...]
    own: int


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One turn of a dialogue, as a source or a user gives it.

    id: unique within its dialogue's split, such as `dia3_utt7`.
    speaker: any name; only equality within the dialogue matters.
    text: the transcript; empty where there is none.
    label: name of the emotion; None where it is not known.
    sentiment: negative, neutral or positive; None where it is not known. An auxiliary target, never an input.
    clip: video or audio file of just this utterance, or of more where `start` and `end` say which part of it is this
      utterance; None where there is none.
    start, end: in seconds from the start of `clip`; None where the whole clip is this utterance.
    missing_clip: name of a clip that should be there and is not; `clip` is None then.
    max_seconds: a clip that lasts longer was cut wrong and is not just this utterance; None where any length will do.
    features: ready features by modality, each `[D]` float32; they are used instead of extracting that modality.
    sequences: the frames that ready features summarise, by modality, each `[T, D']` float16; only of modalities in
      `features`, and only where sequences are kept.
    notes: what the source found wrong with the row, one short phrase each.
    """

    id: str
    speaker: str
    text: str = ""
    label: str | None = None
    sentiment: str | None = None
    clip: Path | None = None
    start: float | None = None
    end: float | None = None
    missing_clip: str = ""
    max_seconds: float | None = None
    features: Mapping[str, np.ndarray] = field(default_factory=dict)
    sequences: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """Utterances in the order in which they were spoken."""

    id: str
    utterances: tuple[Utterance, ...]


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What a source gives: every split's dialogues and what it noticed about the whole.

    labels: label names; an utterance's class is its label's position here.
    splits: dialogues by split name; only the splits that exist.
    notes: findings that belong to no single row (a missing dialogue, stray files), one sentence each.
    """

    name: str
    labels: tuple[str, ...]
    splits: Mapping[str, tuple[Dialogue, ...]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Media:
    """A decoded clip.

    wave: `[T]` float32 in [-1, 1], mono at `SAMPLE_RATE`; None without an audio track.
    frames: `[F, height, width, 3]` uint8 RGB, evenly spaced over the clip; None without a video track.
    frame_times: `[F]` float64, the time of each frame in seconds from the start of `wave`, or from the start of the
      clip if `wave` is None. Since the tracks of a file need not start together, the first time may be negative.
    seconds: duration of the clip.
    sound_only: whether the file is of a kind that never holds a face (wav, flac, mp3, m4a, ...). A missing video track
      is then no damage.
    damage: a short phrase that names the part of the clip which could not be decoded; empty if all of it could.
    """

    wave: np.ndarray | None
    frames: np.ndarray | None
    frame_times: np.ndarray | None = None
    seconds: float
    sound_only: bool = False
    damage: str = ""


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """One utterance's features in one modality.

    vector: `[D]` float32, all finite; None where the modality is absent.
    sequence: `[T, D']` float16, the frames that the vector summarises, in the order of time; None where no sequence was
      asked for.
    status: `ok` also where the modality is absent by nature, as a face is in an audio file.
    reason: why the modality is absent, degraded or failed, or how a choice was made, such as that of the speaking face;
      empty where there is nothing to explain.
    """

    vector: np.ndarray | None
    sequence: np.ndarray | None = None
    status: Status = "ok"
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Features:
    """One dialogue after extraction: what a packed dataset holds, unpadded.

    utterance_ids, speakers, texts: one string an utterance.
    labels: `[U]` int32, `UNLABELLED` where not known.
    sentiments: `[U]` int32, index into `labels.SENTIMENTS`, `UNLABELLED` where not known.
    values: modality -> `[U, D]` float32, zeros where not present.
    present: modality -> `[U]` bool.
    sequences: modality -> for each utterance `[T, D']` float16, T differing, 0 where not present; only the modalities
      whose sequences were asked for.
    """

    dialogue_id: str
    utterance_ids: tuple[str, ...]
    speakers: tuple[str, ...]
    texts: tuple[str, ...]
    labels: np.ndarray
    sentiments: np.ndarray
    values: Mapping[str, np.ndarray]
    present: Mapping[str, np.ndarray]
    sequences: Mapping[str, tuple[np.ndarray, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.utterance_ids)


class FlatSplit(NamedTuple):
    """The utterances of all dialogues of a split, end to end, followed by at least one utterance of padding.

    It is a pytree of numpy or JAX arrays. N counts the utterances; the padding makes the arrays longer than that.

    features: modality -> `[N, D]` float32 or bfloat16, zeros where the modality is not present.
    present: modality -> `[N]` bool, whether the utterance has the modality.
    sequences: modality -> `[N, T, D']` float16, of the modalities whose sequences the model reads.
    frame_mask: modality -> `[N, T]` bool, which frames of a sequence are valid; False where the modality is not
      present.
    mask: `[N]` bool, False in the padding.
    first: `[N]` bool, whether the utterance is the first of its dialogue.
    speaker: `[N]` int32, numbered within the dialogue; -1 in the padding.
    label, sentiment: `[N]` int32; `UNLABELLED` where not known and in the padding.
    """

    features: dict[str, Any]
    present: dict[str, Any]
    sequences: dict[str, Any]
    frame_mask: dict[str, Any]
    mask: Any
    first: Any
    speaker: Any
    label: Any
    sentiment: Any


class Rows(NamedTuple):
    """What every layer needs to know of a batch: which utterances are valid, and whose they are.

    mask: `[B, U]` bool.
    dialogue: `[B, U]` int32, the number of the utterance's dialogue within its row.
    speaker: `[B, U]` int32, numbered within the dialogue.
    """

    mask: Any
    dialogue: Any
    speaker: Any


class Batch(NamedTuple):
    """Rows of whole dialogues, one or more in a row, then padding; a pytree of numpy or JAX arrays.

    The fields are those of `FlatSplit` with `[B, U]` in place of `[N]`.
    """

    features: dict[str, Any]
    present: dict[str, Any]
    sequences: dict[str, Any]
    frame_mask: dict[str, Any]
    mask: Any
    first: Any
    speaker: Any
    label: Any
    sentiment: Any

    @property
    def rows(self) -> Rows:
        """The part of the batch that every layer needs."""
        return Rows(mask=self.mask, dialogue=self.first.cumsum(axis=1, dtype="int32"), speaker=self.speaker)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A model's answer for one utterance.

    utterance_id, speaker, text, start, end: as the utterance was given.
    label: the likeliest class; empty where there was nothing to go on.
    probs: probability of every label; sums to 1. Empty where there was nothing to go on.
    gates: modality -> its share in the answer, in [0, 1]; 0 for an absent modality. With hybrid fusion also `joint`,
      the branch of all modalities together; empty with early fusion, which weighs none.
    modalities: those that the answer rests on.
    attention: utterance id -> how much the model's graph attended to that utterance of the dialogue, itself included;
      they sum to 1. Empty where it was not asked for, or the model has no graph attention.
    status: `ok`; `degraded` where a modality that was given is damaged or could not be used; `failed` where no answer
      could be given.
    reason: why the status is not `ok`; empty where it is.
    """

    utterance_id: str
    label: str
    probs: Mapping[str, float]
    gates: Mapping[str, float]
    speaker: str = ""
    text: str = ""
    start: float | None = None
    end: float | None = None
    modalities: tuple[str, ...] = ()
    attention: Mapping[str, float] = field(default_factory=dict)
    status: Status = "ok"
    reason: str = ""
