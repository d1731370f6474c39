"""Reads RAVDESS, acted speech with the faces of the actors, from its own file names (Livingstone & Russo 2018).

A name such as `03-01-06-01-02-01-12.wav` is a modality (01 sound and picture, 02 picture, 03 sound), a channel (01
speech, 02 song), an emotion, an intensity, a statement, a repetition and an actor. All clips are in the split `train`,
because RAVDESS has no splits; `--config.cv=speaker` trains on some actors and tests on the others.
"""

import hashlib
import re
from collections import Counter
from pathlib import Path

from jmer.base.errors import UserError
from jmer.base.types import Corpus, Dialogue, Utterance
from jmer.media import decoding

LABELS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
STATEMENTS = ("Kids are talking by the door.", "Dogs are sitting by the door.")

_NAME = re.compile(r"0([123])-0([12])-0([1-8])-0([12])-0([12])-0([12])-(\d\d)")
_SPEECH = "1"


def load(root: Path, *, by_actor: bool = False) -> Corpus:
    """Reads the clips of speech in `root` and in the folders below.

    Every clip is a dialogue of its own. With `by_actor`, all clips of an actor are one dialogue, in an order that says
    nothing about the emotions, so that a model may compare an utterance with others of its speaker.

    Of a performance that is there several times, sound with picture is taken before sound, and sound before picture.

    Raises:
      UserError: `root` is no folder, or holds no clip of RAVDESS's speech.
    """
    if not root.is_dir():
        raise UserError(f"config.root: {root} is no folder; expected the folder of RAVDESS's clips")
    best: dict[str, Path] = {}  # a performance's name without the modality -> its clip
    left_out: Counter[str] = Counter()
    for file in sorted(root.rglob("*")):
        if not file.is_file():
            continue
        found = _NAME.fullmatch(file.stem)
        if found is None or not decoding.is_media(file):
            left_out["are not named as RAVDESS names its clips, or are no media"] += 1
        elif found[2] != _SPEECH:
            left_out["are songs"] += 1
        else:
            performance = file.stem[3:]
            if performance not in best or _rank(file) < _rank(best[performance]):
                best[performance] = file
    if not best:
        raise UserError(f"config.root: {root} holds no clip of RAVDESS's speech, such as 03-01-06-01-02-01-12.wav")
    utterances = [_utterance(performance, file) for performance, file in sorted(best.items())]
    dialogues: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        dialogues.setdefault(utterance.speaker if by_actor else utterance.id, []).append(utterance)
    return Corpus(
        name="ravdess",
        labels=LABELS,
        splits={
            "train": tuple(
                Dialogue(id=name, utterances=tuple(sorted(each, key=_hash))) for name, each in sorted(dialogues.items())
            )
        },
        notes=tuple(f"{count} files {why} and are left out" for why, count in sorted(left_out.items())),
    )


def _rank(file: Path) -> int:
    """Orders the modalities: sound and picture, sound, picture."""
    return "132".index(file.stem[1])


def _hash(utterance: Utterance) -> str:
    return hashlib.sha256(utterance.id.encode()).hexdigest()


def _utterance(performance: str, file: Path) -> Utterance:
    _, emotion, _, statement, _, actor = performance.split("-")
    return Utterance(
        id=performance,
        speaker=f"actor {actor}",
        text=STATEMENTS[int(statement) - 1],
        label=LABELS[int(emotion) - 1],
        clip=file,
    )
