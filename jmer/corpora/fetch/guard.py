"""What an archive may hold: names that stay within the folder, and no more bytes and members than an honest archive.

The caps hold for an archive together with the archives within it, so that nesting multiplies nothing. They come on top
of the check of the free disk, which a bomb on a large disk would pass.
"""

import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

from jmer.base.errors import UserError
from jmer.corpora.fetch import disk

# MELD.Raw is the largest archive that jmer knows: 10.9 GB packed and about 14,000 members. Its inner archives take
# 10.9 GB, and so do their clips, which hardly compress: 22 GB written, twice the packed bytes. Each cap leaves at least
# three times what MELD needs.
MOST_BYTES = 64 << 30
MOST_MEMBERS = 50_000
MOST_FOLDERS = 2_000  # MELD has about ten. A short name can imply many, and a folder costs the disk more than a file
MOST_RATIO = 10  # unpacked bytes for each packed byte; tables of text have three
FREE_BYTES = 64 << 20  # any archive may unpack to this much: a small one can have any ratio, and does no harm

_PART = 240  # bytes of a file's name; file systems allow 255, and jmer's work folders add 9 to an archive's name
_PATH = 1024  # bytes; Linux allows 4096 and macOS 1024, both with the folder that is unpacked to
_FOLDERS = 64  # folders within folders; Python's rmtree removes deep ones by recursion
_SHOWN = 80  # characters of a name in a message
_MACOS = (".DS_Store", "__MACOSX")
WORK = ".partial"  # the suffix of folders that are still incomplete


class Refused(UserError):
    """The archive is whole, but holds something that could do harm."""


def refusal(title: str, what: str) -> Refused:
    """Returns the error for an archive. what: the part of its sentence that says what the archive holds."""
    return Refused(
        f"{title}: holds {what}, so nothing of the archive is used; give an archive of plain files and folders, or "
        "unpack it yourself if you trust it"
    )


def shown(name: str) -> str:
    """Returns a member's name for a message: quoted, in ASCII, and cut if it is long."""
    return ascii(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...")


@dataclass(kw_only=True)
class Budget:
    """How much an archive, and those within it, have unpacked to so far.

    packed: the size of the outermost archive in bytes.
    """

    packed: int
    bytes: int = 0
    members: int = 0
    folders: int = 0

    def take(self, title: str, name: str, *, size: int) -> None:
        """Counts a member of `size` bytes. title: the archive, for the message.

        Raises:
          Refused: the archive exceeds a cap with this member.
        """
        self.bytes += size
        self.members += 1
        most = min(MOST_BYTES, max(FREE_BYTES, MOST_RATIO * self.packed))
        if self.bytes > most:
            raise refusal(
                title,
                f"{shown(name)}, with which {disk.in_bytes(self.packed)} unpack to {disk.in_bytes(self.bytes)} and "
                f"therefore to more than the {disk.in_bytes(most)} that jmer allows",
            )
        if self.members > MOST_MEMBERS:
            raise refusal(title, f"{shown(name)} and more than {MOST_MEMBERS:,} files and folders in all")

    def take_folder(self, title: str, name: str) -> None:
        """Counts a new folder, which is the member `name` or which its path implies.

        Raises:
          Refused: the archive exceeds a cap with this folder.
        """
        self.folders += 1
        if self.folders > MOST_FOLDERS:
            raise refusal(title, f"{shown(name)} and more than {MOST_FOLDERS:,} folders in all")


class Names:
    """The names of the members of one archive.

    Two names that differ only in upper and lower case, or in the way an accent is encoded, are one file on the disks of
    macOS and Windows. Such an archive is refused on every machine, so that what it unpacks to depends on none.
    """

    def __init__(self, title: str, folder: PurePosixPath, budget: Budget):
        """Begins without names.

        Args:
          title: the archive, for messages.
          folder: the folder that the archive is unpacked to, relative to that of the outermost archive.
          budget: counts the folders.
        """
        self._title, self._folder, self._budget = title, folder, budget
        self._seen: dict[str, tuple[str, bool]] = {}  # folded path -> path, and whether it is a folder
        self.repeated: list[str] = []  # files that are in the archive more than once

    def path(self, name: str, *, folder: bool) -> PurePosixPath | None:
        """Returns where a member belongs, relative to the folder that is unpacked to; None if macOS added the member.

        Raises:
          Refused: the name leads out of the folder, is unfit for a file, or clashes with an earlier one.
        """
        path = PurePosixPath(name.replace("\\", "/"))
        if ".." in path.parts or path.is_absolute() or PureWindowsPath(name).anchor:
            raise self._refusal(name, "which is outside of its folder")
        if any(part.startswith("._") or part in _MACOS or part == "Icon\r" for part in path.parts):
            return None
        if why := self._unfit(path, folder=folder):
            raise self._refusal(name, why)
        for parent in reversed(path.parents[:-1]):
            self._add(parent, name, folder=True)
        if not self._add(path, name, folder=folder) and not folder:
            self.repeated.append(name)
        return path

    def _unfit(self, path: PurePosixPath, *, folder: bool) -> str:
        """Returns what makes a path unfit for a file; empty if nothing does."""
        if not path.parts and not folder:
            return "which has no name"
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in str(path)):  # Cs: bytes that are no UTF-8
            return "whose name holds control characters or bytes that are no UTF-8"
        whole = self._folder / path
        if max(len(part.encode()) for part in ("", *path.parts)) > _PART or len(str(whole).encode()) > _PATH:
            return f"whose name is too long (at most {_PART} bytes a name and {_PATH} a path)"
        if len(whole.parts) > _FOLDERS:
            return f"which lies more than {_FOLDERS} folders deep"
        if any(part.startswith(".") and part.endswith(WORK) for part in path.parts):
            return f"whose name jmer keeps for itself (.*{WORK})"
        return ""

    def _add(self, path: PurePosixPath, name: str, *, folder: bool) -> bool:
        """Adds the path of the member `name` or of one of its folders. Returns whether the path is a new one."""
        key = unicodedata.normalize("NFC", str(path)).casefold()
        if key not in self._seen:
            self._seen[key] = str(path), folder
            if folder:
                self._budget.take_folder(self._title, name)
            return True
        there, is_folder = self._seen[key]
        if there != str(path):
            raise self._refusal(name, f"which clashes with {shown(there)} where upper and lower case are the same")
        if folder != is_folder:
            raise self._refusal(name, f"although {shown(there)} is a {'folder' if is_folder else 'file'} already")
        return False

    def _refusal(self, name: str, why: str) -> Refused:
        return refusal(self._title, f"{shown(name)}, {why}")
