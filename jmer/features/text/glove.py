"""Word vectors: GloVe (Pennington et al. 2014), or any others in its text format or as arrays."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jmer.base import files
from jmer.base.errors import UserError
from jmer.base.types import Turn
from jmer.features.extractor import Encoded, Prepared
from jmer.features.pooling import Pooled

SUFFIXES = (".txt", ".npz")
# GloVe's vocabulary is that of the Stanford tokenizer: "do n't", "it 's", punctuation apart.
_CLITICS = re.compile(r"(n't|'(?:s|m|d|re|ve|ll))\b")
_TOKEN = re.compile(r"n't|'(?:s|m|d|re|ve|ll)\b|\w+(?:[-.]\w+)*|\.\.\.|[^\w\s]")


@dataclass(frozen=True)
class Glove(Pooled):
    """The vectors of a text's words, pooled; words without one are left out.

    model: a text file, a word and its figures a line, or an .npz with `words` and `vectors`.
    pooling: `mean`, `std`, or both, comma-separated.
    """

    model: str
    pooling: str = "mean"

    modality = "text"
    kind = "glove"
    version = 1

    @functools.cached_property
    def _vectors(self) -> "Vectors":
        return Vectors(Path(self.model))

    @property
    def frame_dim(self) -> int:
        return self._vectors.dim

    @property
    def weights(self) -> str:
        return self._sha256

    @functools.cached_property
    def _sha256(self) -> str:
        return files.sha256(Path(self.model))

    def prepare(self, raw: Sequence[Turn]) -> Prepared:
        """The payload is the words that have a vector."""
        found = [word for word in tokens(raw[-1].text) if word in self._vectors]
        if not found:
            return Prepared(payload=None, status="degraded", reason="no word of the text has a vector")
        return Prepared(payload=found)

    def encode(self, payloads: Sequence[list[str]], *, exact: bool = False) -> list[Encoded]:
        return [self.pooled(np.stack([self._vectors[word] for word in words])) for words in payloads]


def tokens(text: str) -> list[str]:
    """Lower-case words and marks, contractions apart as GloVe has them."""
    return _TOKEN.findall(_CLITICS.sub(r" \1", text.lower().replace("’", "'")))


class Vectors:
    """Vectors by word. A text file is only indexed: of its gigabyte, the lines that are asked for are read.

    dim: D.

    Raises:
      UserError: the file is missing, or not in one of the formats.
    """

    def __init__(self, file: Path):
        if not file.is_file():
            raise UserError(f"text.model: no file {file}; expected word vectors as .txt or .npz")
        self._file = file
        self._known: dict[str, np.ndarray] = {}
        try:
            self._index, self._array = self._read_npz() if file.suffix == ".npz" else (self._read_index(), None)
            self.dim = len(self[next(iter(self._index))])
        except (OSError, ValueError, KeyError, StopIteration) as error:
            raise UserError(
                f"text.model: {file} holds no word vectors ({error or 'it is empty'}); expected a text file with a "
                "word and its figures a line, or an .npz with arrays words and vectors"
            ) from error

    def __contains__(self, word: str) -> bool:
        return word in self._index

    def __getitem__(self, word: str) -> np.ndarray:
        if word not in self._known:
            self._known[word] = self._read(word)
        return self._known[word]

    def _read(self, word: str) -> np.ndarray:
        if self._array is not None:
            return self._array[self._index[word]]
        with self._file.open("rb") as stream:
            stream.seek(self._index[word])
            figures = stream.readline().split(b" ")[1:]
        vector = np.array(figures, np.float32)
        if len(vector) != getattr(self, "dim", len(vector)):
            raise UserError(f"text.model: {self._file}: '{word}' has {len(vector)} figures, others {self.dim}")
        return vector

    def _read_index(self) -> dict[str, int]:
        """Where each word's line begins."""
        index, at = {}, 0
        with self._file.open("rb") as stream:
            for number, line in enumerate(stream):
                # fastText and word2vec begin with a line of two numbers, count and dim.
                if number or line.count(b" ") > 1:
                    index.setdefault(line[: line.index(b" ")].decode("utf-8", errors="replace"), at)
                at += len(line)
        return index

    def _read_npz(self) -> tuple[dict[str, int], np.ndarray]:
        with np.load(self._file) as arrays:
            words, vectors = arrays["words"], arrays["vectors"].astype(np.float32)
        if vectors.ndim != 2 or len(words) != len(vectors):
            raise ValueError(f"words {list(words.shape)} and vectors {list(vectors.shape)} do not fit")
        return {str(word): i for i, word in enumerate(words)}, vectors
