"""Predictions for people and for other programs: as a table on the screen, and as files.

    .csv       one row an utterance, with every probability and share
    .json      the same, for programs
    .srt .vtt  subtitles with the emotion in brackets before the text
    .rttm      the lines of speaker diarisation, with the emotion in place of the speaker
    .TextGrid  one tier a speaker with the emotions as intervals, for Praat
    .html      a timeline beside the video or sound (`jmer.pages.timeline`)

The writers are jmer's own, because pysubs2 drops words in braces and takes `\\n` in a text for the end of a line, and
praatio refuses intervals that overlap.
"""

import csv
import html
import io
import json
import math
import re
import shutil
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

from jmer.base import files
from jmer.base.errors import StorageError, UserError
from jmer.base.types import UNNAMED, Prediction, Utterance
from jmer.corpora import csvfile
from jmer.pages.timeline import Shown, beside, embedded, timeline

_LEAST_TEXT = 12  # the columns of the screen that a text keeps beside a long reason
_MOST_SPEAKER = 16  # and those that a speaker's name gets at most


def check(path: Path, utterances: Sequence[Utterance | Prediction] = ()) -> None:
    """Checks that `write` can write to a path, so that a command can refuse a wrong path before it works for minutes.

    utterances: of which the predictions will be.

    Raises:
      UserError: the suffix is of no kind that jmer writes, the folder does not exist, the path is a folder, or the
        format needs times and an utterance has none.
    """
    if path.suffix.lower() not in (PAGE, *_WRITERS):
        known = ", ".join(SUFFIXES)
        raise UserError(f"{path}: is no kind of file that jmer writes; expected a name that ends in {known}")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; create it, or give another path")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the path of a file")
    for u in utterances if path.suffix.lower() not in _UNTIMED else ():
        if u.start is None or u.end is None or not 0 <= u.start < u.end < math.inf:
            name = u.utterance_id if isinstance(u, Prediction) else u.id
            raise UserError(
                f"{path}: utterance '{name}' has no times, which {path.suffix} needs; write a .csv or .json file, or "
                "give the utterance a start and an end in the transcript"
            )


def write(path: Path, dialogues: Sequence[Shown], *, embed: bool = False) -> None:
    """Writes the predictions of dialogues to a file, in the format that the suffix names.

    An utterance without an answer has an empty label; subtitles then hold the text alone.

    Args:
      embed: whether a page holds the videos and sounds itself. Otherwise it plays them from where they lie.

    Raises:
      UserError: there is no prediction, `check` refuses the path, the format needs times and an utterance has none, or
        there is too much to embed.
      StorageError: the file cannot be written.
    """
    predictions = [prediction for dialogue in dialogues for prediction in dialogue.predictions]
    check(path, predictions)
    if not predictions:
        raise UserError(f"{path}: there is no prediction to write; give at least one")
    if path.suffix.lower() == PAGE:
        clips = [clip for dialogue in dialogues for clip in dialogue.clips if clip is not None]
        source = embedded(clips) if embed else beside(path.parent.resolve())
        text = timeline(dialogues, title=f"Emotions: {path.stem}", source=source)
    else:
        text = _WRITERS[path.suffix.lower()](path, predictions)
    try:
        # A text of the user may hold half of a surrogate pair, which no encoding takes.
        files.save_text(path, text.encode("utf-8", "replace").decode("utf-8"))
    except OSError as error:
        cure = "make room or give another path"
        raise StorageError(f"{path}: cannot be written ({error.strerror}); {cure}") from error


# The screen.


def table(predictions: Sequence[Prediction]) -> str:
    """Returns a table for the screen: a head and one line an utterance, as wide as the terminal.

    Each line holds the start, the speaker, the likeliest emotion with its probability, the share of each modality, and
    the text. The text is cut to fit. Where the status is not `ok`, the status and the reason follow and are never cut.
    """
    rows = [
        [
            "" if p.start is None else _minutes(p.start),
            _cut(_printable(p.speaker), _MOST_SPEAKER),
            _printable(p.label) or "-",
            f"{p.probs[p.label]:.0%}" if p.label in p.probs else "",
            _modalities(p),
        ]
        for p in predictions
    ]
    heads = ["time", "speaker", "emotion", "", "modalities"]
    shown = [i for i, head in enumerate(heads) if not head or any(row[i] for row in rows)]
    wide = [max(_width(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    left = shutil.get_terminal_size().columns - sum(wide[i] + 2 for i in shown)
    lines = []
    for row, text, note in [(heads, "text", ""), *zip(rows, *_remarks(predictions), strict=True)]:
        cells = [_pad(row[i], wide[i], right=heads[i] in ("time", "")) for i in shown]
        room = max(left - (_width(note) + 2 if note else 0), _LEAST_TEXT)
        lines.append("  ".join([*cells, *filter(None, (_cut(text, room), note))]).rstrip())
    return "\n".join(lines)


def _remarks(predictions: Sequence[Prediction]) -> tuple[list[str], list[str]]:
    """Returns the text and the status with its reason of each prediction; the latter is empty where all is well."""
    notes = [f"{p.status}: {p.reason}" if p.reason else p.status for p in predictions]
    texts = [_printable(p.text) for p in predictions]
    return texts, ["" if p.status == "ok" else _printable(note) for p, note in zip(predictions, notes, strict=True)]


def _minutes(seconds: float) -> str:
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


def _modalities(p: Prediction) -> str:
    """Names the modalities that an answer rests on, with their shares where the model weighs them."""
    shares = [f"{name} {share:.0%}" for name, share in p.gates.items() if share > 0 or name in p.modalities]
    return " ".join(shares or p.modalities)


def _printable(text: str) -> str:
    """Returns a text in one line; a character that could steer the terminal becomes a blank."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _width(text: str) -> int:
    """Returns the number of columns that a terminal needs: two for a wide character, none for a combining one."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


def _cut(text: str, room: int) -> str:
    if _width(text) <= room:
        return text
    while _width(text) > room - 1:
        text = text[:-1]
    return text.rstrip() + "…"


def _pad(text: str, room: int, *, right: bool) -> str:
    blanks = " " * (room - _width(text))
    return blanks + text if right else text + blanks


# Tables and JSON.


def _csv(path: Path, predictions: Sequence[Prediction]) -> str:
    labels = list(dict.fromkeys(label for p in predictions for label in p.probs))
    shared = list(dict.fromkeys(modality for p in predictions for modality in p.gates))
    stream = io.StringIO()
    writer = csv.writer(stream)  # with \r\n at line ends: otherwise Python puts no quotes around a cell with \r
    shares = [f"share_{modality}" for modality in shared]
    begin = ["utterance", "speaker", "start", "end", "text", "label"]
    writer.writerow([*begin, *(f"p_{label}" for label in labels), *shares, "modalities", "status", "reason"])
    for p in predictions:
        times = ["" if time is None else f"{time:.3f}" for time in (p.start, p.end)]
        numbers = [_number(p.probs.get(label)) for label in labels] + [_number(p.gates.get(name)) for name in shared]
        cells = [
            p.utterance_id,
            p.speaker,
            *times,
            p.text,
            p.label,
            *numbers,
            " ".join(p.modalities),
            p.status,
            p.reason,
        ]
        writer.writerow(map(csvfile.harmless, cells))
    return stream.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _json(path: Path, predictions: Sequence[Prediction]) -> str:
    utterances = [
        {
            "utterance": p.utterance_id,
            "speaker": p.speaker,
            "start": p.start,
            "end": p.end,
            "text": p.text,
            "label": p.label,
            "probs": {label: float(prob) for label, prob in p.probs.items()},
            "shares": {modality: float(share) for modality, share in p.gates.items()},
            "modalities": list(p.modalities),
            "status": p.status,
            "reason": p.reason,
        }
        for p in predictions
    ]
    labels = list(dict.fromkeys(label for p in predictions for label in p.probs))
    return json.dumps({"labels": labels, "utterances": utterances}, indent=1, ensure_ascii=False) + "\n"


# Files with times. They hold whole milliseconds, and every utterance lasts at least one.


def _spans(predictions: Sequence[Prediction]) -> list[tuple[int, int, Prediction]]:
    """Returns the predictions with their times in milliseconds, in the order of time."""
    spans = []
    for p in predictions:
        assert p.start is not None  # `check` has refused it
        assert p.end is not None
        start = round(p.start * 1000)
        spans.append((start, max(round(p.end * 1000), start + 1), p))
    return sorted(spans, key=lambda span: span[0])


def _srt(path: Path, predictions: Sequence[Prediction]) -> str:
    several = len({p.speaker for p in predictions}) > 1
    cues = []
    for number, (start, end, p) in enumerate(_spans(predictions), 1):
        said = f"{p.speaker}: {p.text}" if several and p.speaker else p.text
        # SRT has no escapes, but programs that read it take tags and entities from HTML. Only what would be taken for
        # one is therefore written as an entity, and any other sign as it is.
        text = re.sub(r"&(?=#?\w+;)", "&amp;", _line(p, said))
        text = re.sub(r"<(?=/?[A-Za-z\d])", "&lt;", text).replace("-->", "--&gt;")
        cues.append(f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n\n")
    return "".join(cues)


def _vtt(path: Path, predictions: Sequence[Prediction]) -> str:
    cues = ["WEBVTT\n\n"]
    for start, end, p in _spans(predictions):
        speaker = " ".join(p.speaker.split())
        voice = f"<v {html.escape(speaker, quote=False)}>" if speaker else ""
        text = html.escape(_line(p, p.text), quote=False)
        cues.append(f"{_clock(start, '.')} --> {_clock(end, '.')}\n{voice}{text}\n\n")
    return "".join(cues)


def _line(p: Prediction, said: str) -> str:
    """Returns the text of a cue in one line, since a blank line would end the cue."""
    return " ".join(f"[{p.label}] {said}".split() if p.label else said.split())


def _clock(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{rest:03d}"


def _rttm(path: Path, predictions: Sequence[Prediction]) -> str:
    """The fields are type, file, channel, start, duration, words, kind of speaker, name, confidence and lookahead."""
    return "".join(
        f"SPEAKER {_word(path.stem)} 1 {start / 1000:.3f} {(end - start) / 1000:.3f} <NA> <NA> {_word(p.label)} "
        f"{f'{p.probs[p.label]:.6f}' if p.label in p.probs else '<NA>'} <NA>\n"
        for start, end, p in _spans(predictions)
    )


def _word(name: str) -> str:
    """Returns a name without blanks, which separate the fields of RTTM."""
    return "_".join(name.split()) or "<NA>"


def _textgrid(path: Path, predictions: Sequence[Prediction]) -> str:
    spans = _spans(predictions)
    last = max(end for _, end, _ in spans)
    tiers: dict[str, list[tuple[int, int, str]]] = {}
    for start, end, p in sorted(spans, key=lambda span: span[:2]):
        _add_interval(tiers.setdefault(p.speaker or UNNAMED, []), start, end, p.label)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += ["xmin = 0", f"xmax = {last / 1000}", "tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (speaker, intervals) in enumerate(tiers.items(), 1):
        filled = _filled(intervals, last)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_quoted(speaker)}"]
        lines += ["        xmin = 0", f"        xmax = {last / 1000}", f"        intervals: size = {len(filled)}"]
        for i, (start, end, label) in enumerate(filled, 1):
            lines += [f"        intervals [{i}]:", f"            xmin = {start / 1000}"]
            lines += [f"            xmax = {end / 1000}", f"            text = {_quoted(label)}"]
    return "\n".join(lines) + "\n"


def _add_interval(tier: list[tuple[int, int, str]], start: int, end: int, label: str) -> None:
    """Adds an interval behind those of a tier, none of which may overlap.

    An interval ends where the next one begins. One that would have no length left shares the interval before it.
    """
    if tier and start < tier[-1][1]:
        begun, ended, before = tier[-1]
        if start > begun:
            tier[-1] = begun, start, before
        elif end > ended:
            start = ended
        else:
            tier[-1] = begun, ended, " / ".join(filter(None, (before, label)))
            return
    tier.append((start, end, label))


def _filled(intervals: Sequence[tuple[int, int, str]], last: int) -> list[tuple[int, int, str]]:
    """Fills the gaps between intervals with empty ones, as Praat wants them."""
    filled, reached = [], 0
    for start, end, label in intervals:
        filled += [(reached, start, "")] if start > reached else []
        filled.append((start, end, label))
        reached = end
    return filled + ([(reached, last, "")] if last > reached else [])


def _quoted(text: str) -> str:
    return '"' + " ".join(text.split()).replace('"', '""') + '"'


_WRITERS: dict[str, Callable[[Path, Sequence[Prediction]], str]] = {
    ".csv": _csv,
    ".json": _json,
    ".srt": _srt,
    ".vtt": _vtt,
    ".rttm": _rttm,
    ".textgrid": _textgrid,
}
PAGE = ".html"
_UNTIMED = (".csv", ".json", PAGE)
SUFFIXES = (".csv", ".json", ".srt", ".vtt", ".rttm", ".TextGrid", PAGE)
