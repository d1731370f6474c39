"""Training into a run directory, from where an earlier call stopped."""

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jmer.base.errors import DivergedError, UserError
from jmer.base.types import UNLABELLED, FlatSplit
from jmer.dataset import store
from jmer.dataset.flat import dialogue_lengths, head
from jmer.dataset.plan import Plan, evaluation_plan
from jmer.runs.directory import RunDirectory
from jmer.runs.inputs import inputs_of, model_of
from jmer.runs.log import LOG_SHA256, Log, describe_classes
from jmer.runs.progress import Progress
from jmer.training import metrics, sampling, steps
from jmer.training.checkpoint import Checkpoints, latest_epoch, remove_damaged
from jmer.training.devices import Placement, as_main, is_main, put, wait_for_all
from jmer.training.feed import Feed, load_flat
from jmer.training.objective import Objective
from jmer.training.optim import make_optimizer
from jmer.training.options import TrainOptions

_log = logging.getLogger(__name__)


def fit(options: TrainOptions, dataset: store.Dataset, workdir: Path) -> None:
    """Trains into `workdir`, from where an earlier call stopped, until all epochs are done or patience runs out.

    Args:
      dataset: the opened dataset; `options.dataset` records where it lies.

    Raises:
      UserError: the dataset is unfit, another process trains into `workdir`, or it holds a run whose result these
        settings would change.
      DivergedError: an epoch made the loss or the parameters infinite or NaN. Such an epoch is not saved.
    """
    with ExitStack() as held:
        _fit(options, dataset, workdir, held)


def _fit(options: TrainOptions, dataset: store.Dataset, workdir: Path, held: ExitStack) -> None:
    """Trains; the arguments and the errors are those of `fit`. `held` holds the lock on the directory."""
    run, seeds, by_dev = RunDirectory(workdir), options.all_seeds, options.choose == "best"

    # ---- Data: every split end to end, and on its way to the devices.
    _check_splits(dataset, dev=by_dev)
    has_dev = "dev" in dataset.manifest["splits"]
    inputs = inputs_of(dataset, modalities=options.modalities, sequences=options.sequences)
    placement = Placement(seeds=len(seeds), devices=options.devices)
    (flat, dev_flat), streamed = load_flat(
        dataset,
        (("train", *dataset.views), ("dev",) if has_dev else ()),
        dims=inputs.dims,
        sequence_dims=inputs.sequence_dims,
        dtype=options.data_dtype,
        mode=options.data_mode,
        folder=workdir.parent,
    )
    train_flat = head(flat, dataset.manifest["splits"]["train"]["utterances"])  # without views
    _check_data(options, dataset, train=train_flat, dev=dev_flat)
    lengths = dialogue_lengths(train_flat)
    counts = sampling.class_counts(train_flat.label, lengths, num_classes=len(inputs.labels))
    plan = Plan(
        lengths,
        batch_utterances=options.batch_utterances,
        views=len(dataset.views),
        weights=None if options.sampler == "none" else sampling.dialogue_weights(counts, scheme=options.sampler),
    )
    dev_plan = evaluation_plan(dialogue_lengths(dev_flat))
    dev_labels = (dev_flat.label != UNLABELLED).sum()
    data, dev_data = (Feed(each, placement, streamed=streamed) for each in (flat, dev_flat))

    # ---- Run directory: the main process claims it, and decides where training goes on.
    last = 0
    if is_main():
        held.enter_context(run.locked())
        run.claim(options, inputs, about={"streamed": streamed})
        last = latest_epoch(run.checkpoints)
        remove_damaged(run.checkpoints, after=last)
    wait_for_all("claimed")
    last = as_main(last)  # another process may see an outdated listing of a network folder
    checkpoints = Checkpoints(run.checkpoints)

    # ---- Model and optimizer.
    model = model_of(options, inputs)
    class_counts = tuple(counts.sum(axis=0).tolist())
    objective = Objective(options=options, counts=class_counts, specialist=model.specialist_classes)
    optimizer = make_optimizer(options, steps_per_epoch=plan.steps)
    train_epoch = steps.make_train_epoch(model, optimizer, objective, placement)
    state = put(steps.init_state(model, optimizer, seeds=seeds), placement.state)
    stats = put(steps.feature_stats(train_flat), placement.everywhere)
    kept = steps.repeat_params(state.params, count=options.keep_epochs)  # leaves [S, K, ...]
    progress = Progress.start(seeds=len(seeds), keep=options.keep_epochs)

    # ---- Restore.
    saved: dict[str, Any] = {}
    if last:
        state, best, saved = checkpoints.restore(last, state=state, best={"params": kept, "stats": stats})
        kept, stats, progress = best["params"], best["stats"], Progress.from_json(saved)
    log = None
    if is_main():
        sha256 = saved.get(LOG_SHA256, "")
        log = Log(run, after=progress.epoch, epochs=options.epochs, sha256=sha256, options=options)
    if log:
        shares = sampling.expected_shares(plan, counts)
        total = counts.sum(axis=0)
        describe_classes(run, inputs.labels, counts=total, weights=objective.class_weights, shares=shares)
        if last:
            _log.info(f"going on after epoch {last} of {workdir}")
        size = sum(x.size for x in jax.tree.leaves(state.params)) // len(seeds)
        _log.info(
            f"training {', '.join(inputs.modalities)} on {dataset.path}: {size:,} parameters, "
            f"seeds {', '.join(map(str, seeds))}, {placement.description}"
        )

    # ---- Loop.
    finished = progress.finished(epochs=options.epochs, patience=options.patience)
    if log and not finished:
        run.forget_calibration()
        _log.info("the first epoch compiles the model, unless an earlier run did")
    while not finished:
        epoch, start = progress.epoch + 1, time.perf_counter()
        losses, updates, confusions = [], [], []
        with jax.transfer_guard("disallow"):
            for utterances, index in data.pieces(plan.epoch(epoch, seeds=seeds)):
                state, loss = train_epoch(state, stats, utterances, index)
                losses.append(loss)
                updates.append(len(index))
            for utterances, index in dev_data.pieces(dev_plan):
                confusions.append(steps.confusion(model, state.params, stats, utterances, index))
            figures = (
                losses,
                confusions,
                steps.all_finite((state.params, state.opt_state)),
                state.params.get("graph_weight"),
            )
            losses, confusions, finite, graph_weight = placement.fetch(figures)  # the one transfer back
        loss = np.average(losses, axis=0, weights=updates)
        finite, dev = finite & np.isfinite(loss), []
        if has_dev:
            confusion = np.sum(confusions, axis=0)
            finite = finite & (confusion.sum(axis=(1, 2)) == dev_labels)
            dev = [metrics.scores(each) for each in confusion]
        _check_finite(run, options, epoch=epoch, finite=finite)
        rank = np.array([scores["weighted_f1"] for scores in dev]) if by_dev else np.full(len(seeds), float(epoch))
        chosen, progress = progress.after_epoch(rank, patience=options.patience)
        kept = steps.keep_params(put(chosen, placement.state), state.params, kept)
        if log:
            log.write(
                epoch,
                seeds=seeds,
                figures={
                    "train_loss": loss,
                    "graph_weight": np.full(len(seeds), options.graph_weight) if graph_weight is None else graph_weight,
                },
                dev=dev,
                seconds=time.perf_counter() - start,
            )
        finished = progress.finished(epochs=options.epochs, patience=options.patience)
        if finished or checkpoints.due():
            done = progress.to_json() | ({LOG_SHA256: log.sha256} if log else {})
            checkpoints.save(epoch, state=state, best={"params": kept, "stats": stats}, progress=done)
        if log:
            best = np.max(progress.best_score, axis=1) if by_dev else None
            seconds = time.perf_counter() - start
            log.show(epoch, loss=float(np.mean(loss)), dev=dev, best=best, seconds=seconds)
    if log:
        _log.info(progress.why_finished(epochs=options.epochs, patience=options.patience))
        log.close()


def _check_finite(run: RunDirectory, options: TrainOptions, *, epoch: int, finite: np.ndarray) -> None:
    """Checks an epoch before anything of it is saved.

    Args:
      finite: `[S]`, whether the loss, the parameters and the dev logits of each seed are.

    Raises:
      DivergedError: a seed's are not. The run then records the epoch, so that another call may change the rate.
    """
    if finite.all():
        return
    seeds = [seed for seed, fine in zip(options.all_seeds, finite, strict=True) if not fine]
    if is_main():
        run.record_divergence(epoch, seeds=seeds, options=options)
    last = latest_epoch(run.checkpoints)
    kept = f"epoch {last} is kept" if last else "no epoch is kept"
    raise DivergedError(
        f"{run.path}: training diverged in epoch {epoch}: the loss, the parameters or the dev logits of seed "
        f"{', '.join(map(str, seeds))} are infinite or NaN; {kept}; run the same command with a lower --config.lr "
        f"(now {options.lr:g}) to go on"
    )


def _check_splits(dataset: store.Dataset, *, dev: bool) -> None:
    """Checks that there is a train split, and where `dev` asks for it a dev split."""
    for split in ("train", "dev") if dev else ("train",):
        if split not in dataset.manifest["splits"]:
            raise UserError(
                f"{dataset.path} has no {split} split; training needs train, and dev to choose the epoch on (without "
                "dev, keep the last epoch with --config.choose=last, or make folds with --config.cv)"
            )


def _check_data(options: TrainOptions, dataset: store.Dataset, *, train: FlatSplit, dev: FlatSplit) -> None:
    """Checks that the data has what the options ask for; `train` and `dev` are flat splits, `train` without views."""
    for split, flat in (("train", train), *([("dev", dev)] if options.choose == "best" else [])):
        if not (flat.label != UNLABELLED).any():
            raise UserError(f"{dataset.path}: no utterance of the {split} split has a label; training needs some")
    modalities: Sequence[str] = list(train.present)
    for m in modalities:
        if not train.present[m].any():
            others = ",".join(x for x in modalities if x != m)
            raise UserError(
                f"{dataset.path}: no utterance of the train split has {m}; "
                f"leave it out with --config.modalities={others}"
            )
    options.check_fit(
        modalities=modalities,
        sequences=[m for m, mask in train.frame_mask.items() if mask.any()],
        labels=dataset.labels,
        sentiments=bool((train.sentiment != UNLABELLED).any()),
    )
