"""Training into a run directory, from where an earlier call stopped."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tensorboardX import SummaryWriter

from jmer.base import files
from jmer.base.errors import UserError
from jmer.base.types import MODALITIES, UNLABELLED, Batch
from jmer.config import RESULT_NEUTRAL, Config, check, check_fit, names_in
from jmer.dataset import store
from jmer.dataset.flat import dialogue_lengths, gather
from jmer.dataset.plan import Plan, evaluation_plan
from jmer.runs import directory
from jmer.runs.predictor import BATCH_UTTERANCES
from jmer.training import metrics, sampling, steps
from jmer.training.checkpoint import Checkpoints
from jmer.training.devices import Placement, is_main, put, wait_for_all
from jmer.training.feed import Feed, load_flat
from jmer.training.optim import make_optimizer


def fit(config: Config, workdir: Path) -> None:
    """Trains into `workdir`, from where an earlier call stopped.

    Raises:
      UserError: the dataset is unfit, or `workdir` holds a run of another config or dataset.
      FloatingPointError: the loss is no longer finite.
    """
    check(config)
    seeds, keep = directory.seeds_of(config), config.keep_epochs

    # Data: end to end, and on its way to the devices.
    dataset = store.load(Path(config.dataset))
    modalities = _modalities(config, dataset)
    for split in ("train", "dev"):
        if split not in dataset.manifest["splits"]:
            raise UserError(
                f"{dataset.path} has no {split} split; training needs train, and dev to choose the epoch on"
            )
    placement = Placement(seeds=len(seeds), devices=config.devices)
    sequence_dims = {m: d for m, d in dataset.sequence_dims.items() if m in names_in(config.sequences)}
    views = [store.view_split(i + 1) for i in range(dataset.manifest["views"])]
    (flat, dev_flat), streamed = load_flat(
        dataset,
        (("train", *views), ("dev",)),
        dims={m: dataset.dims[m] for m in modalities},
        sequence_dims=sequence_dims,
        dtype=config.data_dtype,
        mode=config.data_mode,
        folder=workdir.parent,
    )
    train_flat = gather(flat, slice(dataset.manifest["splits"]["train"]["utterances"]))  # without views
    _check_data(dataset, modalities, train=train_flat, dev=dev_flat)
    framed = [m for m in sequence_dims if train_flat.frames[m].any()]
    sentiments = bool((train_flat.sentiment != UNLABELLED).any())
    check_fit(config, modalities=modalities, sequences=framed, labels=dataset.labels, sentiments=sentiments)
    lengths = dialogue_lengths(train_flat)
    counts = sampling.class_counts(train_flat.label, lengths, num_classes=len(dataset.labels))
    plan = Plan(
        lengths,
        batch_utterances=config.batch_utterances,
        views=len(views),
        weights=None if config.sampler == "none" else sampling.dialogue_weights(counts, scheme=config.sampler),
    )
    dev_plan = evaluation_plan(dialogue_lengths(dev_flat), batch_utterances=BATCH_UTTERANCES)
    data, dev_data = (Feed(each, placement, streamed=streamed) for each in (flat, dev_flat))

    # Run directory.
    if is_main():
        _claim(workdir, config, dataset, modalities, sequence_dims, streamed=streamed)
    wait_for_all("claimed")
    checkpoints = Checkpoints(workdir / "checkpoints")

    # Model and optimizer.
    dims = {m: dataset.dims[m] for m in modalities}
    model = directory.make_model(config, dims=dims, sequence_dims=sequence_dims, labels=dataset.labels)
    objective = directory.make_objective(config, model, counts.sum(axis=0))
    optimizer = make_optimizer(
        lr=config.lr,
        total_steps=config.epochs * plan.steps,
        warmup=config.warmup,
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
    )
    state = put(steps.init_state(model, optimizer, seeds=seeds), placement.state)
    best = {
        "params": steps.repeat_params(state.params, count=keep),
        "stats": put(steps.feature_stats(train_flat), placement.everywhere),
    }
    progress: dict[str, Any] = {
        "epoch": 0,
        "improved_epoch": [0] * len(seeds),
        "best_epoch": [[0] * keep] * len(seeds),
        "best_score": [[-1.0] * keep] * len(seeds),
    }
    train_epoch = steps.make_train_epoch(model, optimizer, objective, placement)

    # Restore.
    checkpoints.remove_cut_off()
    if (epoch := checkpoints.latest()) is not None:
        state, best, progress = checkpoints.restore(epoch, state=state, best=best)
        if is_main():
            print(f"going on after epoch {epoch} of {workdir}")
    log = _Log(workdir, after=progress["epoch"]) if is_main() else None

    # Loop.
    if is_main():
        shares = sampling.expected_shares(plan, counts)
        _describe_classes(workdir, dataset.labels, counts.sum(axis=0), objective.class_weights, shares)
        count = sum(x.size for x in jax.tree.leaves(state.params)) // len(seeds)
        print(
            f"training {', '.join(modalities)} on {dataset.path}: {count:,} parameters, "
            f"seeds {', '.join(map(str, seeds))}, {placement.description}"
        )
    while not _finished(progress, config):
        epoch, start = progress["epoch"] + 1, time.perf_counter()
        losses, updates, confusions = [], [], []
        with jax.transfer_guard("disallow"):
            for utterances, index in data.pieces(plan.epoch(epoch, seeds=seeds)):
                state, loss = train_epoch(state, best["stats"], utterances, index)
                losses.append(loss)
                updates.append(len(index))
            for utterances, index in dev_data.pieces(dev_plan):
                confusions.append(steps.confusion(model, state.params, best["stats"], utterances, index))
            learned = state.params.get("graph_weight")
            losses, confusions, learned = placement.fetch((losses, confusions, learned))  # the one transfer back
        loss = np.average(losses, axis=0, weights=updates)
        graph_weight = np.full(len(seeds), config.graph_weight) if learned is None else learned
        if not np.isfinite(loss).all():
            raise FloatingPointError(
                f"epoch {epoch}: the loss of seeds {seeds} is {loss}; a lower --config.lr may help"
            )
        scores = [metrics.scores(c) for c in np.sum(confusions, axis=0)]

        dev_f1 = np.array([score["weighted_f1"] for score in scores])
        chosen, progress = _choose(dev_f1, progress, patience=config.patience)
        best["params"] = steps.keep_params(put(chosen, placement.state), state.params, best["params"])
        if log:
            log.write(
                epoch,
                seeds=seeds,
                loss=loss,
                graph_weight=graph_weight,
                dev=scores,
                progress=progress,
                seconds=time.perf_counter() - start,
            )
        checkpoints.save(epoch, state=state, best=best, progress=progress)
    if log:
        log.close()


def _choose(dev_f1: np.ndarray, progress: dict[str, Any], *, patience: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Returns which kept epochs `[S, K]` this one takes the place of, and the progress with it.

    An epoch takes the place of the worst that is kept, the earliest of equals, unless it is worse itself. But only one
    better than all is worth waiting on for, and a seed whose patience has run out keeps what it has, however long the
    others go on.
    """
    epoch, score, kept = progress["epoch"] + 1, np.array(progress["best_score"]), np.array(progress["best_epoch"])
    going = epoch - np.array(progress["improved_epoch"]) <= patience
    improved = going & (dev_f1 > score.max(axis=1))
    worst = np.array([np.lexsort(pair)[0] for pair in zip(kept, score, strict=True)])
    chosen = (np.arange(score.shape[1]) == worst[:, None]) & (going & (dev_f1 >= score.min(axis=1)))[:, None]
    return chosen, {
        "epoch": epoch,
        "improved_epoch": np.where(improved, epoch, progress["improved_epoch"]).tolist(),
        "best_epoch": np.where(chosen, epoch, kept).tolist(),
        "best_score": np.where(chosen, dev_f1[:, None], score).tolist(),
    }


def _finished(progress: dict[str, Any], config: Config) -> bool:
    waited = [progress["epoch"] - epoch for epoch in progress["improved_epoch"]]
    return progress["epoch"] >= config.epochs or min(waited) >= config.patience


def _modalities(config: Config, dataset: store.Dataset) -> list[str]:
    """The modalities to train on, in the standard order."""
    asked = [m.strip() for m in config.modalities.split(",") if m.strip()] or list(dataset.dims)
    for m in asked:
        if m not in MODALITIES:
            raise UserError(f"config.modalities: '{m}' is not one of {', '.join(MODALITIES)}")
        if m not in dataset.dims:
            reason = dataset.manifest["modalities"][m]["reason"]
            raise UserError(
                f"config.modalities: {dataset.path} has no {m} ({reason}); it has {', '.join(dataset.dims)}"
            )
    if not asked:
        raise UserError(f"{dataset.path} holds no modality at all; see the rows of its {store.MANIFEST}")
    return [m for m in MODALITIES if m in asked]


def _check_data(dataset: store.Dataset, modalities: Sequence[str], *, train: Batch, dev: Batch) -> None:
    for split, flat in (("train", train), ("dev", dev)):
        if not (flat.label != UNLABELLED).any():
            raise UserError(f"{dataset.path}: no utterance of the {split} split has a label; training needs some")
    for m in modalities:
        if not train.present[m].any():
            others = ",".join(x for x in modalities if x != m)
            raise UserError(
                f"{dataset.path}: no utterance of the train split has {m}; "
                f"leave it out with --config.modalities={others}"
            )


def _claim(
    workdir: Path,
    config: Config,
    dataset: store.Dataset,
    modalities: Sequence[str],
    sequence_dims: Mapping[str, int],
    *,
    streamed: bool,
) -> None:
    """Describes the run in its directory, or checks that what is there is the same run."""
    described = {
        "config.json": json.loads(config.to_json()),
        "features.json": {
            "format": directory.FORMAT,
            "labels": list(dataset.labels),
            "dataset_fingerprint": dataset.fingerprint,
            "modalities": {m: dataset.manifest["modalities"][m] for m in modalities},
            "sequence_dims": sequence_dims,
        },
    }
    cure = f"give another --workdir, or remove {workdir}"
    for name, new in described.items():
        if not (workdir / name).is_file():
            continue
        old = directory.read_json(workdir / name)
        keys = (old.keys() | new.keys()) - set(RESULT_NEUTRAL)
        changed = sorted(key for key in keys if old.get(key) != new.get(key))
        if changed:
            raise UserError(f"{workdir / name}: the run there has another {', '.join(changed)}; {cure}")
    if not workdir.is_dir():
        workdir.mkdir(parents=True)
    elif not (workdir / "config.json").is_file() and any(workdir.iterdir()):
        raise UserError(f"{workdir} is not empty and holds no run of jmer's; {cure}")
    for name, new in described.items():
        files.save_json(workdir / name, new)
    files.save_json(workdir / "environment.json", directory.environment(dataset.fingerprint) | {"streamed": streamed})


def _describe_classes(
    workdir: Path, labels: Sequence[str], counts: np.ndarray, weights: Sequence[float] | None, shares: np.ndarray
) -> None:
    """Prints, and puts into the run, how often each class comes and what it weighs."""
    table = {
        label: {"utterances": int(n), "share": n / counts.sum(), "drawn_share": share, "weight": weight}
        for label, n, share, weight in zip(labels, counts, shares, weights or [1.0] * len(labels), strict=True)
    }
    files.save_json(workdir / "classes.json", table)
    print(f"{'class':12}{'utterances':>12}{'share':>8}{'drawn':>8}{'weight':>8}")
    for label, row in table.items():
        print(f"{label:12}{row['utterances']:12}{row['share']:8.3f}{row['drawn_share']:8.3f}{row['weight']:8.3f}")


class _Log:
    """One epoch's figures on the screen, in metrics.jsonl and for TensorBoard."""

    def __init__(self, workdir: Path, *, after: int):
        """Drops what an interrupted run wrote about epochs later than `after`, which come again."""
        self._file = workdir / "metrics.jsonl"
        lines = self._file.read_text().splitlines(keepends=True) if self._file.is_file() else []
        whole = [line for line in lines if line.endswith("\n") and json.loads(line)["epoch"] <= after]
        self._file.write_text("".join(whole))
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=after + 1)

    def write(
        self,
        epoch: int,
        *,
        seeds: Sequence[int],
        loss: np.ndarray,
        graph_weight: np.ndarray,
        dev: Sequence[dict[str, Any]],
        progress: dict[str, Any],
        seconds: float,
    ) -> None:
        with self._file.open("a") as file:
            for i, seed in enumerate(seeds):
                figures = {f"dev_{name}": dev[i][name] for name in metrics.SCORES}
                figures |= {"train_loss": float(loss[i]), "graph_weight": float(graph_weight[i])}
                file.write(json.dumps({"epoch": epoch, "seed": seed, **figures, "seconds": round(seconds, 3)}) + "\n")
                for name, value in figures.items():
                    self._board.add_scalar(f"seed_{seed}/{name}", value, epoch)
        self._board.flush()
        print(
            f"epoch {epoch:3d}  loss {loss.mean():.4f}  dev weighted F1 {np.mean([s['weighted_f1'] for s in dev]):.4f}"
            f"  macro-F1 {np.mean([s['macro_f1'] for s in dev]):.4f}"
            f"  best {np.mean(np.max(progress['best_score'], axis=1)):.4f}  {seconds:.2f} s",
            flush=True,
        )

    def close(self) -> None:
        self._board.close()
