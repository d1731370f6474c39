"""Files of ready features, read entry by entry: the rows of CSV and Parquet, the arrays of npz and safetensors.

A row, or an array, holds the features of one utterance: a vector `[D]`, or a sequence `[T, D]`. An array may also hold
the vectors of a whole dialogue. `jmer.features.ready` knows the corpus and therefore tells the two apart. Nothing here
unpickles.
"""

import abc
import contextlib
import functools
import zipfile
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32, Float64

from jmer.base.errors import UserError
from jmer.corpora import csvfile, header
from jmer.features import npz

Key = tuple[str, ...]

_FLOATS, _INTEGERS = ("F16", "F32", "F64"), ("I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64")
_ZIP_ERRORS = (OSError, ValueError, NotImplementedError, zipfile.BadZipFile)
_ROWS, _LONG_ROWS = 1024, 64  # rows of Parquet that are in memory at a time, of numbers and of lists


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The features of one utterance or of one dialogue.

    key: split, dialogue and utterance of a row, empty where the table has no such column; or the one name of an array.
    where: the row or the array, for messages.
    values: `[D]` or `[T, D]` float32, all finite. T and D are at least 1.
    """

    key: Key
    where: str
    values: Float32[np.ndarray, "*shape"]

    @property
    def name(self) -> str:
        """The key as one string, for messages."""
        return "/".join(filter(None, self.key))


class ReadyFile(abc.ABC):
    """A file of ready features that is opened. Its entries are all vectors or all `[T, D]`, of one D.

    unit: what an entry is called, row or array.
    notes: findings about the whole file, one sentence each.
    """

    unit: ClassVar[str]

    def __init__(self, path: Path):
        self.path = path
        self.notes: tuple[str, ...] = ()

    @abc.abstractmethod
    def _entries(self) -> Iterator[Entry]:
        """Yields the entries, each checked by itself."""

    def entries(self) -> Generator[Entry, None, None]:
        """Yields the entries in the order of the file, one in memory at a time.

        Raises:
          UserError: the file holds nothing, is damaged, or an entry is wrong or differs from the first in form.
        """
        first: tuple[int, ...] = ()
        for entry in self._entries():
            shape = entry.values.shape
            first = first or shape
            if len(shape) != len(first):
                raise UserError(
                    f"{entry.where}: holds an array of shape {list(shape)}, and the first one of the file has shape "
                    f"{list(first)}; keep vectors [D] and sequences [T, D] in files of their own"
                )
            if shape[-1] != first[-1]:
                raise UserError(
                    f"{entry.where}: holds {shape[-1]} features, and the first one of the file holds {first[-1]}; "
                    "expected as many everywhere: make the file anew, or leave the utterance out"
                )
            yield entry
        if not first:
            raise UserError(f"{self.path}: is empty; expected at least one {self.unit} of features")

    @functools.cached_property
    def _first(self) -> tuple[int, ...]:
        with contextlib.closing(self.entries()) as entries:
            return next(entries).values.shape

    @property
    def dim(self) -> int:
        """D of every entry."""
        return self._first[-1]

    @property
    def ndim(self) -> int:
        """2 if the entries are `[T, D]`, and 1 if they are `[D]`."""
        return len(self._first)


def open_file(path: Path) -> ReadyFile:
    """Opens a file by its suffix, one of `SUFFIXES`.

    Raises:
      UserError: the file cannot be read, or its columns are wrong.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(unreadable(path, error)) from error
    return _FORMATS[path.suffix.lower()](path)


def unreadable(path: Path, error: OSError) -> str:
    """Returns the message for a file that cannot be opened."""
    return f"{path}: cannot be read ({error.strerror}); give the path of a file of features"


def is_word_vectors(path: Path) -> bool:
    """Says whether an `.npz` is no file of ready features, but holds word vectors: arrays `words` and `vectors`."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {"words.npy", "vectors.npy"} <= set(archive.namelist())
    except _ZIP_ERRORS:  # whoever opens the file says why it cannot be read
        return False


def _checked(values: np.ndarray, where: str) -> Float32[np.ndarray, "*shape"]:
    """Returns `[D]` or `[T, D]` in float32.

    Raises:
      UserError: the values are no numbers, have another shape, or one of them is not finite in float32.
    """
    if values.dtype.kind not in "fiu":
        raise UserError(f"{where}: holds values of the type {values.dtype}; expected numbers: save them as float32")
    if values.ndim not in (1, 2) or not values.size:
        raise UserError(
            f"{where}: has shape {list(values.shape)}; expected [D] for a vector or [T, D] for a sequence, of at least "
            "one number: leave the utterance out if it has no features"
        )
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        at = np.argwhere(~np.isfinite(values))[0]
        raise UserError(
            f"{where}: the value at {at.tolist()} is {values[tuple(at)]} in float32; expected finite numbers: correct "
            "the value, or leave the utterance out"
        )
    return values


# ---- tables ----------------------------------------------------------------------------------------------------------


class _Table(ReadyFile):
    """A file with a row for each utterance, some columns of which are its key."""

    unit = "row"

    def _find_columns(self, columns: Sequence[str]) -> tuple[dict[str, str], list[str]]:
        """Returns jmer's name -> the file's name of the columns of the key, and the other columns; sets `notes`.

        Raises:
          UserError: a column has no name, occurs twice or is missing, or no column is left for the features.
        """
        names, notes = header.find_keys(columns, path=self.path)
        self.notes = tuple(notes)
        rest = [column for column in columns if column not in names.values()]
        if nameless := [column for column in rest if not column or column.startswith("__index_level_")]:
            raise UserError(
                f"{self.path}: the column '{nameless[0]}' has no name, as the row numbers that pandas writes; save "
                "with index=False, or name the column if it is a feature"
            )
        if twice := [column for column, count in Counter(rest).items() if count > 1]:
            raise UserError(f"{self.path}: has the column {twice[0]} more than once; rename or remove one")
        if not rest:
            raise UserError(
                f"{self.path}: expected at least one column of features beside the {' and '.join(names)}; add it"
            )
        return names, rest

    def _keys(self, rows: Iterable[tuple[str, Mapping[str, Any]]], names: Mapping[str, str]) -> Iterator[Key]:
        """Yields the key of each row.

        rows: where a row is, and its cells by the file's name of the column.

        Raises:
          UserError: a name is empty or neither text nor a whole number, or an earlier row has the key already.
        """
        seen: set[Key] = set()
        for where, cells in rows:
            found = {name: self._name(cells[column], where, column) for name, column in names.items()}
            for name in ("dialogue", "utterance"):
                if name in found and not found[name]:
                    raise UserError(f"{where}: the {names[name]} cell is empty; fill it in")
            key = found.get("split", "").lower(), found.get("dialogue", ""), found["utterance"]
            if key in seen:
                raise UserError(
                    f"{where}: utterance {'/'.join(filter(None, key))} has a row already; remove one, or add a column "
                    "split if the two are of different splits"
                )
            seen.add(key)
            yield key

    def _name(self, cell: Any, where: str, column: str) -> str:
        if cell is None:
            return ""
        if isinstance(cell, bool) or not isinstance(cell, str | int):
            raise UserError(
                f"{where}: {column} is {cell!r}, of the type {type(cell).__name__}; expected a text or a whole number"
            )
        return csvfile.repair(str(cell)).strip()


class _Csv(_Table):
    """A table in which every feature has a column."""

    def __init__(self, path: Path):
        super().__init__(path)
        content = csvfile.read(path, delimiters=header.DELIMITERS)
        names, features = self._find_columns(content.columns)
        keys = self._keys(((row.where, row.cells) for row in content.rows), names)
        # The cells themselves are not kept: as text they take a multiple of the memory.
        self._rows = [
            Entry(key=key, where=row.where, values=_vector(row, features))
            for key, row in zip(keys, content.rows, strict=True)
        ]

    def _entries(self) -> Iterator[Entry]:
        yield from self._rows


def _vector(row: csvfile.Row, features: Sequence[str]) -> Float32[np.ndarray, " D"]:
    values = [_number(row.cells[name], f"{row.where}, column {name}") for name in features]
    return _checked(np.array(values), row.where)


def _number(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise UserError(f"{where}: '{cell}' is no finite number; correct the cell, or leave the row out")
    return value


class _Parquet(_Table):
    """A table in which every feature has a column, or one column holds lists: `[D]`, or `[T, D]` as lists of lists."""

    def __init__(self, path: Path):
        from pyarrow import parquet, types

        super().__init__(path)
        with self._damage(), parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
        names, self._features = self._find_columns(schema.names)

        def depth(kind: Any) -> int:
            """Returns how many lists lie around a number of this type; -1 if the type holds something else."""
            if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
                inner = depth(kind.value_type)
                return inner + 1 if inner >= 0 else -1
            return 0 if types.is_integer(kind) or types.is_floating(kind) else -1

        depths = {name: depth(schema.field(name).type) for name in self._features}
        for name, found in depths.items():
            if not 0 <= found <= 2:
                raise UserError(
                    f"{path}, column {name}: holds {schema.field(name).type}; expected numbers, or lists or lists of "
                    "lists of them: leave the column out if it is no feature"
                )
        lists = [name for name, found in depths.items() if found]
        if lists and len(depths) > 1:
            raise UserError(
                f"{path}: has {len(depths)} columns of features, of which {lists[0]} holds lists; expected one column "
                "of lists, or a number in each column: join the columns"
            )
        self._has_lists = bool(lists)
        with self._damage(), parquet.ParquetFile(path) as file:
            cells = file.read(columns=list(names.values())).to_pylist()
        self._named = list(self._keys(((self._where(i), row) for i, row in enumerate(cells)), names))

    def _where(self, number: int) -> str:
        return f"{self.path}, row {number + 1}"

    @contextlib.contextmanager
    def _damage(self) -> Iterator[None]:
        """Turns the exceptions of pyarrow on a damaged file into a UserError."""
        import pyarrow

        try:
            yield
        except (pyarrow.ArrowException, OSError, ValueError, IndexError, MemoryError) as error:
            raise UserError(f"{self.path}: cannot be read as Parquet ({_line(error)}); make the file anew") from error

    def _entries(self) -> Iterator[Entry]:
        from pyarrow import parquet

        number = 0
        with self._damage(), parquet.ParquetFile(self.path) as file:
            rows = _LONG_ROWS if self._has_lists else _ROWS
            for batch in file.iter_batches(batch_size=rows, columns=self._features):
                columns = [batch.column(name) for name in self._features]
                found = columns[0] if self._has_lists else _joined(columns)
                for cell in found:
                    where = self._where(number)
                    values = _listed(cell, where) if self._has_lists else cell
                    yield Entry(key=self._named[number], where=where, values=_checked(values, where))
                    number += 1


def _joined(columns: Sequence[Any]) -> Float64[np.ndarray, "K D"]:
    """Returns the K rows of columns of numbers; nan for an empty cell."""
    return np.stack([column.to_numpy(zero_copy_only=False).astype(np.float64) for column in columns], axis=1)


def _listed(cell: Any, where: str) -> np.ndarray:
    """Returns a cell of lists as `[D]`, or a cell of lists of lists as `[T, D]`; nan for an empty number.

    Raises:
      UserError: the cell or a list in it is empty, or its inner lists differ in length.
    """
    from pyarrow import compute, types

    outer = cell.values  # None for an empty cell
    if outer is not None and not types.is_nested(outer.type):
        return outer.to_numpy(zero_copy_only=False)
    if outer is None or outer.null_count:
        raise UserError(f"{where}: there is no list where one is expected; fill it in, or leave the row out")
    lengths = compute.call_function("list_value_length", [outer]).to_pylist()
    if len(set(lengths)) > 1:
        raise UserError(
            f"{where}: the lists in the list hold from {min(lengths)} to {max(lengths)} numbers; expected as many in "
            "each, [T, D]"
        )
    return outer.flatten().to_numpy(zero_copy_only=False).reshape(len(outer), max(lengths, default=0))


# ---- arrays ----------------------------------------------------------------------------------------------------------


class _Npz(ReadyFile):
    """The archive of `numpy.savez`. An array of Python objects is refused, since jmer never unpickles."""

    unit = "array"

    def _entries(self) -> Iterator[Entry]:
        try:
            archive = zipfile.ZipFile(self.path)
        except _ZIP_ERRORS as error:
            raise UserError(
                f"{self.path}: is no npz archive, or a damaged one ({_line(error)}); save it anew by numpy.savez"
            ) from error
        with archive:
            if twice := [name for name, count in Counter(archive.namelist()).items() if count > 1]:
                raise UserError(f"{self.path}: holds '{twice[0]}' twice; save the file anew by numpy.savez")
            for member in archive.namelist():
                name = member.removesuffix(".npy")
                where = f"{self.path}, array '{name}'"
                if name == member:
                    raise UserError(f"{where}: is no .npy; expected the arrays of numpy.savez alone: leave it out")
                try:
                    values = npz.read_array(archive, member, where=where)
                except UserError:
                    raise
                except Exception as error:  # zipfile and numpy raise exceptions of many kinds on damaged bytes
                    raise UserError(
                        f"{where}: cannot be read ({_line(error)}); expected an array of numbers, [D] or [T, D]: save "
                        "the file anew by numpy.savez, without Python objects"
                    ) from error
                yield Entry(key=(name,), where=where, values=_checked(values, where))


class _Safetensors(ReadyFile):
    """A file of safetensors. Its arrays come in the order of their names."""

    unit = "array"

    def _entries(self) -> Iterator[Entry]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="numpy") as file:
                names = list(file.keys())
                for name in names:
                    where = f"{self.path}, array '{name}'"
                    if (kind := file.get_slice(name).get_dtype()) not in _FLOATS + _INTEGERS:
                        raise UserError(f"{where}: holds {kind}; expected numbers: save them as F32 or F16")
                    values = file.get_tensor(name)
                    yield Entry(key=(name,), where=where, values=_checked(values, where))
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{self.path}: is no file of safetensors, or a damaged one ({_line(error)}); save it anew"
            ) from error


_FORMATS: Mapping[str, type[ReadyFile]] = {
    ".csv": _Csv,
    ".parquet": _Parquet,
    ".npz": _Npz,
    ".safetensors": _Safetensors,
}
SUFFIXES = tuple(_FORMATS)


def _line(error: Exception) -> str:
    """Returns the first line of an exception's text, or its type if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
