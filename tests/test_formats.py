"""Runs and datasets of each earlier and later format: loaded, or refused with the number and what to do about it."""

import json
from pathlib import Path
from typing import Any

import pytest

from jmer.base import files
from jmer.base.errors import UserError
from jmer.dataset import manifest
from jmer.runs import directory
from jmer.runs.directory import RunDirectory

OTHERS = [None, 0, -1, 99, 1 << 70, "4", 4.0, True, [4], {}, ""]  # None: there is no number at all
FEATURES = {
    "labels": ["calm", "cross"],
    "dataset_fingerprint": "f",
    "modalities": {"text": {"dim": 3, "extractor": {"modality": "text", "kind": "lite"}, "fingerprint": "f"}},
    "sequence_dims": {},
}
ABSENT = {"dim": 0, "extractor": None, "fingerprint": "", "reason": "off"}
MANIFEST = {
    "name": "x", "labels": ["calm", "cross"], "splits": {"train": {"dialogues": 1, "utterances": 1}}, "rows": [],
    "modalities": dict.fromkeys(("text", "audio", "video"), ABSENT), "sequence_dims": {}, "notes": [], "views": 0,
    "files": {},
}  # fmt: skip


def write(file: Path, content: dict[str, Any], *, sealed: bool) -> None:
    if sealed:
        files.save_sealed(file, content)
    else:
        file.write_text(json.dumps(content))


def write_run(folder: Path, number: Any, *, sealed: bool) -> RunDirectory:
    """Writes what describes a run. A number of None is left out."""
    described = FEATURES if number is None else FEATURES | {"format": number}
    write(folder / "features.json", described, sealed=sealed)
    write(folder / "config.json", {"hidden": 16}, sealed=sealed)
    write(folder / "environment.json", {"packages": {"jmer": "0.0.7"}, "git_revision": "abc"}, sealed=sealed)
    return RunDirectory(folder)


@pytest.mark.parametrize(("number", "sealed"), [(directory.FORMAT, True), (4, False)])
def test_runs_that_are_read(tmp_path: Path, number: int, sealed: bool):
    run = write_run(tmp_path, number, sealed=sealed)
    assert run.read_inputs().dims == {"text": 3}
    assert run.read_options().hidden == 16


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("number", [1, 2, 3, directory.FORMAT + 1, *OTHERS])
def test_runs_of_other_formats(tmp_path: Path, number: Any, sealed: bool):
    """Whichever file is opened first. Files without a hash are those of an earlier format, and not damaged."""
    run = write_run(tmp_path, number, sealed=sealed)
    for read in (run.read_options, run.read_inputs):
        with pytest.raises(UserError) as refusal:
            read()
        said = str(refusal.value)
        assert (
            f"has run format {1 if number is None else number}, but this version of jmer reads formats 4 and 5" in said
        )
        assert "jmer 0.0.7 (revision abc) wrote the run; use that version, or train again into a new --workdir" in said


@pytest.mark.parametrize(("number", "sealed"), [(manifest.SCHEMA_VERSION, True), (3, False)])
def test_datasets_that_are_read(tmp_path: Path, number: int, sealed: bool):
    write(tmp_path / manifest.MANIFEST, MANIFEST | {"schema_version": number}, sealed=sealed)
    assert manifest.read(tmp_path)["name"] == "x"


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("number", [1, 2, manifest.SCHEMA_VERSION + 1, *OTHERS])
def test_datasets_of_other_schemas(tmp_path: Path, number: Any, sealed: bool):
    content = MANIFEST if number is None else MANIFEST | {"schema_version": number}
    write(tmp_path / manifest.MANIFEST, content, sealed=sealed)
    with pytest.raises(UserError) as refusal:
        manifest.read(tmp_path)
    assert f"manifest.json: schema_version is {number}, this jmer reads 3 and 4; run jmer.extract again" in str(
        refusal.value
    )


def test_the_numbers_that_are_tried_are_those_of_jmer():
    """A new format needs the one before it in this file."""
    assert (directory.FORMAT, manifest.SCHEMA_VERSION) == (5, 4)
