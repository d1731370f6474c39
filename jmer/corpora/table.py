"""Reads a corpus from one CSV file. Users bring their own data in this form.

The file has one row for each utterance, and a header with these columns:

    dialogue   any name; the same name in another split is another dialogue
    utterance  any name, unique within the dialogue; whole numbers give the order, other names the order of the file
    speaker    any name
    label      the emotion; empty if unknown. Labels that differ only by case or blanks are one label
    split      train, dev or test, in any case; training is train, val, valid, validation and development are dev
    text       the transcript; may be empty
    clip       a video or audio file, absolute or relative to the CSV file; may be empty
    sentiment  negative, neutral or positive, in any case; empty if unknown
    start      where the utterance starts within the clip, in seconds or as [HH:]MM:SS.mmm; empty for the whole clip
    end        where the utterance ends within the clip, likewise

The columns sentiment, start and end are optional. So is one of text and clip. The cells are separated by commas,
semicolons or tabs. A column that is missing is looked for by the usual names of such a column (`jmer.corpora.header`),
and `columns` names it where it has another name.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from jmer.base.errors import UserError
from jmer.base.labels import folded, label_complaint, spellings
from jmer.base.types import SPLITS, UNNAMED, Corpus, Dialogue, Utterance
from jmer.corpora import clips, csvfile, header

COLUMNS, REQUIRED = header.COLUMNS, header.REQUIRED
FILLED = ("dialogue", "utterance", "speaker", "split")  # the columns whose cells must not be empty

# `eval` and `evaluation` are left out, since some corpora mean dev by them and others test.
_DEV_NAMES = ("val", "valid", "validation", "development")
# The names that a table may have for a split, in lower case -> jmer's names.
SPLIT_OF = {name: name for name in SPLITS} | {"training": "train"} | dict.fromkeys(_DEV_NAMES, "dev")
_DIGITS = 1000  # of a whole number; Python reads none of more than 4,300
_TIME = re.compile(r"(?:(?:(\d{1,9}):)?(\d{1,9}):)?(\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?)")


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A row of the table, checked.

    split: the user's split as jmer names it; in a table for prediction, the cell as it is, or empty.
    cells: jmer's name of a column -> text.
    """

    split: str
    cells: Mapping[str, str]


def load(
    csv: Path,
    *,
    columns: Mapping[str, str] = MappingProxyType({}),
    labels: Sequence[str] = (),
    for_prediction: bool = False,
) -> Corpus:
    """Reads the table `csv`.

    An utterance's id is `DIALOGUE_UTTERANCE`. If two rows of a split would get the same id, such as utterance 2 of
    dialogue `a_1` and utterance `1_2` of dialogue `a`, the later one has a longer row of underscores: `a__1_2`.

    columns: jmer's name of a column -> the file's name; `none` for an optional column that shall not be read. A column
      that is left out has jmer's name in the file, or a usual one.
    labels: the label set, in order. By default it is the set of labels in the file, sorted by name.
    for_prediction: whether a trained model is to predict the labels. All utterances are then in the split test, labels
      may be missing, and only text or clip is required: without a column dialogue all rows are one dialogue, without
      utterance they are numbered, and without speaker one person speaks.

    Raises:
      UserError: a column is missing or may be either of two, or cells are missing or wrong. All wrong rows are named.
    """
    table = csvfile.read(csv, delimiters=header.DELIMITERS, fit=lambda found: header.fit(found, columns))
    names, notes = header.find(table.columns, columns, optional=REQUIRED if for_prediction else (), path=csv)
    if not table.rows:
        raise UserError(f"{csv}: has a header but no rows; expected one row an utterance")
    known = _known(labels)
    rows, repaired = _checked(table, names, known, csv=csv, for_prediction=for_prediction)
    known = known or spellings(row.cells["label"] for row in rows if row.cells["label"])
    if not known and not for_prediction:
        raise UserError(
            f"{csv}: no row has a {names['label']}; fill in that column, or give the label set as --config.labels"
        )

    shelf = clips.Shelf(csv.parent)
    ids: dict[str, set[str]] = {}
    found: dict[tuple[str, str], list[tuple[str, Utterance]]] = {}  # split and dialogue -> utterance cells, utterances
    for row in rows:
        split = "test" if for_prediction else row.split
        dialogue, number = row.cells["dialogue"], row.cells["utterance"]
        name = _free_name(dialogue, number, taken=ids.setdefault(split, set()))
        ids[split].add(name)
        utterance = _utterance(row.cells, known, shelf.find(row.cells["clip"]), name=name)
        found.setdefault((row.split, dialogue), []).append((number, utterance))

    if for_prediction:
        notes += _notes_on_absent(names)
    else:
        notes += _notes_on_splits(table.rows, names["split"])
    notes += _notes_on_labels([row.cells["label"] for row in rows], known, all_expected=not for_prediction)
    count_of_splits = Counter(dialogue for _, dialogue in found)
    if repeated := [name for name, count in count_of_splits.items() if count > 1]:
        notes.append(
            f"{len(repeated)} dialogue names are in more than one split ({csvfile.listing(repeated)}); they are kept "
            "apart as different dialogues: if they are the same, put each into one split"
        )
    if table.cp1252_lines:
        notes.append(f"{table.cp1252_lines} lines of {csv.name} are not UTF-8 and were read as cp1252")
    if repaired:
        notes.append(f"characters damaged by cp1252 were repaired in {repaired} rows")
    notes += shelf.notes()

    splits: dict[str, tuple[Dialogue, ...]] = {}
    for split in ("test",) if for_prediction else SPLITS:
        of_split = [
            Dialogue(id=name, utterances=_in_order(turns))
            for (place, name), turns in found.items()
            if for_prediction or place == split
        ]
        if of_split:
            splits[split] = tuple(of_split)
    label_set = tuple(labels) or tuple(sorted(known.values()))
    return Corpus(name=csv.stem, labels=label_set, splits=splits, notes=tuple(notes))


# ---- rows ------------------------------------------------------------------------------------------------------------


def _checked(
    table: csvfile.Table, names: Mapping[str, str], known: Mapping[str, str], *, csv: Path, for_prediction: bool
) -> tuple[list[_Row], int]:
    """Returns the rows, with every column of jmer's, and the number of rows whose characters were repaired.

    Raises:
      UserError: rows are wrong; the message names all of them.
    """
    rows, repaired = [], 0
    faults: list[tuple[str, str]] = []
    places: dict[tuple[str, str, str], str] = {}  # split, dialogue and utterance -> the row
    for number, row in enumerate(table.rows, 1):
        raw = {name: row.cells[column] for name, column in names.items()}
        cells = {name: cell if name == "clip" else csvfile.repair(cell) for name, cell in raw.items()}
        repaired += cells != raw
        cells = {"dialogue": csv.stem, "utterance": str(number), "speaker": UNNAMED} | cells
        cells = dict.fromkeys(COLUMNS, "") | cells
        cells["label"] = cells["label"].strip()  # also of blanks that are not ASCII
        wrong = _complaints(cells, names, known, any_split=for_prediction)
        split = cells["split"] if for_prediction else SPLIT_OF.get(cells["split"].lower(), "")
        place = split, cells["dialogue"], cells["utterance"]
        named = all(place[1:]) and (split or for_prediction)  # a row that lacks one of the names repeats no other row
        if named and (first := places.setdefault(place, row.where)) != row.where:
            wrong.append(
                f"utterance '{cells['utterance']}' of dialogue '{cells['dialogue']}' is already at {first}; remove or "
                "renumber one of the two rows"
            )
        faults += [(row.where, complaint) for complaint in wrong]
        rows.append(_Row(split=split, cells=cells))
    if faults:
        raise csvfile.faulty(csv, faults)
    return rows, repaired


def _complaints(
    cells: Mapping[str, str], names: Mapping[str, str], known: Mapping[str, str], *, any_split: bool
) -> list[str]:
    """Returns what is wrong with the cells of a row, and what the user can do. The clip is not looked at.

    known: the label set that the user gives, by the `folded` labels; empty if any label will do.
    any_split: whether a split may have any name.
    """
    wrong = [
        f"the {names[name]} cell is empty; fill it in"
        for name in FILLED
        if name in names and not cells[name] and not (any_split and name == "split")
    ]
    if not any_split and cells["split"] and cells["split"].lower() not in SPLIT_OF:
        expected = f"{', '.join(SPLITS)} (or {', '.join(_DEV_NAMES)} for dev)"
        wrong.append(f"{names['split']} is '{cells['split']}'; expected one of {expected}")
    label = cells["label"]
    if label and known and folded(label) not in known:
        cure = "correct the row, or add the label to the set in --config.labels"
        wrong.append(label_complaint(label, tuple(known.values()), cure=cure))
    if complaint := csvfile.sentiment_complaint(cells["sentiment"], column=names.get("sentiment", "")):
        wrong.append(
            f"{complaint}: correct the row, or give --config.columns.sentiment={header.NONE} if the column holds "
            "something else"
        )
    return wrong + _time_complaints(cells, names)


def _time_complaints(cells: Mapping[str, str], names: Mapping[str, str]) -> list[str]:
    given = {name: cells[name] for name in header.TIMES if cells[name]}
    cure = f"correct the row, or give --config.columns.start={header.NONE} if the column holds something else"
    seconds = {name: _seconds(cell) for name, cell in given.items()}
    if bad := [name for name, value in seconds.items() if value is None]:
        return [
            f"{names[name]} is '{given[name]}'; expected seconds from the start of the clip, or [HH:]MM:SS.mmm: {cure}"
            for name in bad
        ]
    if len(given) == 1:
        return [f"only one of {names['start']} and {names['end']} is given; fill in both or none"]
    start, end = seconds.get("start"), seconds.get("end")
    if start is not None and end is not None and end <= start:
        times = f"{names['start']} is '{given['start']}' and {names['end']} is '{given['end']}'"
        return [f"{times}; expected an end after the start: {cure}"]
    return []


def _seconds(cell: str) -> float | None:
    """Returns the seconds that a cell such as `62.5`, `01:02.5` or `00:01:02,500` names; None if it names none."""
    match = _TIME.fullmatch(cell)
    if match is None:
        return None
    hours, minutes, seconds = int(match[1] or 0), int(match[2] or 0), float(match[3].replace(",", "."))
    if (match[1] and minutes >= 60) or (match[2] and seconds >= 60) or not math.isfinite(seconds):
        return None
    return hours * 3600 + minutes * 60 + seconds


# ---- utterances ------------------------------------------------------------------------------------------------------


def _free_name(dialogue: str, utterance: str, *, taken: Collection[str]) -> str:
    """Joins the two names by as few underscores, one or more, as make a name that is not taken."""
    separator = "_"
    while f"{dialogue}{separator}{utterance}" in taken:
        separator += "_"
    return f"{dialogue}{separator}{utterance}"


def _utterance(cells: Mapping[str, str], known: Mapping[str, str], clip: clips.Clip, *, name: str) -> Utterance:
    return Utterance(
        id=name,
        speaker=cells["speaker"],
        text=cells["text"],
        label=known[folded(cells["label"])] if cells["label"] else None,
        sentiment=cells["sentiment"].lower() or None,
        clip=clip.path,
        start=_seconds(cells["start"]),
        end=_seconds(cells["end"]),
        missing_clip=clip.missing,
        notes=(clip.note,) if clip.note else (),
    )


def _in_order(turns: list[tuple[str, Utterance]]) -> tuple[Utterance, ...]:
    if all(cell.isdecimal() and len(cell) <= _DIGITS for cell, _ in turns):
        turns = sorted(turns, key=lambda turn: int(turn[0]))
    return tuple(utterance for _, utterance in turns)


def _known(labels: Sequence[str]) -> dict[str, str]:
    """Returns the `folded` label -> the label, of a label set that the user gives.

    Raises:
      UserError: two labels of the set are one label.
    """
    known: dict[str, str] = {}
    for label in labels:
        if (first := known.get(folded(label))) is not None:
            raise UserError(
                f"config.labels has '{first}' and '{label}', which are one label, since case and blanks do not count; "
                "leave one of them out"
            )
        known[folded(label)] = label
    return known


# ---- notes -----------------------------------------------------------------------------------------------------------


def _notes_on_absent(names: Mapping[str, str]) -> list[str]:
    """Says what stands for the columns that a table for prediction lacks."""
    meaning = {
        "dialogue": "all rows are one dialogue",
        "utterance": "the rows are numbered",
        "speaker": "one person speaks in all rows",
    }
    return [f"there is no column {name}, so {text}" for name, text in meaning.items() if name not in names]


def _notes_on_splits(rows: Iterable[csvfile.Row], column: str) -> list[str]:
    counts = Counter(cell for row in rows if (cell := row.cells[column]) not in SPLITS)
    if not counts:
        return []
    taken = [f"{count} rows of '{cell}' for {SPLIT_OF[cell.lower()]}" for cell, count in counts.items()]
    return [f"the column {column} has other names for splits; jmer takes {', '.join(taken)}"]


def _notes_on_labels(cells: Sequence[str], known: Mapping[str, str], *, all_expected: bool) -> list[str]:
    """Counts the rows whose label has another spelling in the label set, and the rows without a label.

    all_expected: whether a row without a label is worth a note.
    """
    notes = []
    counts = Counter(cell for cell in cells if cell)
    taken = [
        f"'{cell}' ({count} rows) for '{spelling}' ({counts[spelling]} rows)"
        for cell, count in counts.items()
        if (spelling := known[folded(cell)]) != cell
    ]
    if taken:
        notes.append(f"labels that differ only by case or blanks are one label; jmer takes {csvfile.listing(taken)}")
    if all_expected and (empty := len(cells) - counts.total()):
        notes.append(f"{empty} of {len(cells)} rows have no label; training and scores leave them out")
    return notes
