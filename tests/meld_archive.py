"""Writes small archives like MELD.Raw: nested tar.gz files, three clip folders, and the damage that MELD has."""

import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
FAKE = bytes(range(256)) * 40  # stands for a clip in tests that decode none

MISSING = {"train": (), "dev": ("dia110_utt7.mp4",), "test": ()}
STRAY = {"train": (), "dev": (), "test": ("final_videos_testdia0_utt0.mp4",)}
CORRUPT = "dia125_utt3.mp4"  # of train
LONG = "dia38_utt4.mp4"  # of test


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a CSV file of MELD's."""

    dialogue: int = 0
    number: int = 0
    text: str = "Hello"
    speaker: str = "Ross"
    emotion: str = "joy"
    sentiment: str = "positive"
    start: str = "00:01:00,000"
    end: str = "00:01:02,500"

    def __str__(self) -> str:
        return (
            f'1,"{self.text}",{self.speaker},{self.emotion},{self.sentiment},{self.dialogue},{self.number},1,1,'
            f'"{self.start}","{self.end}"'
        )


ROWS = {
    "train": (Row(dialogue=0, number=0), Row(dialogue=0, number=1), Row(dialogue=125, number=3)),
    "dev": (Row(dialogue=0, number=0), Row(dialogue=110, number=7)),
    "test": (Row(dialogue=0, number=0), Row(dialogue=38, number=4)),
}


def damaged_clips(clip: bytes = FAKE, *, long: bytes = FAKE * 3) -> dict[str, bytes]:
    """Returns clips for `ROWS` as `split/name` -> bytes, with MELD's damage.

    One clip is cut off, one is missing, one lasts minutes, one is stray, and two files were added by macOS.

    clip: the content of the intact clips.
    long: the content of the clip that lasts minutes.
    """
    clips = {f"{split}/dia{row.dialogue}_utt{row.number}.mp4": clip for split, rows in ROWS.items() for row in rows}
    clips |= {f"{split}/{name}": clip for split, names in STRAY.items() for name in names}
    for split, names in MISSING.items():
        for name in names:
            del clips[f"{split}/{name}"]
    clips[f"train/{CORRUPT}"] = clip[: len(clip) // 2]
    clips[f"test/{LONG}"] = long
    return clips | {"test/._dia0_utt0.mp4": b"Mac", "train/.DS_Store": b"Mac"}


def csv_bytes(rows: Sequence[Row]) -> bytes:
    return "\n".join([HEADER, *map(str, rows), ""]).encode()


def write_meld_archive(
    path: Path,
    *,
    clips: Mapping[str, bytes],
    rows: Mapping[str, Sequence[Row] | bytes] = MappingProxyType(ROWS),
    extra: Mapping[str, bytes] = MappingProxyType({}),
    top: str = "MELD.Raw/",
) -> Path:
    """Writes an archive with the layout of MELD's.

    `MELD.Raw/` holds the CSV files of dev and test, and `{train,dev,test}.tar.gz`. Each of these holds a folder of
    clips, and that of train holds its CSV file too.

    Args:
      path: `*.tar.gz` or `*.zip`.
      clips: `split/name` -> bytes.
      rows: split -> rows of the CSV file, or its bytes. A split without an entry is left out.
      extra: further files in `MELD.Raw/`, name -> bytes.
      top: the folder in the archive that holds everything.
    """
    tables = {split: table if isinstance(table, bytes) else csv_bytes(table) for split, table in rows.items()}
    files = {f"{top}{split}_sent_emo.csv": table for split, table in tables.items() if split != "train"}
    for split in tables:
        folder = {f"{FOLDERS[split]}/": b""}
        names = [name for name in clips if name.startswith(f"{split}/")]
        folder |= {f"{FOLDERS[split]}/{name.partition('/')[2]}": clips[name] for name in names}
        if split == "train":
            folder["train_sent_emo.csv"] = tables[split]
        files[f"{top}{split}.tar.gz"] = tar_bytes(folder)
    files |= {top + name: data for name, data in extra.items()}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        path.write_bytes(tar_bytes(files))
    return path


def tar_bytes(files: Mapping[str, bytes], *, mode: str = "w:gz") -> bytes:
    """Returns a tar file. files: name -> bytes; a name that ends with a slash is a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # pyright: ignore[reportArgumentType, reportCallIssue]
        for name, data in files.items():
            member = tarfile.TarInfo(name.rstrip("/"))
            member.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            member.mode = 0o755
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def expected_tree(
    clips: Mapping[str, bytes], rows: Mapping[str, Sequence[Row]] = MappingProxyType(ROWS)
) -> dict[str, bytes]:
    """Returns the files of `MELD.Raw` after unpacking, path -> bytes."""
    tree = {f"{split}_sent_emo.csv": csv_bytes(table) for split, table in rows.items()}
    for key, data in clips.items():
        split, _, name = key.partition("/")
        if not name.startswith("._") and name != ".DS_Store":
            tree[f"{FOLDERS[split]}/{name}"] = data
    return tree


def read_tree(folder: Path) -> dict[str, bytes]:
    """Returns every file of a folder, path -> bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
