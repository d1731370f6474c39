"""Small datasets and models for tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jmer.base.options import from_config
from jmer.base.types import UNLABELLED, Batch, Features
from jmer.config import Config, base
from jmer.dataset import store
from jmer.dataset.flat import flatten, gather
from jmer.nn.model import Model
from jmer.nn.options import ModelOptions
from jmer.runs import fit
from jmer.runs.directory import Calibration, Run, RunDirectory
from jmer.runs.inputs import Inputs, Modality, model_of
from jmer.runs.progress import Progress
from jmer.training import steps
from jmer.training.options import TrainOptions

DIMS = {"text": 6, "audio": 5, "video": 4}
SEQUENCE_DIMS = {"audio": 3}
LABELS = ("calm", "glad", "cross")
EMPTY: Mapping[str, int] = MappingProxyType({})


def model(
    *,
    dims: Mapping[str, int] = DIMS,
    sequence_dims: Mapping[str, int] = EMPTY,
    states: tuple[tuple[str, int], ...] = (),
    **options: Any,
) -> Model:
    small = {"hidden": 8, "heads": 2, "past": 3, "future": 2, "drop_node": 0.2, "dropout": 0.3}
    return Model(
        options=ModelOptions(**(small | options)),
        dims=tuple(dims.items()),
        sequence_dims=tuple(sequence_dims.items()),
        labels=LABELS,
        states=states,
    )


def untrained(workdir: Path, *, keep: int = 1, **options: Any) -> Run:
    """A run of random parameters, for `keep` epochs of each seed, which does not lie on the disk."""
    small: dict[str, Any] = {"hidden": 8, "heads": 2, "past": 3, "future": 2}
    chosen = TrainOptions(**small | options)
    inputs = Inputs(
        labels=LABELS,
        dataset_fingerprint="f",
        modalities={m: Modality(dim=d, extractor={}, fingerprint="f") for m, d in DIMS.items()},
        sequence_dims=SEQUENCE_DIMS if chosen.sequences else {},
    )
    made, rng = model_of(chosen, inputs), np.random.default_rng(3)
    params = jax.tree.map(
        lambda x: rng.normal(0.1, 0.4, (chosen.seeds, keep, *x.shape[1:])).astype(x.dtype),
        jax.eval_shape(lambda: steps.init_params(made, seeds=chosen.all_seeds)),
    )
    widths = inputs.dims | {f"{m}_sequence": dim for m, dim in inputs.sequence_dims.items()}
    stats = {
        f"{m}_{name}": rng.uniform(0.5, 1, d).astype(np.float32) for m, d in widths.items() for name in steps.STATS
    }
    return Run(
        directory=RunDirectory(workdir),
        options=chosen,
        inputs=inputs,
        model=made,
        params=params,
        stats=stats,
        progress=Progress.start(seeds=chosen.seeds, keep=keep),
        calibration=Calibration(seeds=(0.8,) * chosen.seeds, vote=0.7),
    )


def apply(module: nn.Module, variables: Any, *args: Any, **kwargs: Any) -> Any:
    """`module.apply` without its return type, which allows for more than our modules return."""
    return module.apply(variables, *args, **kwargs)


def config(dataset: Path, **options) -> Config:
    """The config of a small model; `options` are by dotted name."""
    made = base()
    small = {"devices": 1, "hidden": 8, "heads": 2, "batch_utterances": 16, "epochs": 4, "lr": 1e-2}
    made.update_from_flattened_dict({"dataset": str(dataset)} | small | options)
    return made


def train(dataset: Path, workdir: Path, **options) -> None:
    """Trains on a dataset directory with the options of `config`.

    Optax raises a float to an integer power, which strict promotion forbids; jmer's own code is strict elsewhere.
    """
    with jax.numpy_dtype_promotion("standard"):
        fit.fit(from_config(TrainOptions, config(dataset, **options)), store.load(dataset), workdir)


def dialogue(length: int, rng: np.random.Generator, *, name: str = "d0", speakers: int = 3) -> Features:
    """Random features, a third of them absent, and sequences of up to 5 frames; labels can be read off the text."""
    labels = rng.integers(len(LABELS), size=length).astype(np.int32)
    values = {m: rng.normal(size=(length, d)).astype(np.float32) for m, d in DIMS.items()}
    values["text"][:, :3] += 3 * np.eye(3, dtype=np.float32)[labels]
    present = {m: rng.random(length) < 0.67 for m in DIMS} | {"text": np.ones(length, np.bool_)}
    labels[rng.random(length) < 0.05] = UNLABELLED
    (frames,) = rng.spawn(1)
    sequences = {
        m: tuple(frames.normal(size=(frames.integers(1, 6) * here, d)).astype(np.float16) for here in present[m])
        for m, d in SEQUENCE_DIMS.items()
    }
    return Features(
        dialogue_id=name,
        utterance_ids=tuple(f"{name}_utt{i}" for i in range(length)),
        speakers=tuple(f"speaker {i}" for i in rng.integers(speakers, size=length)),
        texts=tuple(f"text {i}" for i in range(length)),
        labels=labels,
        sentiments=np.where(labels == UNLABELLED, UNLABELLED, labels % 2).astype(np.int32),
        values={m: np.where(present[m][:, None], v, 0) for m, v in values.items()},
        present=present,
        sequences=sequences,
    )


def dialogues(lengths: Sequence[int], *, seed: int = 0) -> list[Features]:
    rng = np.random.default_rng(seed)
    return [dialogue(n, rng, name=f"d{i}") for i, n in enumerate(lengths)]


def batch(
    dialogues: Sequence[Features],
    *,
    dims: Mapping[str, int] = MappingProxyType(DIMS),
    sequences: Mapping[str, tuple[int, int]] = MappingProxyType({}),
    length: int = 8,
    rows: int | None = None,
    packed: bool = False,
) -> Batch:
    """Dialogues padded to `[rows, length]`, one a row or, packed, as many as fit; sequences: modality -> (T, D')."""
    lengths = [len(d) for d in dialogues]
    index = np.full((len(lengths) if rows is None else rows, length), sum(lengths), np.int32)
    row, column = 0, 0
    for n, end in zip(lengths, np.cumsum(lengths), strict=True):
        if column and (not packed or column + n > length):
            row, column = row + 1, 0
        index[row, column : column + n] = np.arange(end - n, end)
        column += n
    flat = flatten(dialogues, utterances=sum(lengths), dims=dims, sequences=sequences)
    return jax.tree.map(jnp.asarray, gather(flat, index))


def write_dataset(out: Path, **options) -> Path:
    """A dataset of three splits that a small model learns in a few epochs."""
    splits = {
        "train": dialogues([3, 7, 5, 8, 4, 6, 7, 2, 8, 8], seed=1),
        "dev": dialogues([5, 8, 6], seed=2),
        "test": dialogues([6, 11, 1], seed=3),
    }
    splits = options.pop("splits", splits)
    modalities = options.pop("modalities", {m: modality(m) for m in DIMS})
    sequence_dims = options.pop("sequence_dims", SEQUENCE_DIMS)
    described = {"name": "tiny", "labels": LABELS, "modalities": modalities, "rows": []} | options
    store.write(
        out,
        dims={m: described["dim"] for m, described in modalities.items() if described["dim"]},
        sequence_dims=sequence_dims,
        splits=list(splits),
        examples=((split, dialogue) for split, dialogues in splits.items() for dialogue in dialogues),
        describe=lambda: described,
    )
    return out


def modality(name: str, *, dim: int | None = None, fingerprint: str = "f") -> dict:
    return {
        "dim": DIMS[name] if dim is None else dim,
        "extractor": {"modality": name, "kind": "tiny"},
        "fingerprint": fingerprint,
        "reason": "",
    }
