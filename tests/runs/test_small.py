"""The recipe for small corpora is at least as good as a linear probe on the same features and folds."""

import csv
import importlib.util
import json
from pathlib import Path

import jax
import numpy as np
import tiny
from sklearn.metrics import f1_score

from jmer.base import cli
from jmer.base.options import from_config
from jmer.base.types import UNLABELLED, Features
from jmer.dataset import store
from jmer.dataset.folds import fold_of
from jmer.runs import crossval
from jmer.training.options import TrainOptions


def probed(root: Path, dataset: store.Dataset, *, folds: int) -> float:
    """Returns the weighted F1 of the linear probe of benchmarks/."""
    spec = importlib.util.spec_from_file_location("linear_probe", root / "benchmarks/linear_probe.py")
    assert spec
    assert spec.loader
    probe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(probe)
    labels, predicted = [], []
    for number in range(folds):
        fold = fold_of(dataset, number, by="speaker", count=folds, dev=False)
        fitted = probe.probe(*probe.arrays(fold, "train", tuple(dataset.dims)))
        x, y, _ = probe.arrays(fold, "test", tuple(dataset.dims))
        labels.append(y)
        predicted.append(fitted.predict(x))
    return float(f1_score(np.concatenate(labels), np.concatenate(predicted), average="weighted"))


def trained(dataset: store.Dataset, workdir: Path, *, folds: int) -> float:
    """Returns the weighted F1 of the recipe, the vote of its seeds; three seeds do instead of five."""
    config = cli.load_config("configs/small.py")
    config.update({"dataset": str(dataset.path), "cv": "speaker", "folds": folds, "seeds": 3, "devices": 1})
    with jax.numpy_dtype_promotion("standard"):
        crossval.cross_validate(from_config(TrainOptions, config), dataset, workdir)
    return json.loads((workdir / "eval/cv-vote/metrics.json").read_text())["weighted_f1"]["mean"]


def clip(name: str, speaker: str, label: int, **values: np.ndarray) -> Features:
    """A dialogue of one utterance."""
    return Features(
        dialogue_id=name,
        utterance_ids=(name,),
        speakers=(speaker,),
        texts=("",),
        labels=np.array([label], np.int32),
        sentiments=np.array([UNLABELLED], np.int32),
        values={m: v[None].astype(np.float32) for m, v in values.items()},
        present={m: np.ones(1, np.bool_) for m in values},
    )


def test_on_clips_whose_classes_are_linear(root: Path, tmp_path: Path):
    """Wide features, few clips, and speakers who shift everything: 8 speakers with 20 clips each."""
    rng, clips = np.random.default_rng(0), []
    directions = {"audio": rng.normal(size=(3, 60)), "video": rng.normal(size=(3, 12))}
    for speaker in range(8):
        shift = {m: 2 * rng.normal(size=d.shape[1]) for m, d in directions.items()}
        for i in range(20):
            label = int(rng.integers(3))
            values = {m: d[label] + shift[m] + 2 * rng.normal(size=d.shape[1]) for m, d in directions.items()}
            clips.append(clip(f"{speaker}-{i}", f"s{speaker}", label, **values))
    modalities = {m: tiny.modality(m, dim=directions[m].shape[1] if m in directions else 0) for m in tiny.DIMS}
    path = tiny.write_dataset(tmp_path / "d", splits={"train": clips}, modalities=modalities, sequence_dims={})
    dataset = store.load(path)
    assert trained(dataset, tmp_path / "run", folds=2) >= probed(root, dataset, folds=2) - 0.01


def test_on_real_faces(root: Path, shared: Path, tmp_path: Path):
    """RAVDESS's face features, 270 clips of 18 actors."""
    with (shared / "datasets/ravdess/audio_video_features.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = list(rows[0])
    columns = names[names.index("file") + 1 : names.index("emotion")]
    emotions = sorted({row["emotion"] for row in rows})
    clips = [
        clip(
            row["file"], row["actor"], emotions.index(row["emotion"]), video=np.array([float(row[c]) for c in columns])
        )
        for row in rows
    ]
    modalities = {m: tiny.modality(m, dim=len(columns) if m == "video" else 0) for m in tiny.DIMS}
    path = tiny.write_dataset(
        tmp_path / "d", splits={"train": clips}, modalities=modalities, sequence_dims={}, labels=emotions
    )
    dataset = store.load(path)
    assert trained(dataset, tmp_path / "run", folds=2) >= probed(root, dataset, folds=2) - 0.01
