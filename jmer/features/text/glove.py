"""Text features by word vectors: GloVe (Pennington et al. 2014), or others in its text format or as arrays."""

import functools
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from jmer.base import files
from jmer.base.errors import UserError
from jmer.base.types import Turn
from jmer.features import npz
from jmer.features.extractor import FILE, Encoded, Prepared
from jmer.features.summary import Pooled

SUFFIXES = (".txt", ".npz")
# GloVe's vocabulary comes from the Stanford tokenizer, which splits "do n't" and "it 's" and all punctuation.
_CLITICS = re.compile(r"(n't|'(?:s|m|d|re|ve|ll))\b")
_TOKEN = re.compile(r"n't|'(?:s|m|d|re|ve|ll)\b|\w+(?:[-.]\w+)*|\.\.\.|[^\w\s]")


@dataclass(frozen=True, kw_only=True)
class Glove(Pooled):
    """Pooled vectors of a text's words. A word without a vector is left out.

    model: a text file with a word and its figures on each line, or an .npz with arrays `words` and `vectors`.
    """

    model: str = field(metadata=FILE)

    modality = "text"
    kind = "glove"
    version = 1
    named_by = "a file of word vectors"

    @classmethod
    def reads(cls, model: str) -> bool:
        return Path(model).suffix in SUFFIXES

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
    """Returns lower-case words and punctuation marks, with contractions split as in GloVe's vocabulary."""
    return _TOKEN.findall(_CLITICS.sub(r" \1", text.lower().replace("’", "'")))


class Vectors:
    """Vectors by word. A text file is only indexed; of its gigabyte, the lines of words that occur are read.

    dim: D of every vector.
    """

    def __init__(self, file: Path):
        """Opens a file of word vectors.

        Raises:
          UserError: the file is missing, or in neither of the formats.
        """
        if not file.is_file():
            raise UserError(f"config.text.model: there is no file {file}; expected word vectors as .txt or .npz")
        self._file = file
        self._known: dict[str, np.ndarray] = {}
        try:
            self._index, self._array = self._read_npz() if file.suffix == ".npz" else (self._read_index(), None)
            self.dim = len(self._figures(next(iter(self._index))))
        except UserError:
            raise
        except Exception as error:  # zipfile and numpy raise exceptions of many kinds on damaged bytes
            fault = next(iter(str(error).strip().splitlines()), "it is empty")
            raise UserError(
                f"config.text.model: {file} holds no word vectors ({fault}); expected a text file with a word and its "
                "figures a line, or an .npz with arrays words and vectors"
            ) from error

    def __contains__(self, word: str) -> bool:
        return word in self._index

    def __getitem__(self, word: str) -> Float32[np.ndarray, " D"]:
        if word not in self._known:
            self._known[word] = self._read(word)
        return self._known[word]

    def _read(self, word: str) -> np.ndarray:
        try:
            vector = self._figures(word)
        except ValueError as error:
            raise UserError(
                f"config.text.model: {self._file}: a figure of '{word}' is no number ({error}); correct or remove its "
                "line"
            ) from error
        if len(vector) != self.dim:
            raise UserError(
                f"config.text.model: {self._file}: '{word}' has {len(vector)} figures, others have {self.dim}"
            )
        if not np.isfinite(vector).all():
            raise UserError(f"config.text.model: {self._file}: a figure of '{word}' is NaN or infinite; remove it")
        return vector

    def _figures(self, word: str) -> np.ndarray:
        if self._array is not None:
            return self._array[self._index[word]]
        with self._file.open("rb") as stream:
            stream.seek(self._index[word])
            return np.array(stream.readline().split(b" ")[1:], np.float32)

    def _read_index(self) -> dict[str, int]:
        """Returns word -> the byte at which the word's line begins."""
        index, at = {}, 0
        with self._file.open("rb") as stream:
            for number, line in enumerate(stream):
                # Files of fastText and word2vec begin with a line of two numbers, count and dim.
                if number or line.count(b" ") > 1:
                    index.setdefault(line[: line.index(b" ")].decode("utf-8", errors="replace"), at)
                at += len(line)
        return index

    def _read_npz(self) -> tuple[dict[str, int], np.ndarray]:
        with zipfile.ZipFile(self._file) as archive:
            words, vectors = (
                npz.read_array(archive, f"{name}.npy", where=f"config.text.model: {self._file}, array {name}")
                for name in ("words", "vectors")
            )
        vectors = vectors.astype(np.float32)
        if words.ndim != 1 or vectors.ndim != 2 or len(words) != len(vectors):
            raise ValueError(f"words {list(words.shape)} and vectors {list(vectors.shape)} do not fit")
        return {str(word): i for i, word in enumerate(words)}, vectors
