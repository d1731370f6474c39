"""A run's directory: what training leaves there, and how it is opened again.

config.json        the resolved config
features.json      format of the run, labels, and for each modality the model reads: dim, extractor, fingerprint; and
                   D' of each sequence it reads
environment.json   versions, devices, git revision, dataset fingerprint, whether the data was streamed
classes.json       how often each class comes, is drawn, and what it weighs
metrics.jsonl      one line an epoch and seed
tensorboard/       the same as TensorBoard events
checkpoints/       Orbax, with hashes
eval/<split>/      what jmer.evaluate writes
"""

import functools
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding
from ml_collections import ConfigDict

from jmer.base.errors import UserError
from jmer.base.paths import cache_root
from jmer.base.types import MODALITIES
from jmer.config import Config, graph_layers, names_in
from jmer.nn.model import Model
from jmer.nn.speaker_graph import GraphOptions
from jmer.training.checkpoint import Checkpoints
from jmer.training.objective import Objective
from jmer.training.sampling import class_weights
from jmer.training.steps import STATS, init_params

Tree = Any  # a pytree of arrays

FORMAT = 4  # of a run's files; the number goes up when an older run can no longer be read
_PACKAGES = ("jmer", "jax", "jaxlib", "flax", "optax", "jraph", "orbax-checkpoint", "numpy", "librosa", "transformers")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A trained run.

    modalities: `{"dim", "extractor", "fingerprint"}` of each modality the model reads.
    params: each seed's members, leaves with leading axes S and K: its best epochs, or one average of them.
    stats: the model's `stats` variables.
    progress: `{"epoch", "improved_epoch": [S], "best_epoch": [S, K], "best_score": [S, K]}`, K epochs, best first.
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


def keep_compiled() -> None:
    """Keeps compiled programs in the cache folder, for the next process; a folder that JAX was told of comes first."""
    if not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", str(cache_root() / "xla"))


def seeds_of(config: Config) -> tuple[int, ...]:
    """Returns the seeds that a config trains."""
    return tuple(range(config.seed, config.seed + config.seeds))


def make_model(
    config: Config, *, dims: Mapping[str, int], sequence_dims: Mapping[str, int], labels: Sequence[str]
) -> Model:
    """Returns the model of a config for features, and sequences, of these dims and these labels."""
    layers = graph_layers(config)
    graph = GraphOptions(
        layers=layers,
        past=config.past,
        future=config.future,
        form=config.graph_form,
        distance_bins=tuple(map(int, names_in(config.distance_bins))),
        heads=config.heads,
        bases=config.bases,
        drop_node=config.drop_node,
        drop_edge=config.drop_edge,
        **config.gfpush,
    )
    return Model(
        dims=tuple((m, dims[m]) for m in MODALITIES if m in dims),
        sequence_dims=tuple((m, sequence_dims[m]) for m in MODALITIES if m in sequence_dims),
        num_classes=len(labels),
        hidden=config.hidden,
        heads=config.heads,
        encoder=config.encoder,
        encoder_layers=config.encoder_layers,
        causal=config.future == 0,
        co_attention=config.co_attention,
        fusion=config.fusion,
        graph=graph if layers else None,
        graph_nodes=config.graph_nodes,
        graph_weight=config.graph_weight,
        learn_graph_weight=config.learn_graph_weight,
        dropout=config.dropout,
        modality_dropout=config.modality_dropout,
        feature_noise=config.feature_noise,
        mixup=config.mixup,
        sentiment=config.sentiment > 0,
        specialist=tuple(map(list(labels).index, names_in(config.specialist))),
        specialist_weight=config.specialist_weight,
        embedding=config.contrastive.weight > 0,
        prototypes=config.contrastive.weight > 0 and config.contrastive.prototypes,
        precision=config.precision,
    )


def make_objective(config: Config, model: Model, counts: np.ndarray) -> Objective:
    """Returns what a config has training minimise.

    counts: `[C]`, how many utterances of each class the train split has.
    """
    scheme = config.class_weights
    weights = None if scheme == "none" else tuple(class_weights(counts, scheme=scheme).tolist())
    log_prior = None
    if config.logit_adjustment:
        # Half an utterance for a class that does not occur: rare, but not beyond all bounds.
        share = np.maximum(counts, 0.5) / counts.sum()
        log_prior = tuple((config.logit_adjustment * np.log(share)).tolist())
    rare = [counts[c] for c in model.specialist]
    specialist_counts = np.array([*rare, counts.sum() - sum(rare)])
    return Objective(
        class_weights=weights,
        focal_gamma=config.focal_gamma,
        label_smoothing=config.label_smoothing,
        log_prior=log_prior,
        sentiment_weight=config.sentiment,
        specialist=model.specialist,
        specialist_weight=config.specialist_weight,
        specialist_class_weights=tuple(class_weights(specialist_counts, scheme="sqrt").tolist()),
        contrastive_weight=config.contrastive.weight,
        contrastive_temperature=config.contrastive.temperature,
        augmentations=config.consistency.passes,
        consistency_weight=config.consistency.weight,
        consistency_temperature=config.consistency.temperature,
        consistency_confidence=config.consistency.confidence,
    )


def load(workdir: Path) -> Run:
    """Opens a run at its best checkpoint.

    Raises:
      UserError: there is no run, it has no checkpoint yet, or a file of it is damaged.
    """
    config = ConfigDict(read_json(workdir / "config.json"))
    described = read_json(workdir / "features.json")
    if described.get("format", 1) != FORMAT:
        raise UserError(
            f"{workdir} was trained by another version of jmer (run format {described.get('format', 1)}, this one "
            f"reads {FORMAT}); train it again, or use the version that its environment.json names"
        )
    labels, modalities = tuple(described["labels"]), described["modalities"]
    dims, sequence_dims = {m: v["dim"] for m, v in modalities.items()}, described["sequence_dims"]
    model = make_model(config, dims=dims, sequence_dims=sequence_dims, labels=labels)
    checkpoints = Checkpoints(workdir / "checkpoints")
    epoch = checkpoints.latest()
    if epoch is None:
        raise UserError(
            f"{workdir} has no checkpoint yet; run jmer.train with --workdir={workdir} until its first epoch ends"
        )
    keep = config.keep_epochs
    one = jax.eval_shape(lambda: init_params(model, seeds=seeds_of(config)))
    # On one device, whatever it was trained on.
    array = functools.partial(jax.ShapeDtypeStruct, sharding=SingleDeviceSharding(jax.local_devices()[0]))
    widths = dims | {f"{m}_sequence": dim for m, dim in sequence_dims.items()}
    template = {
        "params": jax.tree.map(lambda x: array((x.shape[0], keep, *x.shape[1:]), x.dtype), one),
        "stats": {f"{m}_{name}": array((dim,), jnp.float32) for m, dim in widths.items() for name in STATS},
    }
    best, progress = checkpoints.restore_best(epoch, best=template)
    params = best["params"]
    filled = min(keep, progress["epoch"])  # a run of fewer epochs than it may keep
    params = jax.tree.map(lambda x: x[:, :filled], params)
    if config.merge_epochs == "average":
        params = jax.tree.map(lambda x: x.mean(axis=1, keepdims=True), params)
    return Run(
        workdir=workdir,
        config=config,
        labels=labels,
        modalities=modalities,
        model=model,
        params=params,
        stats=best["stats"],
        progress=progress,
    )


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
