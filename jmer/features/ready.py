"""Features that another program made, such as the action units of OpenFace or the functionals of openSMILE.

A file (`jmer.features.readyfile`) holds a vector or a sequence for each utterance, or an array for each dialogue. The
key of an utterance is one of these names. If a key fits several utterances, the name that stands first here decides:

    the utterance's id, as the manifest of a dataset spells it        dia3_utt7
    the ids of the dialogue and of the utterance                      dia3/dia3_utt7
    the dialogue's id, and the rest of the utterance's id             dia3/utt7; a/1 for the id a_1 of a table's row
    the two numbers in an id of MELD's form                           3/7

The key of a dialogue is its id, or the number in an id of MELD's form. The split may stand before any of these names
(`train/dia3_utt7`), by all names that a table may have for it, and must stand before a name of several splits.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from jmer.base import files
from jmer.base.errors import UserError
from jmer.base.types import Corpus, Dialogue, Utterance
from jmer.corpora import table
from jmer.features import readyfile
from jmer.features.extractor import FILE, Encoded, Extractor, Prepared
from jmer.features.readyfile import Entry, Key, ReadyFile
from jmer.features.summary import encoded

_MELD = re.compile(r"dia(\d+)(?:_utt(\d+))?")


@dataclass(frozen=True, kw_only=True)
class Ready(Extractor):
    """Ready features of one modality. An utterance that the file does not hold has none.

    A sequence gives its mean as the vector, and is kept itself where sequences are asked for.

    model: the file; its suffix says the format.
    """

    model: str = field(metadata=FILE)

    kind = "ready"
    version = 1
    named_by = "a CSV file of ready features (or .parquet, .npz, .safetensors)"

    @classmethod
    def reads(cls, model: str) -> bool:
        return Path(model).suffix.lower() in readyfile.SUFFIXES

    @functools.cached_property
    def file(self) -> ReadyFile:
        """The file, opened.

        Raises:
          UserError: the file cannot be read, or its columns are wrong.
        """
        return readyfile.open_file(Path(self.model))

    @property
    def dim(self) -> int:
        return self.file.dim

    @functools.cached_property
    def _sha256(self) -> str:
        try:
            return files.sha256(Path(self.model))
        except OSError as error:
            raise UserError(readyfile.unreadable(Path(self.model), error)) from error

    @property
    def weights(self) -> str:
        return self._sha256

    @property
    def sequence_dim(self) -> int:
        return super().sequence_dim if self.sequence_frames and self.file.ndim == 2 else 0

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the file out of what is sent to a worker process."""
        return {name: value for name, value in self.__dict__.items() if name != "file"}

    def prepare(self, raw: Any) -> Prepared:
        return Prepared(payload=None, status="degraded", reason=f"not in {Path(self.model).name}")

    def encode(self, payloads: Any, *, exact: bool = False) -> list[Encoded]:
        raise AssertionError("nothing is prepared")


@dataclass(frozen=True, kw_only=True)
class ReadyText(Ready):
    modality = "text"

    @classmethod
    def reads(cls, model: str) -> bool:
        """Leaves word vectors to their own extractor, and so an `.npz` that does not exist."""
        if Path(model).suffix.lower() == ".npz":
            return Path(model).is_file() and not readyfile.is_word_vectors(Path(model))
        return super().reads(model)


@dataclass(frozen=True, kw_only=True)
class ReadyAudio(Ready):
    modality = "audio"


@dataclass(frozen=True, kw_only=True)
class ReadyVideo(Ready):
    modality = "video"


def with_ready(corpus: Corpus, extractors: Mapping[str, Extractor]) -> tuple[Corpus, dict[str, Extractor]]:
    """Returns the corpus with the ready features of its utterances, and the extractors.

    A file of whole dialogues holds no sequences, which the file alone does not show. Its extractor then comes back with
    no `sequence_frames`.

    Args:
      extractors: by modality.

    Raises:
      UserError: a file of features cannot be used, or holds nothing of the corpus.
    """
    extractors = dict(extractors)
    for modality, extractor in extractors.items():
        if isinstance(extractor, Ready):
            corpus, extractors[modality] = _attached(corpus, modality, extractor)
    return corpus, extractors


class _Place(NamedTuple):
    """An utterance of a corpus, or a whole dialogue where `utterance` is None; both are numbers, from 0."""

    split: str
    dialogue: int
    utterance: int | None


def _attached(corpus: Corpus, modality: str, extractor: Ready) -> tuple[Corpus, Ready]:
    file = extractor.file
    names = _Names(corpus, joined=file.unit == "array")
    found: dict[_Place, Encoded] = {}
    taken: dict[_Place, str] = {}  # what the file names -> where in the file
    first, unknown = "", 0
    for entry in file.entries():
        first = first or entry.name
        place = names.find(entry)
        if place is None:
            unknown += 1
            continue
        if place in taken:
            raise UserError(
                f"{entry.where}: '{entry.name}' is {names.title(place)}, whose features are already at {taken[place]}; "
                "remove one of the two"
            )
        before = next(iter(taken), place)
        if (place.utterance is None) != (before.utterance is None):
            raise UserError(
                f"{entry.where}: '{entry.name}' is {names.title(place)}, but {taken[before]} is {names.title(before)}; "
                "give utterances and whole dialogues in files of their own, and an utterance whose id is also that of "
                "a dialogue as dialogue/utterance"
            )
        taken[place] = entry.where
        if place.utterance is None:
            rows = _rows(entry, names.dialogue(place), names.title(place))
            found |= {place._replace(utterance=i): Encoded(row) for i, row in enumerate(rows)}
        elif entry.values.ndim == 1:
            found[place] = Encoded(entry.values)
        else:
            found[place] = encoded(entry.values, pooling=("mean",), sequence_frames=extractor.sequence_frames)
    if not taken:
        raise UserError(
            f"{extractor.model}: no {file.unit} is of an utterance of {corpus.name}; the first {file.unit} is of "
            f"'{first}', and ids there are like '{next(iter(corpus.splits.values()))[0].utterances[0].id}'"
            + "".join(f" ({note})" for note in file.notes)
        )
    notes = [*corpus.notes, *file.notes]
    if unknown:
        notes.append(f"{unknown} {file.unit}s of {file.path.name} are of no utterance and are left out")
    if next(iter(taken)).utterance is None:
        extractor = replace(extractor, sequence_frames=0)
    return replace(corpus, splits=_filled(corpus, modality, found), notes=tuple(notes)), extractor


def _rows(entry: Entry, dialogue: Dialogue, name: str) -> Float32[np.ndarray, "U D"]:
    """Returns the vectors of a dialogue's utterances.

    Raises:
      UserError: there are not as many as utterances.
    """
    count, shape = len(dialogue.utterances), entry.values.shape
    if len(shape) != 2 or shape[0] != count:
        raise UserError(
            f"{entry.where}: has shape {list(shape)}, but '{entry.name}' is {name}, which has {count} utterances; "
            f"expected [{count}, D], a row for each utterance in their order: add or remove rows, or name utterances"
        )
    return entry.values


def _filled(corpus: Corpus, modality: str, found: Mapping[_Place, Encoded]) -> dict[str, tuple[Dialogue, ...]]:
    """Returns the splits of a corpus with features of one modality."""

    def utterance(given: Utterance, place: _Place) -> Utterance:
        if place not in found:
            return given
        vector, sequence = found[place]
        frames = {} if sequence is None else {modality: sequence}
        return replace(given, features={**given.features, modality: vector}, sequences={**given.sequences, **frames})

    return {
        split: tuple(
            replace(d, utterances=tuple(utterance(u, _Place(split, i, j)) for j, u in enumerate(d.utterances)))
            for i, d in enumerate(dialogues)
        )
        for split, dialogues in corpus.splits.items()
    }


class _Names:
    """Finds the utterances and the dialogues of a corpus by the names that the module's docstring lists."""

    def __init__(self, corpus: Corpus, *, joined: bool):
        """Lists the names.

        Args:
          joined: whether a key is one name with slashes, and may name a dialogue. Otherwise it is split, dialogue and
            utterance.
        """
        self._corpus, self._joined = corpus, joined
        # A dictionary for each kind of name; those that count first are at the front.
        self._ranks: list[dict[Key, list[_Place]]] = [
            {} for _ in (*_names_of_utterance("", ""), *_names_of_dialogue(""))
        ]
        for split, dialogues in corpus.splits.items():
            for i, dialogue in enumerate(dialogues):
                names = []
                for j, utterance in enumerate(dialogue.utterances):
                    names = _names_of_utterance(dialogue.id, utterance.id)
                    self._add(names, _Place(split, i, j), self._ranks)
                if joined:
                    self._add(_names_of_dialogue(dialogue.id), _Place(split, i, None), self._ranks[len(names) :])

    def _add(self, names: Sequence[tuple[str, str]], place: _Place, ranks: Sequence[dict[Key, list[_Place]]]) -> None:
        splits = ["", *(name for name, split in table.SPLIT_OF.items() if split == place.split)]
        for rank, (dialogue, name) in zip(ranks, names, strict=False):
            for split in splits:
                key = split, dialogue, name
                rank.setdefault(("/".join(filter(None, key)),) if self._joined else key, []).append(place)

    def find(self, entry: Entry) -> _Place | None:
        """Returns what an entry's key names; None if it names nothing in the corpus.

        Raises:
          UserError: the key names several utterances or dialogues.
        """
        places = next((rank[entry.key] for rank in self._ranks if entry.key in rank), [])
        if len(places) > 1:
            cure = "fill in a column split"
            if self._joined:
                cure = f"put the split before the name, as {places[0].split}/{entry.name}"
            if places[0].split == places[1].split:
                cure = "give the id of the utterance as the manifest of a dataset spells it"
            raise UserError(
                f"{entry.where}: '{entry.name}' may be {self.title(places[0])} or {self.title(places[1])}; {cure}"
            )
        return places[0] if places else None

    def dialogue(self, place: _Place) -> Dialogue:
        return self._corpus.splits[place.split][place.dialogue]

    def title(self, place: _Place) -> str:
        """Returns what a place is, for messages: `utterance dia3_utt7 of train`."""
        dialogue = self.dialogue(place)
        if place.utterance is None:
            return f"dialogue {dialogue.id} of {place.split}"
        return f"utterance {dialogue.utterances[place.utterance].id} of {place.split}"


def _names_of_utterance(dialogue: str, utterance: str) -> list[tuple[str, str]]:
    """Returns the dialogue, or nothing, and the utterance in each spelling. A spelling may repeat an earlier one."""
    rest = utterance.removeprefix(f"{dialogue}_")
    match = _MELD.fullmatch(utterance)
    numbers = (match[1], match[2]) if match and match[2] else (dialogue, utterance)
    # A table joins the two names by more than one underscore if they would make an id that exists.
    return [("", utterance), (dialogue, utterance), (dialogue, rest), (dialogue, rest.lstrip("_") or rest), numbers]


def _names_of_dialogue(dialogue: str) -> list[tuple[str, str]]:
    match = _MELD.fullmatch(dialogue)
    return [("", dialogue), ("", match[1] if match and not match[2] else dialogue)]
