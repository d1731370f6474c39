"""A run's directory: what training leaves there, and how it is opened again.

config.json        the resolved config
features.json      labels, and for each modality the model reads: dim, extractor, fingerprint
environment.json   versions, device, git revision, dataset fingerprint
metrics.jsonl      one line an epoch and seed
tensorboard/       the same as TensorBoard events
checkpoints/       Orbax, with hashes
eval/<split>/      what jmer.evaluate writes
"""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jmer.checkpoint import Checkpoints
from jmer.config import Config
from jmer.errors import UserError
from jmer.nn.model import Model
from jmer.steps import STATS, init_params
from jmer.types import MODALITIES

Tree = Any  # a pytree of arrays

_PACKAGES = ("jmer", "jax", "jaxlib", "flax", "optax", "jraph", "orbax-checkpoint", "numpy", "librosa", "transformers")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A trained run.

    modalities: `{"dim", "extractor", "fingerprint"}` of each modality the model reads.
    params: each seed's best parameters, leaves with a leading S axis; stats: the model's `stats` variables.
    progress: `{"epoch", "best_epoch": [S], "improved_epoch": [S], "best_score": [S]}`.
    """

    workdir: Path
    config: Config
    labels: tuple[str, ...]
    modalities: Mapping[str, Mapping[str, Any]]
    model: Model
    params: Tree
    stats: Tree
    progress: Mapping[str, Any]

    @property
    def seeds(self) -> tuple[int, ...]:
        return seeds_of(self.config)


def seeds_of(config: Config) -> tuple[int, ...]:
    """Returns the seeds that a config trains."""
    return tuple(range(config.seed, config.seed + config.seeds))


def make_model(config: Config, *, dims: Mapping[str, int], num_classes: int) -> Model:
    """Returns the model of a config for features of these dims."""
    return Model(
        dims=tuple((m, dims[m]) for m in MODALITIES if m in dims),
        num_classes=num_classes,
        hidden=config.hidden,
        heads=config.heads,
        past=config.past,
        future=config.future,
        graph_weight=config.graph_weight,
        dropout=config.dropout,
        drop_node=config.drop_node,
    )


def load(workdir: Path) -> Run:
    """Opens a run at its best checkpoint.

    Raises:
      UserError: there is no run, it has no checkpoint yet, or a file of it is damaged.
    """
    config = ConfigDict(read_json(workdir / "config.json"))
    described = read_json(workdir / "features.json")
    labels, modalities = tuple(described["labels"]), described["modalities"]
    model = make_model(config, dims={m: v["dim"] for m, v in modalities.items()}, num_classes=len(labels))
    checkpoints = Checkpoints(workdir / "checkpoints")
    epoch = checkpoints.latest()
    if epoch is None:
        raise UserError(
            f"{workdir} has no checkpoint yet; run jmer.train with --workdir={workdir} until its first epoch ends"
        )
    template = {
        "params": jax.eval_shape(lambda: init_params(model, seeds=seeds_of(config))),
        "stats": {f"{m}_{name}": jax.ShapeDtypeStruct((dim,), jnp.float32) for m, dim in model.dims for name in STATS},
    }
    best, progress = checkpoints.restore_best(epoch, best=template)
    return Run(
        workdir=workdir,
        config=config,
        labels=labels,
        modalities=modalities,
        model=model,
        params=best["params"],
        stats=best["stats"],
        progress=progress,
    )


def save_json(file: Path, value: Any) -> None:
    """Writes a JSON file in one stroke: it is never seen half written."""
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, file)


def environment(dataset_fingerprint: str) -> dict[str, Any]:
    """Returns what a result depends on besides the config."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "devices": [f"{d.platform}: {d.device_kind}" for d in jax.devices()],
        "git_revision": _git_revision(),
        "dataset_fingerprint": dataset_fingerprint,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """The revision of the clone that this file lies in; None where it is installed from a wheel."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def read_json(file: Path) -> Any:
    if not file.is_file():
        raise UserError(f"{file} does not exist; --workdir names a folder that jmer.train has written")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}); train again into a new --workdir") from error
