"""Finds the columns that jmer reads in the header of a user's table, by jmer's own names or by usual ones.

Case, blanks, underscores and hyphens in a name do not count. A column is found in three steps: by the name that the
user gives, by jmer's own name, and by one of the usual names for it.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from jmer.base.errors import UserError
from jmer.corpora import csvfile

REQUIRED = ("dialogue", "utterance", "speaker", "label", "split")
INPUTS = ("text", "clip")
TIMES = ("start", "end")
OPTIONAL = ("sentiment", *TIMES)
COLUMNS = REQUIRED + INPUTS + OPTIONAL
KEYS = ("utterance", "dialogue", "split")  # the columns that say which utterance a row is of
DELIMITERS = ",;\t"
NONE = "none"  # the name that a user gives for a column that jmer shall not read

# Names without case, blanks, underscores and hyphens. `start` and `end` have none: the columns StartTime and EndTime of
# MELD, for one, hold times within an episode and not within a clip.
_USUAL = {
    "dialogue": "dialogueid dialog dialogid conversation conversationid conv convid session sessionid videoid",
    "utterance": "utteranceid uttid turn turnid index",
    "speaker": "speakerid speakername name",
    "label": "labels emotion emotions emotionlabel class target",
    "split": "set partition subset",
    "text": "transcript transcription sentence",
    "clip": "file filename filepath path video videofile videopath audio audiofile audiopath wav clippath",
}
_USUAL_NAMES = {name: frozenset(usual.split()) for name, usual in _USUAL.items()}
_UTTERANCE_IDS = ("utteranceid", "uttid", "turnid")


def find(
    header: Sequence[str], given: Mapping[str, str], *, optional: Collection[str] = (), path: Path
) -> tuple[dict[str, str], list[str]]:
    """Finds the columns of a table.

    given: jmer's name of a column -> the file's name, as the user gives it; `none` for an optional column that shall
      not be read.
    optional: those of the `REQUIRED` columns that this table may lack.

    Returns: jmer's name -> the file's name of each column to read; and notes on columns that were taken for others.

    Raises:
      UserError: a column is missing or occurs twice, or several columns may be the one that jmer reads.
    """
    if unknown := [name for name in given if name not in COLUMNS]:
        raise UserError(f"config.columns.{unknown[0]}: there is no such column; expected one of {', '.join(COLUMNS)}")
    needed = [name for name in REQUIRED if name not in optional]
    found = _candidates(header, given, optional)
    for name, columns in found.items():
        if len(columns) > 1:
            none = "" if name in needed else f", or --config.columns.{name}={NONE} if none of them is"
            raise UserError(
                f"{path}: each of the columns {' and '.join(columns)} may be the {name}; say which one is by "
                f"--config.columns.{name}=NAME{none}"
            )
    names = {name: columns[0] for name, columns in found.items() if columns}
    inputs = [] if set(names) & set(INPUTS) else ["text"]
    wanted = {name: names.get(name, name) for name in COLUMNS if name in names or name in needed or name in inputs}
    _require(header, wanted, path=path)

    notes = []
    if len(lone := [name for name in TIMES if name in wanted]) == 1:
        (name,), (other,) = lone, set(TIMES).difference(lone)
        if given.get(name):
            raise UserError(
                f"{path}: --config.columns.{name} is given, but there is no column {other} (found: "
                f"{', '.join(header)}); give --config.columns.{other}=NAME as well"
            )
        notes.append(f"the column {wanted.pop(name)} is not read, since no column is read as the {other}")
    if taken := {name: column for name, column in wanted.items() if not given.get(name) and name != column}:
        were = "columns {} were" if len(taken) > 1 else "column {} was"
        notes.append(
            f"the {were.format(', '.join(taken.values()))} taken for {', '.join(taken)}; "
            f"--config.columns.{next(iter(taken))}=NAME names another"
        )
    return wanted, notes


def find_keys(header: Sequence[str], *, path: Path) -> tuple[dict[str, str], list[str]]:
    """Finds the columns `KEYS` of a table that holds features and nothing else. Only `utterance` must be there.

    Returns: jmer's name -> the file's name of each of the three columns that the table has; and notes on columns that
      were taken for others.

    Raises:
      UserError: there is no column `utterance`, one of the three occurs twice, or several columns may be one of them.
    """
    found = _candidates(header, {name: name for name in KEYS if name in header}, ())
    for name in KEYS:
        if len(found[name]) > 1:
            raise UserError(
                f"{path}: each of the columns {' and '.join(found[name])} may be the {name}; rename the right one to "
                f"{name}"
            )
    names = {name: found[name][0] for name in KEYS if found[name]}
    csvfile.require(
        header,
        ({"utterance": "utterance"} | names).values(),
        path=path,
        cure="it says which utterance a row is of, beside a column dialogue or by the ids of the manifest",
    )
    taken = {name: column for name, column in names.items() if name != column}
    were = "columns {} were" if len(taken) > 1 else "column {} was"
    note = f"{path.name}: the {were.format(', '.join(taken.values()))} taken for {', '.join(taken)}"
    return names, [note] if taken else []


def fit(header: Sequence[str], given: Mapping[str, str]) -> int:
    """Returns how many of jmer's columns are found in a header.

    given: as for `find`.
    """
    return sum(any(column in header for column in columns) for columns in _candidates(header, given, ()).values())


def _candidates(header: Sequence[str], given: Mapping[str, str], optional: Collection[str]) -> dict[str, list[str]]:
    """Returns jmer's name -> the columns that may be meant, each once. A name that the user gives is the only one."""
    spelled = {column: _plain(column) for column in header}

    def usual(name: str) -> list[str]:
        return [column for column, plain in spelled.items() if plain in _USUAL_NAMES.get(name, ())]

    found = {}
    for name in COLUMNS:
        if chosen := given.get(name):
            off = chosen == NONE and NONE not in header and name in INPUTS + OPTIONAL
            found[name] = [] if off else [chosen]
        elif name in header:
            found[name] = [name]
        else:
            found[name] = [column for column, plain in spelled.items() if plain == name] or usual(name)

    # A column Utterance may hold the text, as in MELD. The ids are then in a column with another name, or nowhere.
    said = [column for column, plain in spelled.items() if plain == "utterance"]
    if said and not given.get("utterance"):
        own_names = set(REQUIRED) <= set(header) and set(INPUTS) & set(header)
        has_text = given.get("text") or "text" in spelled.values()
        has_id = any(plain in _UTTERANCE_IDS for plain in spelled.values())
        no_input = not found["text"] + found["clip"] and (usual("utterance") or "utterance" in optional)
        if not own_names and not has_text and (has_id or no_input):
            found["text"] = [*said, *found["text"]]
        if found["text"] and found["text"][0] in said:
            found["utterance"] = [name for name in found["utterance"] if name not in found["text"]] or usual(
                "utterance"
            )
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()


def _require(header: Sequence[str], wanted: Mapping[str, str], *, path: Path) -> None:
    """Raises UserError unless the header has each column once."""
    missing = next((name for name, column in wanted.items() if column not in header), "label")
    cure = f"if it has another name, give --config.columns.{missing}=NAME"
    if len(header) == 1:
        cure = "separate the columns by commas, semicolons or tabs"
    elif missing == "split":
        cure += ", else add it: it holds train, dev or test"
    elif missing == "text":
        cure += "; a table needs text, clip or both"
    csvfile.require(header, wanted.values(), path=path, cure=cure)
