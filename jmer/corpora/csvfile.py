"""Reads CSV files as they occur: with byte order marks, lines in cp1252 and mojibake. All sources use it."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jmer.base.errors import UserError
from jmer.base.labels import SENTIMENTS


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table.

    where: `FILE:LINE`, for messages.
    cells: column name -> text, without blanks at either end.
    """

    where: str
    cells: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Table:
    """The content of a file.

    columns: the names in the header.
    rows: the other rows, without empty ones.
    cp1252_lines: the number of lines that were not UTF-8.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    cp1252_lines: int


def read(path: Path, *, delimiters: str = ",", fit: Callable[[Sequence[str]], int] = len) -> Table:
    """Reads a file with a header. Lines that are not UTF-8 are read as cp1252.

    delimiters: the characters that may separate the cells. The file is read with the one whose header fits best.
    fit: says how well a header fits. Among equal headers, the one with more columns counts as better.

    Raises:
      UserError: the file cannot be read, is empty, or has rows whose cells do not match the header.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a CSV file") from error
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path}: is UTF-16; expected UTF-8: save it as 'CSV UTF-8'")
    lines, cp1252_lines = text_lines(raw)
    delimiter = max(delimiters, key=lambda char: (fit(names := _header(lines, char)), len(names)))
    header: list[str] = []
    rows = []
    faults: list[tuple[str, str]] = []
    for line, cells in separated(path, lines, delimiter=delimiter):
        where = f"{path}:{line}"
        cells = [cell.strip(" \t\r\n") for cell in cells]  # \x85 stays, since it may be a damaged ellipsis
        if not any(cells):
            continue
        if not header:
            header = cells
            continue
        if len(cells) < len(header) or any(cells[len(header) :]):
            reason = (
                f"has {len(cells)} cells where the header has {len(header)}; "
                f"put quotes around a cell that holds a {_DELIMITER_NAMES.get(delimiter, delimiter)}"
            )
            faults.append((where, reason))
            continue
        rows.append(Row(where=where, cells=dict(zip(header, cells, strict=False))))
    if not header:
        raise UserError(f"{path}: is empty; expected a header and rows")
    if faults:
        raise faulty(path, faults)
    return Table(columns=tuple(header), rows=tuple(rows), cp1252_lines=cp1252_lines)


def separated(path: Path, lines: Iterable[str], *, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the cells of each row, with the number of its first line.

    Raises:
      UserError: the rows are not well-formed.
    """
    # strict makes an open quote an error; otherwise the rest of the file would be one cell.
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}:{line}: is not well-formed CSV ({error}); check the quotes from here on") from error


def text_lines(raw: bytes) -> tuple[list[str], int]:
    """Returns the lines of a file with their ends, and how many of them were not UTF-8 and were read as cp1252."""
    lines = []
    cp1252_lines = 0
    for line in raw.removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError:  # by line, since many files are UTF-8 with a few quotes pasted in cp1252
            lines.append(line.decode("latin-1").translate(_C1))
            cp1252_lines += 1
    return lines, cp1252_lines


_DELIMITER_NAMES = {",": "comma", ";": "semicolon", "\t": "tab"}


def _header(lines: Sequence[str], delimiter: str) -> list[str]:
    """Returns the names in the header as this delimiter separates them; none if the header is not well-formed then."""
    try:
        for cells in csv.reader(lines, delimiter=delimiter, strict=True):
            if names := [name for cell in cells if (name := cell.strip(" \t\r\n"))]:
                return names
    except csv.Error:  # `read` names the line if the header is not well-formed with any of the delimiters
        pass
    return []


def faulty(path: Path, faults: Sequence[tuple[str, str]]) -> UserError:
    """Returns an error that names all wrong rows of a file. Rows that are wrong in the same way are named together.

    faults: for each fault a row's `FILE:LINE`, and what is wrong with the row and what the user can do.
    """
    if len(faults) == 1:
        return UserError(": ".join(faults[0]))
    lines: dict[str, list[str]] = {}  # reason -> the numbers of the lines
    for where, reason in faults:
        lines.setdefault(reason, []).append(where.rpartition(":")[2])
    told = [
        f"({number}) line{'s' * (len(wrong) > 1)} {listing(wrong)}: {reason}"
        for number, (reason, wrong) in enumerate(list(lines.items())[:_REASONS_NAMED], 1)
    ]
    if rest := len(lines) - len(told):
        told.append(f"and {rest} more faults")
    return UserError(f"{path}: {len({where for where, _ in faults})} rows are wrong: {' '.join(told)}")


_REASONS_NAMED = 8


def require(columns: Sequence[str], needed: Iterable[str], *, path: Path, cure: str) -> None:
    """Checks that a file has each of the `needed` columns once.

    cure: what the user can do if a column is missing, for the message.

    Raises:
      UserError: a column is missing or occurs twice.
    """
    needed = tuple(needed)
    found = ", ".join(columns)
    if missing := [name for name in needed if name not in columns]:
        raise UserError(
            f"{path}: lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)} (found: {found}); {cure}"
        )
    if twice := [name for name in needed if columns.count(name) > 1]:
        raise UserError(f"{path}: has the column {twice[0]} more than once (found: {found}); rename or remove one")


def sentiment(cell: str, *, column: str, where: str) -> str | None:
    """Returns the sentiment that a cell names, in lower case; None for an empty cell.

    column, where: the column's name and the row's `FILE:LINE`, for the message.

    Raises:
      UserError: the cell holds something else than one of `SENTIMENTS`.
    """
    if complaint := sentiment_complaint(cell, column=column):
        raise UserError(f"{where}: {complaint}: correct the row, or rename the column if it holds something else")
    return cell.lower() or None


def sentiment_complaint(cell: str, *, column: str) -> str:
    """Returns what is wrong with a cell of sentiments, and what was expected; empty for a good or an empty cell."""
    if not cell or cell.lower() in SENTIMENTS:
        return ""
    return f"{column} is '{cell}'; expected {', '.join(SENTIMENTS)} or nothing"


# cp1252 has 27 printable characters at the code points of Unicode's C1 controls. No intact text holds these controls.
_C1 = {byte: bytes([byte]).decode("cp1252") for byte in range(0x80, 0xA0) if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}

# UTF-8 that was read as cp1252 or latin-1. The pattern has only sequences that intact text does not hold: general
# punctuation ("â€™"), emoji ("ðŸ˜‚") and small accented letters ("cafÃ©"). The letters do not count after a capital, as
# a text such as "MAÇÃ»" may be intact.
_MOJIBAKE = re.compile("â[€\x80].|ð[Ÿ\x9f]..|(?<![A-ZÀ-Þ])[ÂÃ][\xa0-\xbf]", re.DOTALL)


def repair(text: str) -> str:
    """Repairs text that was decoded as cp1252 or latin-1 by mistake. Intact text is returned unchanged."""
    return _MOJIBAKE.sub(_reread, text).translate(_C1)


def _reread(match: re.Match[str]) -> str:
    try:
        return b"".join(_byte(char) for char in match[0]).decode("utf-8")
    except UnicodeError:  # the match is not mojibake after all
        return match[0]


def _byte(char: str) -> bytes:
    """Returns the byte that cp1252 decodes as `char`. A byte that cp1252 leaves undefined is its own code point."""
    return bytes([ord(char)]) if ord(char) < 0x100 else char.encode("cp1252")


def listing(items: Sequence[str], *, cap: int = 5) -> str:
    """Returns `a, b, c`, or the first `cap` items and the number of the others: `a, b and 7 more`."""
    more = f" and {len(items) - cap} more" if len(items) > cap else ""
    return ", ".join(items[:cap]) + more


def harmless(text: str) -> str:
    """Puts an apostrophe before a cell that a spreadsheet would otherwise run as a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text
