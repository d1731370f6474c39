"""Fine-tuning into a run directory, seed after seed, from where an earlier call stopped.

runs/x/                what `RunDirectory` describes: config.json, features.json, environment.json, eval/
runs/x/seeds/N/        metrics.jsonl, tensorboard/ and checkpoints/ of the seed N
runs/x/model/          the best seed, as `jmer.extract` reads it
runs/x/folds/N/        of a cross-validation: all this for the fold N, beside the scores of all folds in runs/x/eval/cv/
"""

import functools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jmer.base import cli
from jmer.base.errors import DivergedError, UserError
from jmer.base.types import UNLABELLED, Corpus
from jmer.dataset.build import load_source
from jmer.dataset.folds import fold_of_corpus
from jmer.runs.directory import RunDirectory
from jmer.runs.log import LOG_SHA256, Log
from jmer.runs.progress import Progress
from jmer.runs.report import write_scores
from jmer.runs.scored import Scored, ScoredRow
from jmer.runs.scoring import (
    calibrated,
    calibration_errors,
    calibration_on,
    calibration_shown,
    cross_calibrated,
)
from jmer.training import metrics
from jmer.training.checkpoint import Checkpoints, latest_epoch, remove_damaged
from jmer.training.sampling import loss_weights
from jmer.tuning import export, steps
from jmer.tuning.classifier import ENCODER
from jmer.tuning.inputs import TuneInputs, fingerprint
from jmer.tuning.material import Material, material
from jmer.tuning.options import TuneOptions
from jmer.tuning.probe import probe
from jmer.tuning.steps import Flat

_log = logging.getLogger(__name__)

MODEL = "model"  # the folder of the run that `jmer.extract` reads


@dataclass(frozen=True, kw_only=True)
class Task:
    """All that the seeds of a run share.

    material: the encoder, and the batches that it reads.
    published: the variables of the encoder, its adapters merged in.
    weights: of the classes in the loss; None where every class weighs 1.
    """

    options: TuneOptions
    corpus: Corpus
    material: Material
    published: Any
    weights: tuple[float, ...] | None

    @functools.cached_property
    def fresh(self) -> Callable[[int], Any]:
        """A function: a seed -> the classifier's variables, all at random; one program for all seeds."""
        init, blank = jax.jit(self.material.model.init), next(self.material.batches("train"))
        return lambda seed: init(jax.random.key(seed), blank)

    @functools.cached_property
    def begun(self) -> Any:
        """The variables that do not depend on the seed: encoder, statistics of its vectors, and the head of a probe."""
        begun = {"params": {ENCODER: self.published["params"]}, "stats": self.fresh(0)["stats"]}
        if self.options.head == "probe":
            vectors, _ = _encoded(self, "train", *steps.parted(_merged(self.fresh(0), begun), self.options))
            labels = self.material.splits["train"].label[:-1]
            stats, head = probe(vectors, labels, classes=len(self.corpus.labels))
            begun = {"params": begun["params"] | {"head": head}, "stats": stats}
        return begun

    @functools.cached_property
    def frozen(self) -> Flat:
        """The variables that no seed trains."""
        return steps.parted(self.begun, self.options)[1]


def fit(options: TuneOptions, workdir: Path) -> None:
    """Fine-tunes into `workdir` until every seed is done, exports the best seed, and scores all on dev and test.

    A cross-validation does so for every fold, and scores the test splits of all folds together.

    Raises:
      UserError: the source or the encoder cannot be used, `workdir` holds another run, or another process trains into
        it.
      DivergedError: the loss or the dev logits became infinite or NaN.
    """
    corpus = load_source(options)
    with RunDirectory(workdir).locked():
        if options.cv == "none":
            _fit(options, corpus, workdir)
        else:
            _fit_folds(options, corpus, workdir)


def _fit_folds(options: TuneOptions, corpus: Corpus, workdir: Path) -> None:
    """Fine-tunes every fold, and scores the test splits of all folds together.

    The temperature of a fold is the one that fits the test splits of all other folds.
    """
    dev = options.choose == "best"
    chosen = range(options.folds) if options.fold < 0 else (options.fold,)
    each = []
    for number in chosen:
        _log.info(f"== fold {number + 1} of {options.folds}")
        fold = fold_of_corpus(corpus, number, by=options.cv, count=options.folds, dev=dev)
        each.append(_fit(replace(options, fold=number), fold, RunDirectory(workdir).fold(number).path)["test"])
    if options.fold < 0:
        pooled = Scored.pooled(each)
        probs = cross_calibrated(pooled, Scored.part_of_each(each))
        temperatures = calibration_on(pooled.probs, pooled.labels).seeds
        folder = RunDirectory(workdir).evaluation("cv", vote=False)
        _write_scores(options, corpus, folder, pooled, temperatures, probs, probs)


def _fit(options: TuneOptions, corpus: Corpus, workdir: Path) -> dict[str, Scored]:
    """Fine-tunes on one set of splits; returns what the seeds say of dev and test."""
    run = RunDirectory(workdir, options_class=TuneOptions, inputs_class=TuneInputs)
    task = _task(options, corpus)
    inputs = TuneInputs(
        labels=corpus.labels,
        dataset_fingerprint=fingerprint(corpus, clips=task.material.modality == "audio"),
        model_sha256=task.material.encoder.sha256,
    )
    run.claim(options, inputs, about={})
    best = [_fit_seed(task, seed, workdir / "seeds" / str(seed)) for seed in options.all_seeds]
    number = int(np.argmax([score for _, score in best]))
    export.write(
        workdir / MODEL,
        steps.joined(jax.device_get(best[number][0]), task.frozen),
        material=task.material,
        labels=corpus.labels,
        options=options,
        card=export.Card(
            corpus=corpus.name,
            seed=options.all_seeds[number],
            dev_weighted_f1=best[number][1] if options.choose == "best" else None,
        ),
    )
    _log.info(f"seed {options.all_seeds[number]} is exported to {workdir / MODEL}")
    said = {}
    for split in ("dev", "test"):
        if split in task.material.splits and (task.material.splits[split].label != UNLABELLED).any():
            said[split] = _scored(task, split, [trained for trained, _ in best])
    temperatures = (1.0,) * options.seeds
    if "dev" in said:
        temperatures = calibration_on(said["dev"].probs, said["dev"].labels).seeds
    for split, found in said.items():
        probs, apart = calibrated(found, temperatures, on_dev=split == "dev")
        _write_scores(options, corpus, run.evaluation(split, vote=False), found, temperatures, probs, apart)
    return said


def _task(options: TuneOptions, corpus: Corpus) -> Task:
    """Reads the encoder and what it reads of the corpus; `fit` says what is raised."""
    needed = ("train", "dev") if options.choose == "best" else ("train",)
    for split in needed:
        if not any(u.label for d in corpus.splits.get(split, ()) for u in d.utterances):
            raise UserError(
                f"{corpus.name} has no labelled utterance in a {split} split; fine-tuning needs train, and dev to "
                "choose the epoch on (without dev, keep the last epoch with --config.choose=last)"
            )
    made = material(options, corpus)
    train = made.splits["train"]
    if options.sentiment and not (train.sentiment != UNLABELLED).any():
        raise UserError(
            "config.sentiment asks for a sentiment head, but no utterance of the train split has a sentiment; leave it "
            "out"
        )
    counts = np.bincount(train.label[train.label != UNLABELLED], minlength=len(corpus.labels))
    return Task(
        options=options,
        corpus=corpus,
        material=made,
        published=made.encoder.params(made.layer),
        weights=loss_weights(counts, scheme=options.class_weights),
    )


def _merged(fresh: Any, begun: Any) -> Any:
    """Returns a classifier's variables: those that `begun` has, and the fresh heads and adapters that it lacks."""
    return fresh | begun | {"params": fresh["params"] | begun["params"]}


def _fit_seed(task: Task, seed: int, folder: Path) -> tuple[Flat, float]:
    """Trains one seed, and returns its kept parameters, and the dev weighted F1 by which they were chosen."""
    options, run = task.options, RunDirectory(folder)
    trained, _ = steps.parted(_merged(task.fresh(seed), task.begun), options)
    updates = [task.material.updates(np.random.default_rng((seed, epoch))) for epoch in range(options.epochs)]
    optimizer = steps.make_optimizer(options, trained, layers=task.material.layer, steps=sum(updates))
    step = steps.make_step(task.material.model, optimizer, options, class_weights=task.weights)
    state, progress = steps.init_state(trained, optimizer, options), Progress.start(seeds=1, keep=1)
    best = jax.tree.map(jnp.copy, state.trained)

    folder.mkdir(parents=True, exist_ok=True)
    last = latest_epoch(run.checkpoints)
    remove_damaged(run.checkpoints, after=last)
    checkpoints = Checkpoints(run.checkpoints)
    saved: dict[str, Any] = {}
    if last:
        state, kept, saved = checkpoints.restore(last, state=state, best={"params": best})
        best, progress = kept["params"], Progress.from_json(saved)
    sha256 = saved.get(LOG_SHA256, "")
    log = Log(run, after=progress.epoch, epochs=options.epochs, sha256=sha256, options=options)
    size = sum(x.size for x in trained.values())
    _log.info(
        f"seed {seed}: {size:,} trained parameters, {sum(updates)} updates"
        + (f", going on after epoch {last}" if last else "")
    )
    while progress.epoch < options.epochs:
        epoch, start = progress.epoch + 1, time.perf_counter()
        losses = []
        batches = task.material.batches("train", rng=np.random.default_rng((seed, epoch - 1)))
        for batch in cli.progress_bar(
            batches, total=updates[epoch - 1], desc=f"epoch {epoch}/{options.epochs}", unit=" updates"
        ):
            state, loss = step(state, task.frozen, batch, jnp.int32(seed))
            losses.append(loss)
        if options.average == "epochs":
            state = steps.average_epoch(state)
        scored = steps.scored(state, options)
        loss, dev = np.mean(jax.device_get(losses)), []
        finite = np.isfinite(loss)
        if "dev" in task.material.splits:
            _, logits = _encoded(task, "dev", scored, task.frozen)
            finite &= np.isfinite(logits).all()
            labels = task.material.splits["dev"].label[:-1]
            dev = [metrics.classification_report(labels, logits.argmax(-1), logits.shape[-1])]
        if not finite:
            raise DivergedError(
                f"{folder}: training diverged in epoch {epoch}: the loss or the dev logits are infinite or NaN; give a "
                f"lower --config.lr (now {options.lr:g}) and another --workdir"
            )
        by_dev = options.choose == "best"
        rank = np.array([dev[0]["weighted_f1"] if by_dev else float(epoch)])
        chosen, progress = progress.after_epoch(rank, patience=options.epochs)
        if chosen.any():
            best = jax.tree.map(jnp.copy, scored)
        log.write(
            epoch,
            seeds=[seed],
            figures={"train_loss": np.array([loss])},
            dev=dev,
            seconds=time.perf_counter() - start,
        )
        if checkpoints.due() or epoch == options.epochs:
            done = progress.to_json() | {LOG_SHA256: log.sha256}
            checkpoints.save(epoch, state=state, best={"params": best}, progress=done)
        best_score = np.max(progress.best_score, axis=1) if by_dev else None
        log.show(epoch, loss=float(loss), dev=dev, best=best_score, seconds=time.perf_counter() - start)
    log.close()
    return best, progress.best_score[0][0]


def _encoded(task: Task, split: str, trained: Flat, frozen: Flat) -> tuple[np.ndarray, np.ndarray]:
    """Returns the vector and the logits of every utterance of a split, `[N, D]` and `[N, C]`.

    Both are zeros for an utterance that the encoder is given nothing of.
    """
    count = len(task.material.splits[split]) + 1
    vectors = np.zeros((count, task.material.encoder.dim), np.float32)
    logits = np.zeros((count, len(task.corpus.labels)), np.float32)
    for batch in task.material.batches(split):
        found = steps.scores(task.material.model, trained, frozen, batch)
        vectors[batch.utterance], logits[batch.utterance] = found.vectors, found.logits
    return vectors[:-1], logits[:-1]


def _scored(task: Task, split: str, each: Sequence[Flat]) -> Scored:
    """Returns what every seed says of a split."""
    utterances = [(d, u) for d in task.corpus.splits[split] for u in d.utterances]
    rows = [
        ScoredRow(dialogue.id, u.id, u.speaker, u.text, int(label))
        for (dialogue, u), label in zip(utterances, task.material.splits[split].label[:-1], strict=True)
    ]
    logits = np.stack([_encoded(task, split, trained, task.frozen)[1] for trained in each])
    return Scored(rows, np.asarray(jax.nn.softmax(logits)))


def _write_scores(
    options: TuneOptions,
    corpus: Corpus,
    folder: Path,
    said: Scored,
    temperatures: Sequence[float],
    probs: Float[np.ndarray, "S N C"],
    apart: Float[np.ndarray, "S N C"],
) -> None:
    """Writes the files of an evaluation; `probs` and `apart` are what `calibrated` returns."""
    split = f"{options.folds} folds by {options.cv}" if folder.name == "cv" else folder.name
    write_scores(
        folder,
        said.rows,
        probs,
        labels=corpus.labels,
        title=f"{split}, seed {options.seed}",
        about={
            "dataset": corpus.name,
            "split": split,
            "seeds": list(options.all_seeds),
            "members": [],
            **calibration_errors(said, apart, temperatures),
        },
        calibration=calibration_shown(said, apart),
    )
