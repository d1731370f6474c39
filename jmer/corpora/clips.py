"""Finds the clips that the rows of a table name, and tells early which of them extraction cannot read.

A clip is a matter of its row and never of the whole table. A clip that is no media stays with its row, so that
extraction marks the row as failed and says why.
"""

from dataclasses import dataclass
from pathlib import Path

from jmer.corpora import csvfile
from jmer.media import decoding


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A clip that a row names.

    path: the file; None where there is none that could be opened.
    missing: the name as the row has it, where `path` is None and a clip is named.
    note: a short phrase on why the clip counts as missing, where the row names something that is there.
    """

    path: Path | None = None
    missing: str = ""
    note: str = ""


class Shelf:
    """The clips of one table. Each is looked at once, however many rows name it.

    folder: where relative names begin.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._clips: dict[str, Clip] = {}
        self._rows_of_missing = self._rows = 0
        self._bad: dict[str, list[str]] = {}  # what is wrong -> the names of the clips

    def find(self, name: str) -> Clip:
        """Returns the clip that a row names; an empty name is no clip."""
        if not name:
            return Clip()
        if name not in self._clips:
            self._clips[name] = self._look(name)
        clip = self._clips[name]
        self._rows += 1
        self._rows_of_missing += bool(clip.missing and not clip.note)
        return clip

    def notes(self) -> list[str]:
        """Returns a sentence on the clips that are missing, and one on each other reason why clips cannot be read."""
        notes = [f"{self._rows_of_missing} of {self._rows} clips are missing"] if self._rows_of_missing else []
        for fault, names in self._bad.items():
            clips = f"{len(names)} clips {fault} ({csvfile.listing(names)})"
            notes.append(f"{clips}; their rows keep text and label, and lack audio and video")
        return notes

    def _look(self, name: str) -> Clip:
        path = self._folder / name
        try:
            if path.is_file():
                if not decoding.is_media(path):
                    self._bad.setdefault("are neither video nor audio", []).append(name)
                return Clip(path=path)
            if not path.exists():
                return Clip(missing=name)
        except OSError as error:  # such as a name that is too long, or a folder that the user may not enter
            self._bad.setdefault(f"cannot be read ({error.strerror})", []).append(name)
            return Clip(missing=name, note=f"the clip cannot be read ({error.strerror})")
        # Opening a pipe could wait for ever, so nothing but a file is handed to extraction.
        self._bad.setdefault("are folders or devices and no files", []).append(name)
        return Clip(missing=name, note="the clip is a folder or a device and no file")
