"""A small run that reads texts by VADER and sounds by MFCC, so that it needs no encoder from elsewhere."""

from pathlib import Path
from typing import Any

import numpy as np
import tiny
from media_files import write_wav

from jmer import extract
from jmer.base.options import from_config
from jmer.dataset import build
from jmer.dataset.options import ExtractOptions

_WORDS = ("wonderful", "awful", "fine", "terrible", "lovely", "so so")


def extract_dataset(folder: Path) -> Path:
    """Writes a table with its sounds into a folder and packs it; returns the dataset."""
    rng = np.random.default_rng(0)
    rows = ["dialogue,utterance,speaker,text,label,split,clip"]
    for d, split in enumerate(("train",) * 4 + ("dev", "test")):
        for i in range(4):
            clip = write_wav(folder / f"d{d}u{i}.wav", 0.1 * rng.standard_normal(8_000), rate=16_000)
            rows.append(
                f"d{d},{i},{'ab'[i % 2]},{_WORDS[(d + i) % 6]} day,{tiny.LABELS[(d + i) % 3]},{split},{clip.name}"
            )
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    config: Any = extract.default_config()
    config.source, config.root, config.out = "table", str(folder / "table.csv"), str(folder / "packed")
    config.text.model, config.audio.model, config.video.model = "vader", "mfcc", "none"
    config.workers, config.cache = 1, str(folder / "cache")
    return build.extract_dataset(from_config(ExtractOptions, config))


def train(dataset: Path, workdir: Path) -> Path:
    tiny.train(dataset, workdir, encoder="none", graph="none", epochs=2)
    return workdir
