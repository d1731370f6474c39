"""Files of ready features in every format, and extractions of a small table with them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet
from safetensors.numpy import save_file

from jmer.base.options import from_config
from jmer.base.types import Corpus, Dialogue, Extracted
from jmer.dataset import store
from jmer.dataset.build import extract_dataset
from jmer.dataset.options import ExtractOptions, default_config
from jmer.features import engine
from jmer.features.cache import Cache
from jmer.features.ready import ReadyVideo, with_ready

TABLE = """dialogue,utterance,speaker,text,label,split
a,1,x,hello,glad,train
a,2,y,no,cross,train
a,1,x,what,glad,dev
"""


def write(path: Path, arrays: Mapping[str, Any]) -> Path:
    """Writes arrays by key, in the format of the suffix; Parquet has a column of lists."""
    if path.suffix == ".npz":
        np.savez(path, allow_pickle=False, **{key: np.asarray(array) for key, array in arrays.items()})
    elif path.suffix == ".safetensors":
        save_file({key: np.asarray(array, order="C") for key, array in arrays.items()}, path)
    else:
        lists = [np.asarray(array).tolist() for array in arrays.values()]
        write_parquet(path, utterance=list(arrays), features=lists)
    return path


def write_parquet(path: Path, **columns: Any) -> Path:
    parquet.write_table(pyarrow.table(columns), path)
    return path


def extract(folder: Path, file: Path, *, table: str = TABLE, **options: Any) -> store.Dataset:
    """Extracts a table with the file as its video features; other options are those of the config."""
    (folder / "table.csv").write_text(table)
    config = default_config()
    given = {"source": "table", "root": str(folder / "table.csv"), "audio.model": "none", "text.model": "none"}
    given |= {"video.model": str(file), "out": str(folder / "out"), "cache": str(folder / "cache")}
    config.update_from_flattened_dict(given | options)
    return store.load(extract_dataset(from_config(ExtractOptions, config)))


def results(corpus: Corpus, file: Path, cache: Path, *, sequence_frames: int = 0) -> dict[str, Extracted]:
    """Returns what the engine gives for the file as video features, by split and utterance: `train dia0_utt0`."""
    ready = ReadyVideo(model=str(file), sequence_frames=sequence_frames)
    corpus, extractors = with_ready(corpus, {"video": ready})
    done = engine.extract(corpus, extractors, digests={}, cache=Cache(cache), workers=0)
    return {
        f"{each.split} {utterance.id}": result["video"]
        for each in done
        for utterance, result in zip(each.dialogue.utterances, each.results, strict=True)
    }


def without_clips(corpus: Corpus) -> Corpus:
    """Returns the corpus without clips, so that nothing has to be decoded."""

    def bare(dialogue: Dialogue) -> Dialogue:
        return replace(dialogue, utterances=tuple(replace(u, clip=None) for u in dialogue.utterances))

    return replace(corpus, splits={split: tuple(map(bare, ds)) for split, ds in corpus.splits.items()})
