"""Training into a run directory, from where an earlier call stopped."""

import logging
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jmer.base.errors import DivergedError
from jmer.dataset import store
from jmer.runs.directory import RunDirectory
from jmer.runs.log import LOG_SHA256, Log, describe_classes
from jmer.runs.prepared import prepare, run_epoch
from jmer.runs.progress import Progress
from jmer.training import metrics, sampling, steps
from jmer.training.checkpoint import Checkpoints, latest_epoch, remove_damaged
from jmer.training.devices import as_main, is_main, put, wait_for_all
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
    data = prepare(options, dataset, seeds=len(seeds), folder=workdir.parent)
    model, optimizer, objective = data.trained(options)
    inputs, placement = data.inputs, data.placement

    # ---- Run directory: the main process claims it, and decides where training goes on.
    last = 0
    if is_main():
        held.enter_context(run.locked())
        run.claim(options, inputs, about={"streamed": data.streamed})
        last = latest_epoch(run.checkpoints)
        remove_damaged(run.checkpoints, after=last)
    wait_for_all("claimed")
    last = as_main(last)  # another process may see an outdated listing of a network folder
    checkpoints = Checkpoints(run.checkpoints)

    # ---- State.
    train_epoch = steps.make_train_epoch(model, optimizer, objective, placement)
    state = put(steps.init_state(model, optimizer, seeds=seeds), placement.state)
    kept = steps.repeat_params(state.params, count=options.keep_epochs)  # leaves [S, K, ...]
    progress = Progress.start(seeds=len(seeds), keep=options.keep_epochs)

    # ---- Restore.
    saved: dict[str, Any] = {}
    if last:
        state, best, saved = checkpoints.restore(last, state=state, best={"params": kept, "stats": data.stats})
        kept, progress = best["params"], Progress.from_json(saved)
        data = replace(data, stats=best["stats"])
    log = None
    if is_main():
        sha256 = saved.get(LOG_SHA256, "")
        log = Log(run, after=progress.epoch, epochs=options.epochs, sha256=sha256, options=options)
    if log:
        shares = sampling.expected_shares(data.plan, data.counts)
        total = data.counts.sum(axis=0)
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
        state, found = run_epoch(data, train_epoch, model, state, number=epoch, seeds=seeds)
        dev = [] if found.confusion is None else [metrics.scores(each) for each in found.confusion]
        _check_finite(run, options, epoch=epoch, finite=found.finite)
        rank = np.array([scores["weighted_f1"] for scores in dev]) if by_dev else np.full(len(seeds), float(epoch))
        chosen, progress = progress.after_epoch(rank, patience=options.patience)
        kept = steps.keep_params(put(chosen, placement.state), state.params, kept)
        if log:
            fixed = np.full(len(seeds), options.graph_weight)
            weight = fixed if found.graph_weight is None else found.graph_weight
            figures = {"train_loss": found.loss, "graph_weight": weight}
            log.write(epoch, seeds=seeds, figures=figures, dev=dev, seconds=time.perf_counter() - start)
        finished = progress.finished(epochs=options.epochs, patience=options.patience)
        if finished or checkpoints.due():
            done = progress.to_json() | ({LOG_SHA256: log.sha256} if log else {})
            checkpoints.save(epoch, state=state, best={"params": kept, "stats": data.stats}, progress=done)
        if log:
            best = np.max(progress.best_score, axis=1) if by_dev else None
            seconds = time.perf_counter() - start
            log.show(epoch, loss=float(np.mean(found.loss)), dev=dev, best=best, seconds=seconds)
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
