"""Reads the cues of a transcript, each as the file has it. `transcript` makes a dialogue of them.

Subtitles are parsed here, because no library keeps all of a file. pysubs2 1.8 adds the name of a cue and the comments
of a VTT file to the text of the cue before, and reads a negative time as a positive one. webvtt-py 0.6 silently leaves
out cues with wrong times and cues without text. srt 3.5 reads no VTT. None tells the line of a mistake.
"""

import html
import json
import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jmer.base.errors import UserError
from jmer.corpora import csvfile

MILLISECONDS = 200  # whole numbers are milliseconds where half of the utterances would last that many seconds

EXPECTED = {  # suffix -> what a file of that kind holds
    ".srt": "cues with times such as '00:01:02,500 --> 00:01:04,000'",
    ".vtt": "cues with times such as '00:01:02.500 --> 00:01:04.000'",
    ".csv": "a header and one row an utterance",
    ".tsv": "a header and one row an utterance",
    ".json": "a list of objects with text, start and end, or an object with such a list as 'segments'",
    ".txt": "one utterance a line",
}


@dataclass(frozen=True, kw_only=True)
class Cue:
    """An utterance as the file gives it.

    place: where the file has it, such as `line 7`.
    text: without markup and in one line.
    id, speaker: empty where the file gives none.
    start, end: in seconds; None where the file gives none.
    """

    place: str
    text: str
    id: str = ""
    speaker: str = ""
    start: float | None = None
    end: float | None = None


def read(path: Path) -> tuple[list[Cue], list[str]]:
    """Returns the cues of a file in its order, and notes: what was noticed, one sentence each.

    path: a file with one of the suffixes of `EXPECTED`.

    Raises:
      UserError: the file cannot be read, holds no cue, or has a wrong time.
    """
    suffix = path.suffix.lower()
    lines, cp1252_lines = _lines(path)
    if suffix in (".srt", ".vtt"):
        cues, notes = _subtitles(path, lines)
    elif suffix in (".csv", ".tsv"):
        cues, notes = _table(path, lines)
    elif suffix == ".json":
        cues, notes = _json(path, lines)
    else:
        cues, notes = _plain(lines), []
    if not cues:
        raise UserError(f"{path}: holds no utterance; expected {EXPECTED[suffix]}")
    if cp1252_lines:
        lines_of = f"{counted(cp1252_lines, 'line')} of {path.name}"
        notes.append(f"{lines_of} {were(cp1252_lines)} not UTF-8 and {were(cp1252_lines)} read as cp1252")
    return cues, notes


def noted(cues: Sequence[Cue], finding: str) -> str:
    """Returns a note such as `2 utterances were cut (line 4 and line 7)`; `finding` says `{were}` for was or were."""
    places = csvfile.listing([cue.place for cue in cues], cap=3)
    return f"{counted(len(cues), 'utterance')} {finding.format(were=were(len(cues)))} ({places})"


def counted(number: int, noun: str) -> str:
    """Returns `1 line` or `2 lines`."""
    return f"{number} {noun}{'s' * (number != 1)}"


def were(number: int) -> str:
    """Returns the verb that goes with the number."""
    return "was" if number == 1 else "were"


def _lines(path: Path) -> tuple[list[str], int]:
    """Returns a file's lines, and how many of them were read as cp1252. Raises UserError if the file is no text."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a transcript") from error
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            raw = raw.decode("utf-16").encode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: begins as UTF-16 and is not ({error.reason}); save it as UTF-8") from error
    if b"\0" in raw:
        raise UserError(f"{path}: holds zero bytes and is no text file; give a transcript, saved as UTF-8")
    lines, cp1252_lines = csvfile.text_lines(raw)
    if not any(line.strip() for line in lines):
        raise UserError(f"{path}: is empty; expected {EXPECTED[path.suffix.lower()]}")
    return [line.rstrip("\r\n") for line in lines], cp1252_lines


# Subtitles. A block is what stands between blank lines.

_ARROW = re.compile(r"\s*(?:-{1,3}|[–—])>\s*")  # word processors make one dash of two
_CLOCK = re.compile(r"(-?)(?:(\d{1,9}):)?(\d{1,9}):(\d{1,2})(?:[.,](\d+))?", re.ASCII)
_NUMBER = re.compile(r"\s*\d+\s*", re.ASCII)
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]+)>")
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_MARKUP = re.compile(r"</?[A-Za-z][^<>]*>|<\d[\d:.]*>|\{\\[^}]*\}")
_ENTITY = re.compile(r"&#?\w+;")
_DASHES = re.compile(r"\s*[-–—].*")
_NO_CUE = re.compile(r"(WEBVTT|NOTE|STYLE|REGION)(\s|$)")


def _subtitles(path: Path, lines: Sequence[str]) -> tuple[list[Cue], list[str]]:
    found, stray = _timed_texts(path, lines)
    notes = []
    if stray:
        verb = were(len(stray))
        notes.append(f"{counted(len(stray), 'text')} without times {verb} left out ({csvfile.listing(stray, cap=3)})")
    cues, shared = [], []
    for line, (start, end), texts in found:
        raw = " ".join(texts)
        voices = [_text(name) for name in _VOICE.findall(raw)]
        cue = Cue(place=f"line {line}", text=_text(raw), speaker=voices[0] if voices else "", start=start, end=end)
        cues.append(cue)
        if len(set(voices)) > 1 or sum(bool(_DASHES.fullmatch(_MARKUP.sub("", text))) for text in texts) > 1:
            shared.append(cue)
    if shared:
        notes.append(noted(shared, "held the words of several people and {were} not divided"))
    return cues, notes


def _timed_texts(
    path: Path, lines: Sequence[str]
) -> tuple[list[tuple[int, tuple[float, float], list[str]]], list[str]]:
    """Returns the line, the times and the lines of text of each cue, and the places of texts that belong to no cue."""
    found: list[tuple[int, tuple[float, float], list[str]]] = []
    stray: list[str] = []
    vtt = path.suffix.lower() == ".vtt"
    blocks = list(_blocks(lines))
    for number, (first, block) in enumerate(blocks):
        spans = {i: span for i, line in enumerate(block) if (span := _span(line))}
        begin = min(spans, default=len(block))
        if vtt and not spans and _NO_CUE.match(block[0]):
            continue
        for i, line in enumerate(block):
            # Within a text an arrow may be meant as an arrow. Where times are due or begun, they are wrong.
            if i not in spans and "-->" in line and (i < begin or re.match(r"\s*-?\d+:\d", line)):
                raise UserError(
                    f"{path}:{first + i}: the times are '{line.strip()}'; expected two times such as "
                    "'00:01:02.500 --> 00:01:04.000': correct the line"
                )
        before = block[:begin]
        following = blocks[number + 1][1][0] if number + 1 < len(blocks) else ""
        if before and _NUMBER.fullmatch(before[-1]) and (spans or (len(before) == 1 and _span(following))):
            before.pop()  # the number of the cue
        elif vtt and spans and before and (len(before) == 1 or _NO_CUE.match(before[0])):
            before = []  # the name of the cue, or the head of the file without a blank line after it
        if before and found and not vtt:
            found[-1][2].extend(before)  # in SRT a text may go on after a blank line
        elif before:
            stray.append(f"line {first}")
        for i, line in enumerate(block[begin:], begin):
            if i in spans:
                found.append((first + i, spans[i], []))
            elif not (i + 1 in spans and _NUMBER.fullmatch(line)):
                found[-1][2].append(line)
    return found, stray


def _blocks(lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yields each run of lines that are not blank, with the number of its first line."""
    block: list[str] = []
    for number, line in enumerate((*lines, ""), 1):
        if line.strip():
            block.append(line)
        elif block:
            yield number - len(block), block
            block = []


def _span(line: str) -> tuple[float, float] | None:
    """Returns the times of a line such as `00:01:02,500 --> 00:01:04,000 position:50%`; None for any other line."""
    start, *end = _ARROW.split(line.strip(), maxsplit=1) if ">" in line else [""]
    times = [_clock(time) for time in (start, *(word for rest in end for word in rest.split()[:1]))]
    return (times[0], times[1]) if len(times) == 2 and times[0] is not None and times[1] is not None else None


def _clock(text: str) -> float | None:
    """Returns the seconds of `[HH:]MM:SS[.mmm]`, also with a comma; None for any other text."""
    match = _CLOCK.fullmatch(text.strip())
    if match is None:
        return None
    sign, hours, minutes, seconds, fraction = match.groups(default="")
    if int(seconds) > 59 or (hours and int(minutes) > 59):
        return None
    whole = (int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds)
    return float(f"{sign}{whole}.{fraction or 0}")


def _text(raw: str) -> str:
    """Returns the text of a cue without markup and in one line."""
    text = _MARKUP.sub("", _BREAK.sub(" ", raw))
    return " ".join(_ENTITY.sub(lambda entity: html.unescape(entity[0]), text).split())


# Tables, JSON and plain text.

_COLUMNS = {  # what is read -> the names of its column, without case, blanks and signs; the first that is there is read
    "text": ("text", "transcript", "transcription", "sentence", "content", "utterance"),
    "speaker": ("speaker", "speakername", "speakerid"),
    "start": ("start", "starttime", "begin", "begintime", "onset", "tmin"),
    "end": ("end", "endtime", "stop", "stoptime", "offset", "tmax"),
    "id": ("utteranceid", "utterance", "id"),
    "dialogue": ("dialogue", "dialogueid", "dialog", "dialogid"),
}


def _table(path: Path, lines: Sequence[str]) -> tuple[list[Cue], list[str]]:
    rows = _rows(path, lines)
    _, header = next(rows, (1, []))
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in header]
    columns = {}
    for field, names in _COLUMNS.items():
        if known := [name for name in names if name in plain and plain.index(name) not in columns.values()]:
            columns[field] = plain.index(known[0])
    if "text" not in columns:
        raise UserError(
            f"{path}: lacks the column text (found: {', '.join(header)}); name the column of the words text, and those "
            "of the times start and end"
        )
    csvfile.require(header, [header[i] for i in columns.values()], path=path, cure="")
    cues, dialogues, clock = [], set(), False
    for line, cells in rows:
        if len(cells) < len(header) or any(cells[len(header) :]):
            raise UserError(
                f"{path}:{line}: has {len(cells)} cells where the header has {len(header)}; put quotes around a cell "
                "that holds the sign between the cells"
            )
        given = {field: cells[i] for field, i in columns.items()}
        dialogues.add(given.get("dialogue"))
        clock |= _has_colon(given)
        cues.append(_cue(given, place=f"line {line}", where=f"{path}:{line}"))
    if len(dialogues) > 1:
        raise UserError(
            f"{path}: holds {len(dialogues)} dialogues; a transcript is that of one recording: write each into a file "
            "of its own"
        )
    notes = []
    if unread := [name for i, name in enumerate(header) if name and i not in columns.values()]:
        notes.append(f"columns that were not read: {csvfile.listing(unread)}")
    return _in_seconds(cues, clock=clock, notes=notes)


def _rows(path: Path, lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yields the line and the cells of each row that is not empty. Commas, semicolons or tabs separate the cells."""
    head = next(line for line in lines if line.strip())
    separator = max("\t,;" if path.suffix.lower() == ".tsv" else ",;\t", key=head.count)
    if separator == "\t":
        rows = enumerate(([_unquoted(cell) for cell in line.split("\t")] for line in lines), 1)
    else:
        rows = csvfile.separated(path, (f"{line}\n" for line in lines), delimiter=separator)
    for line, cells in rows:
        cells = [cell.strip() for cell in cells]
        if any(cells):
            yield line, cells


def _unquoted(cell: str) -> str:
    """Removes the quotes that a spreadsheet writes around a cell. Whisper writes none and leaves those of the text."""
    return cell[1:-1].replace('""', '"') if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def _json(path: Path, lines: Sequence[str]) -> tuple[list[Cue], list[str]]:
    try:
        value = json.loads("\n".join(lines))
    except (ValueError, RecursionError) as error:  # ValueError also for a number of thousands of digits
        raise UserError(f"{path}: is not well-formed JSON ({error}); correct the file") from error
    segments = value.get("segments") if isinstance(value, dict) else value
    if not isinstance(segments, list) or not all(isinstance(segment, dict) for segment in segments):
        raise UserError(f"{path}: has no list of segments; expected {EXPECTED['.json']}")
    cues, clock = [], False
    for number, segment in enumerate(segments, 1):
        where = f"{path}: segment {number}"
        if not isinstance(segment.get("text"), str):
            raise UserError(f"{where}: has no text; give it one, which may be empty")
        # JSON can hold half a character, which no tokeniser and no file takes.
        fields = {name: segment.get(name) for name in ("text", "speaker", "start", "end", "id")}
        given = {name: str(v).encode("utf-8", "replace").decode() for name, v in fields.items() if v is not None}
        clock |= _has_colon(given)
        cues.append(_cue(given, place=f"segment {number}", where=where))
    return _in_seconds(cues, clock=clock, notes=[])


def _cue(given: Mapping[str, str], *, place: str, where: str) -> Cue:
    """Makes a cue of cells or fields; those that are missing or empty are not given."""
    times: dict[str, float | None] = {}
    for field in ("start", "end"):
        cell = given.get(field, "").strip()
        try:
            time = _clock(cell) if ":" in cell else float(cell.replace(",", ".")) if cell else None
        except ValueError:  # no number
            time = math.nan
        if cell and (time is None or not math.isfinite(time)):
            raise UserError(
                f"{where}: the {field} is '{cell}'; expected seconds such as 62.5 or a time such as 0:01:02.500: "
                "correct it, or leave both times empty"
            )
        times[field] = time
    text, speaker = (" ".join(given.get(field, "").split()) for field in ("text", "speaker"))
    return Cue(place=place, text=text, id=given.get("id", ""), speaker=speaker, start=times["start"], end=times["end"])


def _has_colon(given: Mapping[str, str]) -> bool:
    return any(":" in given.get(field, "") for field in ("start", "end"))


def _in_seconds(cues: list[Cue], *, clock: bool, notes: list[str]) -> tuple[list[Cue], list[str]]:
    """Divides milliseconds by 1,000, as the docstring of `transcript` says. clock: whether a time has colons."""
    times = [time for cue in cues for time in (cue.start, cue.end) if time is not None]
    lengths = [cue.end - cue.start for cue in cues if cue.start is not None and cue.end is not None]
    if clock or not lengths or statistics.median(lengths) < MILLISECONDS or not all(t.is_integer() for t in times):
        return cues, notes
    divided = [replace(cue, start=_thousandth(cue.start), end=_thousandth(cue.end)) for cue in cues]
    return divided, [*notes, "all times are large whole numbers and were read as milliseconds"]


def _thousandth(time: float | None) -> float | None:
    return None if time is None else time / 1000


def _plain(lines: Sequence[str]) -> list[Cue]:
    texts = [(number, " ".join(line.split())) for number, line in enumerate(lines, 1)]
    return [Cue(place=f"line {number}", text=text) for number, text in texts if text]
