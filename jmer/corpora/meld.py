"""Reads MELD's CSV files and clip folders, with their known damage (https://github.com/declare-lab/MELD).

No row is dropped. A damaged row keeps its text and label, loses the values that cannot be right, and says so in its
notes. Corrupt clips are found when they are decoded, and so are wrongly cut ones, by `Utterance.max_seconds`.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jmer.base.errors import UserError
from jmer.base.labels import MELD_EMOTIONS, check_label
from jmer.base.types import SPLITS, Corpus, Dialogue, Utterance
from jmer.corpora import csvfile

COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID", "StartTime", "EndTime")
SENTIMENT = "Sentiment"  # MELD always has this column; a corpus laid out like MELD need not
CLIP_FOLDERS = {
    "train": "train_splits",
    "dev": "dev_splits_complete",
    "test": "output_repeated_splits_test",
}
MAX_SECONDS = 60.0  # the longest intact utterance lasts 41 s, and the broken one 305 s

_OTHER_LABELS = "correct the row, or read a corpus with other labels by --config.source=table"
_TIME = re.compile(r"(\d+):(\d+):(\d+)[,.](\d+)")


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """The clips of a split, compared with its CSV.

    rows: the number of utterances.
    missing: names of the clips that a row should have and the folder lacks.
    stray: names of the files in the folder that belong to no row.
    """

    split: str
    rows: int
    missing: tuple[str, ...]
    stray: tuple[str, ...]


def lacking(root: Path) -> tuple[str, ...]:
    """Returns the names of MELD's CSV files and clip folders that are not in `root`, which `load` describes."""
    names = [(split, f"{split}_sent_emo.csv", Path.is_file) for split in SPLITS]
    names += [(split, name, Path.is_dir) for split, name in CLIP_FOLDERS.items()]
    return tuple(name for split, name, exists in names if not _find(root, split, name, exists))


def inventory(root: Path) -> tuple[Inventory, ...]:
    """Compares the clips in `root` with the CSV files there, for each split that has one.

    Raises:
      UserError: as `load`.
    """
    found = []
    for split, dialogues in load(root).splits.items():
        folder = _find(root, split, CLIP_FOLDERS[split], Path.is_dir)
        wanted = [f"{utterance.id}.mp4" for dialogue in dialogues for utterance in dialogue.utterances]
        names = {entry.name for entry in folder.iterdir()} if folder else set()
        missing = tuple(name for name in wanted if name not in names)
        stray = tuple(sorted(names.difference(wanted)))
        found.append(Inventory(split=split, rows=len(wanted), missing=missing, stray=stray))
    return tuple(found)


def load(root: Path) -> Corpus:
    """Reads MELD, or a corpus laid out like it.

    root: the folder that holds `{train,dev,test}_sent_emo.csv` and the clip folders, either directly or in its
      subfolders `train`, `dev` and `test`. Clips and splits may be absent.

    Raises:
      UserError: there is no CSV file, or one of them does not have MELD's form.
    """
    tables = {split: _find(root, split, f"{split}_sent_emo.csv", Path.is_file) for split in SPLITS}
    folders = {split: _find(root, split, name, Path.is_dir) for split, name in CLIP_FOLDERS.items()}
    if not any(tables.values()):
        raise UserError(
            f"{root}: has no train_sent_emo.csv, dev_sent_emo.csv or test_sent_emo.csv, nor do its folders train, dev "
            "and test; fetch MELD with `python -m jmer.download meld` and give its folder as --config.root"
        )
    with_clips = any(folders.values())
    notes: list[str] = []
    if not with_clips:
        notes.append(
            f"no clip folders ({', '.join(CLIP_FOLDERS.values())}) in {root}, so there is only text; for audio and "
            "video, unpack MELD.Raw's train.tar.gz, dev.tar.gz and test.tar.gz there"
        )
    splits: dict[str, tuple[Dialogue, ...]] = {}
    for split, table in tables.items():
        if table is None:
            notes.append(f"{split}: no {split}_sent_emo.csv, so the split is left out")
            continue
        clips = folders[split]
        if clips is None and with_clips:
            notes.append(f"{split}: no clip folder {CLIP_FOLDERS[split]}, so there is only text")
        splits[split] = _read_split(table, clips, split, notes)
    ids = Counter(dialogue.id for dialogues in splits.values() for dialogue in dialogues)
    if repeated := sum(count > 1 for count in ids.values()):
        notes.append(f"{repeated} dialogue ids occur in several splits; they are kept apart as different dialogues")
    return Corpus(name="meld", labels=MELD_EMOTIONS, splits=splits, notes=tuple(notes))


def _find(root: Path, split: str, name: str, exists: Callable[[Path], bool]) -> Path | None:
    return next(filter(exists, (root / name, root / split / name)), None)


def _read_split(path: Path, clips: Path | None, split: str, notes: list[str]) -> tuple[Dialogue, ...]:
    """Reads one split: dialogues in the order of the file, utterances in the order of their ids. Adds to `notes`."""
    table = csvfile.read(path)
    csvfile.require(
        table.columns, COLUMNS, path=path, cure="use MELD's own file, or --config.source=table for another one"
    )
    names = {entry.name for entry in clips.iterdir()} if clips else set()
    dialogues: dict[int, dict[int, Utterance]] = {}
    lines: dict[str, str] = {}
    repaired = 0
    for row in table.rows:
        dialogue, number = (_number(row, column) for column in ("Dialogue_ID", "Utterance_ID"))
        key = f"dia{dialogue}_utt{number}"
        if key in lines:
            raise UserError(f"{row.where}: {key} is already at {lines[key]}; remove or renumber one of the two rows")
        lines[key] = row.where
        text, speaker = (csvfile.repair(row.cells[column]) for column in ("Utterance", "Speaker"))
        repaired += (text, speaker) != (row.cells["Utterance"], row.cells["Speaker"])
        max_seconds, time_note = _longest(row.cells["StartTime"], row.cells["EndTime"])
        clip_name = f"{key}.mp4"
        missing = clip_name if clips and clip_name not in names else ""
        dialogues.setdefault(dialogue, {})[number] = Utterance(
            id=key,
            speaker=speaker,
            text=text,
            label=check_label(row.cells["Emotion"], MELD_EMOTIONS, where=row.where, cure=_OTHER_LABELS),
            sentiment=csvfile.sentiment(row.cells.get(SENTIMENT, ""), column=SENTIMENT, where=row.where),
            clip=clips / clip_name if clips and not missing else None,
            missing_clip=missing,
            max_seconds=max_seconds,
            notes=(time_note,) if time_note else (),
        )
    if not table.rows:
        raise UserError(f"{path}: has a header but no rows; fetch the file again")

    if table.cp1252_lines:
        notes.append(f"{split}: {table.cp1252_lines} lines of {path.name} are not UTF-8 and were read as cp1252")
    if repaired:
        notes.append(f"{split}: characters damaged by cp1252 were repaired in {repaired} rows")
    if absent := sorted(set(range(max(dialogues))) - set(dialogues)):
        notes.append(f"{split}: dialogue ids skip {csvfile.listing([f'dia{number}' for number in absent])}")
    if gaps := [f"dia{d}" for d, utterances in dialogues.items() if max(utterances) >= len(utterances)]:
        notes.append(f"{split}: utterance ids skip numbers in {len(gaps)} dialogues ({csvfile.listing(gaps)})")
    if clips:
        wanted = {f"{key}.mp4" for key in lines}
        if absent_clips := wanted - names:
            notes.append(f"{split}: {len(absent_clips)} of {len(wanted)} clips are missing from {clips.name}")
        if stray := sorted(names - wanted):
            names_of = csvfile.listing(stray)
            notes.append(f"{split}: {len(stray)} files in {clips.name} belong to no row and are left out ({names_of})")
    return tuple(
        Dialogue(id=f"dia{number}", utterances=tuple(utterances[key] for key in sorted(utterances)))
        for number, utterances in dialogues.items()
    )


def _number(row: csvfile.Row, column: str) -> int:
    if not row.cells[column].isdecimal():
        raise UserError(f"{row.where}: {column} is '{row.cells[column]}'; expected a whole number; correct the row")
    return int(row.cells[column])


def _longest(start: str, end: str) -> tuple[float, str]:
    """Returns the most seconds that a clip may last, and a note if its times cannot be right.

    start, end: the times of the row, such as `00:16:16,059`.

    The limit is twice the duration plus 10 s, since the times are rough. No intact clip of MELD comes near its limit,
    and the two wrongly cut test clips last minutes.
    """
    times = [_TIME.fullmatch(time) for time in (start, end)]
    if not all(times):
        return MAX_SECONDS, f"times not understood: {start} to {end}"
    begin, finish = (
        int(h) * 3600 + int(m) * 60 + float(f"{s}.{rest}") for h, m, s, rest in (t.groups() for t in times if t)
    )
    seconds = finish - begin
    if seconds <= 0:
        return MAX_SECONDS, f"ends before it starts: {start} to {end}"
    if seconds > MAX_SECONDS:
        return MAX_SECONDS, f"lasts {seconds:.0f} s by its times, which no utterance does"
    return round(2 * seconds + 10, 3), ""
