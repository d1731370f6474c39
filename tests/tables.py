"""CSV tables of a few clips, for the tests of extraction."""

import csv
import hashlib
import shutil
from pathlib import Path

from jmer.corpora.table import COLUMNS

CLIPS = ("dia0_utt0", "dia0_utt1", "dia1_utt0", "dia1_utt1", "dia2_utt0")


def copy_clips(root: Path, folder: Path) -> Path:
    """Copies `CLIPS` of the sample corpus into `folder`, and adds the damaged clip `broken.mp4`."""
    for name in CLIPS:
        shutil.copy(root / "data" / "sample" / "train_splits" / f"{name}.mp4", folder)
    (folder / "broken.mp4").write_bytes((folder / "dia0_utt0.mp4").read_bytes()[:5000])
    return folder


def write_table(path: Path, rows: list[dict[str, str]]) -> Path:
    """Writes a CSV file with all columns of jmer's tables."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list[str](COLUMNS))
        writer.writeheader()
        writer.writerows(rows)
    return path


def rows_of(clips: Path, *names: str, split: str = "train") -> list[dict[str, str]]:
    """Returns a row for each name of a clip, three to a dialogue; an empty name makes a row without a clip."""
    return [
        {
            "dialogue": f"{split}{i // 3}",
            "utterance": str(i),
            "speaker": "ab"[i % 2],
            "text": f"this is {name}",
            "label": ("joy", "anger")[i % 2],
            "split": split,
            "clip": str(clips / f"{name}.mp4") if name else "",
        }
        for i, name in enumerate(names)
    ]


def hashes(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file by its name."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
