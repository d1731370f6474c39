"""CSV files as they really are: byte order marks, stray cp1252, mojibake. Shared by the sources."""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jmer.base.errors import UserError
from jmer.base.labels import SENTIMENTS


@dataclass(frozen=True, kw_only=True)
class Row:
    """where: `FILE:LINE`, for messages. cells: column name -> text, blanks at either end removed."""

    where: str
    cells: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Table:
    """columns: the header's names. cp1252_lines: how many lines were not UTF-8."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    cp1252_lines: int


def read(path: Path) -> Table:
    """Reads a comma-separated file with a header.

    Raises:
      UserError: the file cannot be read, or a row's cells do not match the header.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a CSV file") from error
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path}: is UTF-16; save it as 'CSV UTF-8'")
    lines = []
    cp1252_lines = 0
    for line in raw.removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError:  # line by line, since files are often UTF-8 with a few pasted cp1252 quotes
            lines.append(line.decode("latin-1").translate(_C1))
            cp1252_lines += 1

    reader = csv.reader(lines, strict=True)  # strict: an open quote is an error instead of swallowing the file's rest
    line = 1
    header: list[str] = []
    rows = []
    try:
        for cells in reader:
            where, line = f"{path}:{line}", reader.line_num + 1
            cells = [cell.strip(" \t\r\n") for cell in cells]  # not \x85, which may be a damaged ellipsis
            if not any(cells):
                continue
            if not header:
                header = cells
                continue
            if len(cells) < len(header) or any(cells[len(header) :]):
                raise UserError(
                    f"{where}: has {len(cells)} cells where the header has {len(header)}; "
                    "put quotes around a cell that holds a comma"
                )
            rows.append(Row(where=where, cells=dict(zip(header, cells, strict=False))))
    except csv.Error as error:
        raise UserError(f"{path}:{line}: is not well-formed CSV ({error}); check the quotes from here on") from error
    if not header:
        raise UserError(f"{path}: is empty; expected a header and rows")
    return Table(columns=tuple(header), rows=tuple(rows), cp1252_lines=cp1252_lines)


def require(columns: Sequence[str], needed: Iterable[str], *, path: Path, cure: str) -> None:
    """Raises UserError where one of the `needed` columns is not among the file's `columns`, or is there twice."""
    needed = tuple(needed)
    found = ", ".join(columns)
    if missing := [name for name in needed if name not in columns]:
        raise UserError(
            f"{path}: lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)} (found: {found}); {cure}"
        )
    if twice := [name for name in needed if columns.count(name) > 1]:
        raise UserError(f"{path}: has the column {twice[0]} more than once (found: {found}); rename or remove one")


def sentiment(cell: str, *, column: str, where: str) -> str | None:
    """The sentiment that a cell names, in any case; None of an empty one.

    Raises:
      UserError: it is none of `SENTIMENTS`; `where` says which file and row holds it.
    """
    if cell and cell.lower() not in SENTIMENTS:
        raise UserError(
            f"{where}: {column} is '{cell}'; expected {', '.join(SENTIMENTS)} or nothing: correct the row, or rename "
            "the column if it holds something else"
        )
    return cell.lower() or None


# The 27 printable characters that cp1252 has where Unicode has the C1 controls, which no intact text holds.
_C1 = {byte: bytes([byte]).decode("cp1252") for byte in range(0x80, 0xA0) if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}

# UTF-8 that was read as cp1252 or latin-1. Only what intact text does not hold: general punctuation ("â€™"), emoji
# ("ðŸ˜‚") and small accented letters ("cafÃ©"); not after a capital, where "MAÇÃ»" may well be meant.
_MOJIBAKE = re.compile("â[€\x80].|ð[Ÿ\x9f]..|(?<![A-ZÀ-Þ])[ÂÃ][\xa0-\xbf]", re.DOTALL)


def repair(text: str) -> str:
    """Undoes cp1252 damage; intact text comes back as it is."""
    return _MOJIBAKE.sub(_reread, text).translate(_C1)


def _reread(match: re.Match[str]) -> str:
    try:
        return b"".join(_byte(char) for char in match[0]).decode("utf-8")
    except UnicodeError:  # not mojibake after all
        return match[0]


def _byte(char: str) -> bytes:
    """The byte that cp1252 shows as `char`; cp1252's five holes and the C1 controls stand for themselves."""
    return bytes([ord(char)]) if ord(char) < 0x100 else char.encode("cp1252")


def listing(items: Sequence[str], *, cap: int = 5) -> str:
    """`a, b, c`, or the first few of them and how many more there are."""
    more = f" and {len(items) - cap} more" if len(items) > cap else ""
    return ", ".join(items[:cap]) + more
