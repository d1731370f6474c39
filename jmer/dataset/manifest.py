"""The manifest of a dataset directory: what the dataset holds, what it was made of, and the hash of each file.

`manifest.json` has these entries:

    schema_version    the number below
    name, labels      name of the corpus, and the label set in its order
    splits            split -> {dialogues, utterances}, two counts
    modalities        modality -> {dim, extractor, fingerprint, reason, remarks}: D, 0 for an absent modality with the
                      reason; the extractor's spec and fingerprint; and counts of the grounds on which choices were
                      made; also `states` where the vectors hold that many hidden states of an encoder
    sequence_dims     modality -> D', of the modalities whose sequences are kept
    sequence_lengths  modality -> T of the longest sequence; absent in datasets of earlier jmers
    rows              an entry for each utterance: {split, dialogue, utterance, status, reason}; views have none
    notes             remarks of the source on the corpus as a whole
    views             number of the splits that are augmented views of train, alike except for the features
    augmentation      modality -> the parameters of the views
    libraries         package -> release, of the libraries that decide features
    inputs_sha256     hash of rows, clips and extractors, by which an unchanged extraction is recognised
    files             file -> SHA-256, of all other files
    sha256            hash of all these entries
"""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jmer.base import files, forms
from jmer.base.errors import UserError
from jmer.base.forms import at_least
from jmer.base.types import MODALITIES

SCHEMA_VERSION = 4


def _described(value: Any) -> bool:
    """The form of an extractor's spec; an absent modality has none."""
    return value is None or isinstance(value, dict)


# What a reader relies on. Any number of these is at most a trillion, and a vector has at most 16 million numbers.
_WIDTH = at_least(0, 1 << 24)
_FORM = {
    "name": str,
    "labels": [str],
    "splits": {str: {"dialogues": at_least(0), "utterances": at_least(0)}},
    "modalities": {m: {"dim": _WIDTH, "extractor": _described, "fingerprint": str} for m in MODALITIES},
    "sequence_dims": {str: _WIDTH},
    "sequence_lengths?": {str: _WIDTH},
    "rows": [dict],
    "notes": [str],
    "views": at_least(0),
    "files": {str: str},
}
_SPLIT = re.compile(r"\w[\w.-]*", re.ASCII)
_UNSEALED = 3  # the earlier version that is read too, whose manifest does not hold its own hash
MANIFEST = "manifest.json"


def read(path: Path) -> dict[str, Any]:
    """Returns the manifest of a dataset directory.

    Raises:
      UserError: there is no dataset directory, it is of another schema version, or the manifest is damaged or was not
        written by jmer.
    """
    file = path / MANIFEST
    if not file.is_file():
        fault = f"has no {MANIFEST}" if path.is_dir() else "does not exist"
        command = f"python -m jmer.extract --config extract/lite --config.out={path}"
        raise UserError(f"dataset {path} {fault}; make one with {command}")
    cure = "run jmer.extract again"
    manifest = files.load_sealed(file, cure=cure, required=False)
    version = manifest.get("schema_version")
    if type(version) is not int or version not in (_UNSEALED, SCHEMA_VERSION):
        raise UserError(
            f"{file}: schema_version is {version}, this jmer reads {_UNSEALED} and {SCHEMA_VERSION}; {cure}, or use "
            "the jmer that wrote it"
        )
    manifest = files.load_sealed(file, cure=cure, required=version != _UNSEALED)
    if fault := forms.fault(manifest, _FORM) or _disagreement(manifest):
        raise UserError(f"{file} is no manifest of jmer's: {fault}; {cure}, or get the dataset anew")
    return manifest


def _disagreement(manifest: Mapping[str, Any]) -> str:
    """Returns which entries of a manifest contradict each other, or name what lies elsewhere; empty if none do."""
    labels, splits, views, dims = (manifest[name] for name in ("labels", "splits", "views", "sequence_dims"))
    lengths = manifest.get("sequence_lengths", dims)
    if not labels or len(set(labels)) < len(labels):
        return f"labels are {forms.shown(labels)}, and no set of names"
    if wrong := [name for name in splits if not _SPLIT.fullmatch(name)]:
        return f"splits has {forms.shown(wrong[0])}, which is no name of a split"
    if views >= max(len(splits), 1) or not all(view_split(i + 1) in splits for i in range(views)):
        return f"views is {views}, and splits are {', '.join(splits)}"
    if wrong := [name for name in dims if name not in MODALITIES or name not in lengths]:
        return f"sequence_dims has {forms.shown(wrong[0])}"
    if wrong := [name for name in manifest["files"] if Path(name).name != name]:
        return f"files has {forms.shown(wrong[0])}, which does not lie beside it"
    return ""


def view_split(number: int) -> str:
    """Returns the name of the split that holds a view of train; views are numbered from 1."""
    return f"train_view{number}"


def write(folder: Path, entries: Mapping[str, Any]) -> None:
    """Writes the manifest of a dataset whose other files are all in the folder, with their hashes."""
    manifest = {
        "schema_version": SCHEMA_VERSION,
        **entries,
        "files": {file.name: files.sha256(file) for file in sorted(folder.iterdir())},
    }
    files.save_sealed(folder / MANIFEST, manifest)


def check_files(path: Path, manifest: Mapping[str, Any]) -> None:
    """Checks every file of a dataset directory against the manifest's hashes.

    A process hashes a file once, and again only when its size, time of change or inode is another.

    Raises:
      UserError: a file is missing or damaged.
    """
    for name, expected in manifest["files"].items():
        file = path / name
        if not file.is_file():
            raise UserError(f"{file} is missing though {MANIFEST} lists it; run jmer.extract again")
        state = file.stat()
        if _sha256(file.resolve(), state.st_size, state.st_mtime_ns, state.st_ino) != expected:
            raise UserError(f"{file} is damaged (its SHA-256 is not the one in {MANIFEST}); run jmer.extract again")


@functools.lru_cache(maxsize=1024)
def _sha256(file: Path, size: int, changed_ns: int, inode: int) -> str:
    """Hashes a file; the other arguments tell its states apart."""
    return files.sha256(file)


def is_replaceable(out: Path) -> bool:
    """Says whether a dataset may be written to `out`: it does not exist, is a dataset, or is an empty folder."""
    return not out.exists() or (out.is_dir() and ((out / MANIFEST).is_file() or not any(out.iterdir())))


def check_replaceable(out: Path) -> None:
    """Checks that a dataset may be written to `out`.

    Raises:
      UserError: `out` holds something else.
    """
    if not is_replaceable(out):
        raise UserError(f"{out} exists and is not a dataset of jmer; name another folder with --config.out")
