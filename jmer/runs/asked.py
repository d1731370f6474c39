"""The files that the command `predict` is given, as dialogues. Nothing here imports JAX."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jmer.base.errors import UserError
from jmer.base.types import UNNAMED, Dialogue, Utterance
from jmer.corpora import table, transcript
from jmer.media import decoding

_TABLES = (".csv", ".tsv")
_EXPECTED = (
    "expected a video or a sound, a folder of them, a transcript "
    f"({', '.join(s for s in transcript.SUFFIXES if s not in _TABLES)}) or a table ({', '.join(_TABLES)})"
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a user asks to be predicted.

    notes: what was noticed while the files were read, one sentence each.
    """

    dialogues: tuple[Dialogue, ...]
    notes: tuple[str, ...]


def read(paths: Sequence[Path], *, spoken: Path | None = None, texts: Sequence[str] = ()) -> Asked:
    """Reads files as dialogues.

    A video or sound is one utterance, or as many as its transcript has. The clips of a folder are dialogues of one
    utterance each, unless a transcript of the same name lies beside a clip. A table is read as
    `jmer.corpora.table.load` reads it for prediction. Texts are one dialogue.

    Args:
      spoken: the transcript of the only path.

    Raises:
      UserError: a path is not there or of none of these kinds, or there is nothing to predict.
    """
    if spoken is not None and len(paths) != 1:
        raise UserError(f"--transcript={spoken} belongs to one recording, but {len(paths)} were given; give one")
    dialogues: list[Dialogue] = []
    notes: list[str] = []

    def add(found: Dialogue, noticed: Sequence[str] = ()) -> None:
        dialogues.append(found)
        notes.extend(noticed)

    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: is not there; {_EXPECTED}")
        if path.is_dir():
            for clip in _clips_in(path):
                add(*_recording(clip, _beside(clip)))
        elif path.suffix.lower() in _TABLES and spoken is None:
            corpus = table.load(path, for_prediction=True)
            dialogues.extend(dialogue for split in corpus.splits.values() for dialogue in split)
            notes.extend(corpus.notes)
        elif decoding.is_media(path):
            add(*_recording(path, spoken))
        elif spoken is not None:
            raise UserError(f"{path}: is no video and no sound, so that --transcript={spoken} has no recording")
        elif path.suffix.lower() in transcript.SUFFIXES:
            add(*transcript.read(path))
        else:
            raise UserError(f"{path}: cannot be read; {_EXPECTED}")
    if texts:
        add(Dialogue(id="text", utterances=tuple(_said(i, text) for i, text in enumerate(texts))))
    if not dialogues:
        raise UserError("there is nothing to predict; give a video, a transcript, a table, or --text='Hello.'")
    return Asked(dialogues=tuple(dialogues), notes=tuple(notes))


def _clips_in(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    clips = [path for path in files if path.suffix.lower() not in transcript.SUFFIXES and decoding.is_media(path)]
    if not clips:
        raise UserError(f"{folder}: holds no video and no sound; {_EXPECTED}")
    return clips


def _beside(clip: Path) -> Path | None:
    """Returns the transcript of the same name beside a clip."""
    return next((path for suffix in transcript.SUFFIXES if (path := clip.with_suffix(suffix)).is_file()), None)


def _recording(clip: Path, spoken: Path | None) -> tuple[Dialogue, tuple[str, ...]]:
    if spoken is not None:
        return transcript.read(spoken, clip=clip)
    whole = Utterance(id=clip.stem, speaker=UNNAMED, clip=clip)
    return Dialogue(id=clip.stem, utterances=(whole,)), ()


def _said(number: int, text: str) -> Utterance:
    return Utterance(id=f"utt{number}", speaker=UNNAMED, text=text)
