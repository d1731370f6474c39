"""Any dataset that a CSV describes: the way to bring one's own.

UTF-8, one row an utterance, a header with these columns (other names by `columns`):

    dialogue   any name; the same name in another split is another dialogue
    utterance  unique within the dialogue; whole numbers give the order, otherwise the file does
    speaker    any name
    label      the emotion; empty where it is not known
    split      train, dev or test
    text       what is said; may be empty
    clip       video or audio file, absolute or relative to the CSV; may be empty
    sentiment  negative, neutral or positive, in any case; empty where it is not known

Of text and clip, one column may be absent; sentiment may always be.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
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
FILLED = ("dialogue", "utterance", "speaker", "split")  # no empty cells here


def load(csv: Path, *, columns: Mapping[str, str] = MappingProxyType({}), labels: Sequence[str] = ()) -> Corpus:
    """Reads the table `csv`.

    columns: the file's name of a column, by jmer's name; those left out have jmer's name.
    labels: the label set in its order; by default the labels found, sorted.

    Raises:
      UserError: a column or cell is missing or wrong, or a clip is neither video nor audio.
    """
    table = csvfile.read(csv)
    needed = _columns(table, columns, csv=csv)
    if not table.rows:
        raise UserError(f"{csv}: has a header but no rows; expected one row an utterance")
    found: dict[str, dict[str, list[tuple[str, Utterance]]]] = {}  # split -> dialogue -> utterance cells and utterances
    rows: dict[tuple[str, str], str] = {}  # split and utterance id -> its row
    repaired = 0
    for row in table.rows:
        raw = {name: row.cells[column] for name, column in needed.items()}
        cells = {name: cell if name == "clip" else csvfile.repair(cell) for name, cell in raw.items()}
        repaired += cells != raw
        utterance = _utterance(cells, needed, labels, csv=csv, where=row.where)
        dialogue, split = cells["dialogue"], cells["split"]
        if first := rows.get((split, utterance.id)):
            raise UserError(f"{row.where}: utterance '{utterance.id}' is already at {first}; renumber one")
        rows[split, utterance.id] = row.where
        found.setdefault(split, {}).setdefault(dialogue, []).append((cells["utterance"], utterance))

    utterances = [entry for dialogues in found.values() for turns in dialogues.values() for _, entry in turns]
    labels = labels or sorted({entry.label for entry in utterances if entry.label})
    if not labels:
        raise UserError(f"{csv}: no row has a {needed['label']}; fill in the column or give the set as --config.labels")
    notes = []
    names = Counter(name for dialogues in found.values() for name in dialogues)
    if repeated := [name for name, count in names.items() if count > 1]:
        notes.append(
            f"{len(repeated)} dialogue names are in more than one split ({csvfile.listing(repeated)}); they are kept "
            "apart as different dialogues: if they are the same, put each into one split"
        )
    if table.cp1252_lines:
        notes.append(f"{table.cp1252_lines} lines of {csv.name} are not UTF-8; read as cp1252")
    if repaired:
        notes.append(f"cp1252-damaged characters repaired in {repaired} rows")
    if missing := sum(bool(entry.missing_clip) for entry in utterances):
        notes.append(f"{missing} of {missing + sum(bool(entry.clip) for entry in utterances)} clips missing")
    splits = {
        split: tuple(Dialogue(id=name, utterances=_in_order(turns)) for name, turns in found[split].items())
        for split in SPLITS
        if split in found
    }
    return Corpus(name=csv.stem, labels=tuple(labels), splits=splits, notes=tuple(notes))


def _columns(table: csvfile.Table, columns: Mapping[str, str], *, csv: Path) -> dict[str, str]:
    """The file's column names by jmer's, of those that are there. Raises UserError where one is missing."""
    if unknown := [name for name in columns if name not in COLUMNS]:
        raise UserError(f"config.columns.{unknown[0]}: no such column; jmer's are {', '.join(COLUMNS)}")
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


def _utterance(
    cells: Mapping[str, str], needed: Mapping[str, str], labels: Sequence[str], *, csv: Path, where: str
) -> Utterance:
    """One row's. Raises UserError where a cell is wrong."""
    if empty := [name for name in FILLED if not cells[name]]:
        raise UserError(f"{where}: the {needed[empty[0]]} cell is empty; fill it in")
    if cells["split"] not in SPLITS:
        raise UserError(f"{where}: {needed['split']} is '{cells['split']}'; expected one of {', '.join(SPLITS)}")
    if cells["label"] and labels:
        check_label(cells["label"], labels, where=where)
    clip, missing = None, ""
    if name := cells.get("clip"):
        clip = csv.parent / name
        try:
            if not clip.exists():
                clip, missing = None, name
            elif not decoding.is_media(clip):  # better found now than after hours of extraction
                raise UserError(
                    f"{where}: {clip} is no video and no audio file; correct the path or leave the cell empty"
                )
        except OSError as error:
            raise UserError(f"{where}: {clip} cannot be read ({error.strerror}); correct the path") from error
    return Utterance(
        id=f"{cells['dialogue']}_{cells['utterance']}",
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
