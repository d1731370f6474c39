"""Features that another program made, from a CSV file: OpenFace's action units, openSMILE's functionals, and so on.

The file has a row for each utterance. The column `utterance` holds the utterance's id, as the manifest of a dataset
spells it (`dia3_utt7`); the column `split` holds its split and is only needed where ids repeat in several splits; every
other column is a feature.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from jmer.base import files
from jmer.base.errors import UserError
from jmer.base.types import Corpus
from jmer.corpora import csvfile
from jmer.features.extractor import FILE, Encoded, Extractor, Prepared

_NAMES = ("utterance", "split")


@dataclass(frozen=True, kw_only=True)
class Ready(Extractor):
    """Ready features of one modality. An utterance without a row has none.

    model: the CSV file.
    """

    model: str = field(metadata=FILE)

    kind = "ready"
    version = 1
    named_by = "a CSV file of ready features"

    @classmethod
    def reads(cls, model: str) -> bool:
        return model.endswith(".csv")

    @functools.cached_property
    def vectors(self) -> dict[tuple[str, str], Float32[np.ndarray, " D"]]:
        """The vector of each (utterance, split), with an empty split where the file has no such column.

        Raises:
          UserError: the file has no column `utterance`, no row, a repeated row, or a cell that is no finite number.
        """
        path = Path(self.model)
        table = csvfile.read(path)
        csvfile.require(table.columns, ["utterance"], path=path, cure="it holds the ids of the utterances")
        names = [name for name in table.columns if name not in _NAMES]
        if not names or not table.rows:
            raise UserError(f"{path}: expected at least one row, and one column of features beside the utterance")
        found: dict[tuple[str, str], np.ndarray] = {}
        for row in table.rows:
            key = row.cells["utterance"], row.cells.get("split", "")
            if key in found:
                raise UserError(
                    f"{row.where}: utterance {key[0]} has a row already; remove one, or add a column split if the two "
                    "are of different splits"
                )
            found[key] = np.array(
                [_number(row.cells[name], f"{row.where}, column {name}") for name in names], np.float32
            )
        return found

    @property
    def dim(self) -> int:
        return len(next(iter(self.vectors.values())))

    @functools.cached_property
    def _sha256(self) -> str:
        return files.sha256(Path(self.model))

    @property
    def weights(self) -> str:
        return self._sha256

    @property
    def sequence_dim(self) -> int:
        return 0  # a row is a vector, however many frames are asked for of other modalities

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "vectors"}

    def prepare(self, raw: Any) -> Prepared:
        return Prepared(payload=None, status="degraded", reason=f"not in {Path(self.model).name}")

    def encode(self, payloads: Any, *, exact: bool = False) -> list[Encoded]:
        raise AssertionError("nothing is prepared")


@dataclass(frozen=True, kw_only=True)
class ReadyText(Ready):
    modality = "text"


@dataclass(frozen=True, kw_only=True)
class ReadyAudio(Ready):
    modality = "audio"


@dataclass(frozen=True, kw_only=True)
class ReadyVideo(Ready):
    modality = "video"


def with_ready(corpus: Corpus, extractors: Mapping[str, Extractor]) -> Corpus:
    """Returns the corpus with the ready features of its utterances.

    Raises:
      UserError: a file of features cannot be used, or has no row for any utterance of the corpus.
    """
    for modality, extractor in extractors.items():
        if isinstance(extractor, Ready):
            corpus = _attached(corpus, modality, extractor)
    return corpus


def _attached(corpus: Corpus, modality: str, extractor: Ready) -> Corpus:
    used: set[tuple[str, str]] = set()

    def of(utterance: Any, split: str) -> Any:
        key = next((k for k in ((utterance.id, split), (utterance.id, "")) if k in extractor.vectors), None)
        if key is None:
            return utterance
        used.add(key)
        return replace(utterance, features={**utterance.features, modality: extractor.vectors[key]})

    splits = {
        split: tuple(replace(d, utterances=tuple(of(u, split) for u in d.utterances)) for d in dialogues)
        for split, dialogues in corpus.splits.items()
    }
    first = next(iter(extractor.vectors))[0]
    if not used:
        raise UserError(
            f"{extractor.model}: no row is of an utterance of {corpus.name}; the first row is of '{first}', and ids "
            f"there are like '{next(iter(corpus.splits.values()))[0].utterances[0].id}'"
        )
    unknown = len(extractor.vectors) - len(used)
    note = f"{unknown} rows of {Path(extractor.model).name} are of no utterance and are left out"
    return replace(corpus, splits=splits, notes=(*corpus.notes, note) if unknown else corpus.notes)


def _number(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise UserError(f"{where}: '{cell}' is no finite number; correct the cell, or leave the row out")
    return value
