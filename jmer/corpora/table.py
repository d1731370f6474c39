"""Reads a corpus from one CSV file. Users bring their own data in this form.

The file is UTF-8, has one row for each utterance, and a header with these columns, or with other names for them that
are given as `columns`:

    dialogue   any name; the same name in another split is another dialogue
    utterance  any name, unique within the dialogue; whole numbers give the order, other names the order of the file
    speaker    any name
    label      the emotion; empty if unknown
    split      train, dev or test
    text       the transcript; may be empty
    clip       a video or audio file, absolute or relative to the CSV file; may be empty
    sentiment  negative, neutral or positive, in any case; empty if unknown

The column sentiment is optional. So is one of text and clip.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from jmer.base.errors import UserError
from jmer.base.labels import check_label
from jmer.base.types import SPLITS, Corpus, Dialogue, Utterance
from jmer.corpora import csvfile
from jmer.media import decoding

REQUIRED = ("dialogue", "utterance", "speaker", "label", "split")
INPUTS = ("text", "clip")
OPTIONAL = ("sentiment",)
COLUMNS = REQUIRED + INPUTS + OPTIONAL
FILLED = ("dialogue", "utterance", "speaker", "split")  # the columns whose cells must not be empty


def load(csv: Path, *, columns: Mapping[str, str] = MappingProxyType({}), labels: Sequence[str] = ()) -> Corpus:
    """Reads the table `csv`.

    An utterance's id is `DIALOGUE_UTTERANCE`. If two rows of a split would get the same id, such as utterance 2 of
    dialogue `a_1` and utterance `1_2` of dialogue `a`, the later one has a longer row of underscores: `a__1_2`.

    columns: jmer's name of a column -> the file's name. A column that is left out has jmer's name in the file.
    labels: the label set, in order. By default it is the set of labels in the file, sorted by name.

    Raises:
      UserError: a column or cell is missing or wrong, or a clip is neither video nor audio.
    """
    table = csvfile.read(csv)
    needed = _columns(table, columns, csv=csv)
    if not table.rows:
        raise UserError(f"{csv}: has a header but no rows; expected one row an utterance")
    found: dict[str, dict[str, list[tuple[str, Utterance]]]] = {}  # split -> dialogue -> utterance cells and utterances
    rows: dict[tuple[str, str, str], str] = {}  # split, dialogue and utterance -> its row
    ids: dict[str, set[str]] = {split: set() for split in SPLITS}
    repaired = 0
    for row in table.rows:
        raw = {name: row.cells[column] for name, column in needed.items()}
        cells = {name: cell if name == "clip" else csvfile.repair(cell) for name, cell in raw.items()}
        repaired += cells != raw
        _check(cells, needed, labels, where=row.where)
        dialogue, number, split = cells["dialogue"], cells["utterance"], cells["split"]
        if first := rows.get((split, dialogue, number)):
            raise UserError(
                f"{row.where}: utterance '{number}' of dialogue '{dialogue}' is already at {first}; "
                "remove or renumber one of the two rows"
            )
        rows[split, dialogue, number] = row.where
        name = _free_name(dialogue, number, taken=ids[split])
        ids[split].add(name)
        utterance = _utterance(cells, needed, name=name, csv=csv, where=row.where)
        found.setdefault(split, {}).setdefault(dialogue, []).append((number, utterance))

    utterances = [entry for dialogues in found.values() for turns in dialogues.values() for _, entry in turns]
    labels = labels or sorted({entry.label for entry in utterances if entry.label})
    if not labels:
        raise UserError(
            f"{csv}: no row has a {needed['label']}; fill in that column, or give the label set as --config.labels"
        )
    notes = []
    names = Counter(name for dialogues in found.values() for name in dialogues)
    if repeated := [name for name, count in names.items() if count > 1]:
        notes.append(
            f"{len(repeated)} dialogue names are in more than one split ({csvfile.listing(repeated)}); they are kept "
            "apart as different dialogues: if they are the same, put each into one split"
        )
    if table.cp1252_lines:
        notes.append(f"{table.cp1252_lines} lines of {csv.name} are not UTF-8 and were read as cp1252")
    if repaired:
        notes.append(f"characters damaged by cp1252 were repaired in {repaired} rows")
    if missing := sum(bool(entry.missing_clip) for entry in utterances):
        notes.append(f"{missing} of {missing + sum(bool(entry.clip) for entry in utterances)} clips are missing")
    splits = {
        split: tuple(Dialogue(id=name, utterances=_in_order(turns)) for name, turns in found[split].items())
        for split in SPLITS
        if split in found
    }
    return Corpus(name=csv.stem, labels=tuple(labels), splits=splits, notes=tuple(notes))


def _columns(table: csvfile.Table, columns: Mapping[str, str], *, csv: Path) -> dict[str, str]:
    """Returns jmer's name -> the file's name of each column that is read. Raises UserError if one is missing."""
    if unknown := [name for name in columns if name not in COLUMNS]:
        raise UserError(f"config.columns.{unknown[0]}: there is no such column; expected one of {', '.join(COLUMNS)}")
    names = {name: columns.get(name) or name for name in COLUMNS}
    given = [name for name in INPUTS + OPTIONAL if names[name] in table.columns or columns.get(name)]
    inputs = [] if set(given) & set(INPUTS) else ["text"]
    needed = {name: names[name] for name in (*REQUIRED, *inputs, *given)}
    missing = next((name for name, column in needed.items() if column not in table.columns), "label")
    cure = f"if it has another name, give --config.columns.{missing}=NAME"
    if missing == "split":
        cure += ", else add it: it holds train, dev or test"
    elif missing == "text":
        cure += "; a table needs text, clip or both"
    csvfile.require(table.columns, needed.values(), path=csv, cure=cure)
    return needed


def _check(cells: Mapping[str, str], needed: Mapping[str, str], labels: Sequence[str], *, where: str) -> None:
    """Raises UserError if a cell is empty that must not be, or if the split or the label is not known."""
    if empty := [name for name in FILLED if not cells[name]]:
        raise UserError(f"{where}: the {needed[empty[0]]} cell is empty; fill it in")
    if cells["split"] not in SPLITS:
        raise UserError(f"{where}: {needed['split']} is '{cells['split']}'; expected one of {', '.join(SPLITS)}")
    if cells["label"] and labels:
        check_label(
            cells["label"], labels, where=where, cure="correct the row, or add the label to the set in --config.labels"
        )


def _free_name(dialogue: str, utterance: str, *, taken: Collection[str]) -> str:
    """Joins the two names by as few underscores, one or more, as make a name that is not taken."""
    separator = "_"
    while f"{dialogue}{separator}{utterance}" in taken:
        separator += "_"
    return f"{dialogue}{separator}{utterance}"


def _utterance(cells: Mapping[str, str], needed: Mapping[str, str], *, name: str, csv: Path, where: str) -> Utterance:
    """Makes an utterance of a row's cells. Raises UserError if the clip or the sentiment is wrong."""
    clip, missing = None, ""
    if given := cells.get("clip"):
        clip = csv.parent / given
        try:
            if not clip.exists():
                clip, missing = None, given
            elif not decoding.is_media(clip):  # the user learns this now and not after hours of extraction
                raise UserError(
                    f"{where}: {clip} is no video and no audio file; correct the path or leave the cell empty"
                )
        except OSError as error:
            raise UserError(f"{where}: {clip} cannot be read ({error.strerror}); correct the path") from error
    return Utterance(
        id=name,
        speaker=cells["speaker"],
        text=cells.get("text", ""),
        label=cells["label"] or None,
        sentiment=csvfile.sentiment(cells.get("sentiment", ""), column=needed.get("sentiment", ""), where=where),
        clip=clip,
        missing_clip=missing,
    )


def _in_order(turns: list[tuple[str, Utterance]]) -> tuple[Utterance, ...]:
    if all(cell.isdecimal() for cell, _ in turns):
        turns = sorted(turns, key=lambda turn: int(turn[0]))
    return tuple(utterance for _, utterance in turns)
