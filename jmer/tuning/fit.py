"""Fine-tuning into a run directory, seed after seed, from where an earlier call stopped.

runs/x/                what `RunDirectory` describes: config.json, features.json, environment.json, eval/
runs/x/seeds/N/        metrics.jsonl, tensorboard/ and checkpoints/ of the seed N
runs/x/model/          the best seed, as `jmer.extract` reads it
"""

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jmer.base import cli
from jmer.base.errors import UserError
from jmer.base.types import UNLABELLED, Corpus
from jmer.dataset.build import load_source
from jmer.encoders.bert import Bert
from jmer.encoders.text import TextEncoder
from jmer.runs.directory import RunDirectory
from jmer.runs.log import Log
from jmer.runs.progress import Progress
from jmer.runs.report import ScoredRow, write_scores
from jmer.training import metrics, sampling
from jmer.training.checkpoint import Checkpoints, latest_epoch, remove_cut_off
from jmer.tuning import export, steps
from jmer.tuning.classifier import ENCODER, Classifier
from jmer.tuning.inputs import TuneInputs, fingerprint
from jmer.tuning.options import TuneOptions
from jmer.tuning.rows import Shape, TokenSplit, batches, shape_of, token_split
from jmer.tuning.steps import Flat

MODEL = "model"  # the folder of the run that `jmer.extract` reads


@dataclass(frozen=True, kw_only=True)
class Task:
    """All that the seeds of a run share.

    splits: the passages of each split that the source has.
    published: the variables of the encoder, its adapters merged in.
    weights: of the classes in the loss; None where every class weighs 1.
    """

    options: TuneOptions
    corpus: Corpus
    encoder: TextEncoder
    model: Classifier
    splits: Mapping[str, TokenSplit]
    shape: Shape
    published: Any
    weights: tuple[float, ...] | None

    @functools.cached_property
    def frozen(self) -> Flat:
        """The parameters that no seed trains. All of them are published ones."""
        return steps.parted({"params": {ENCODER: self.published["params"]}}, self.options)[1]


def fit(options: TuneOptions, workdir: Path) -> None:
    """Fine-tunes into `workdir` until every seed is done, exports the best seed, and scores all on dev and test.

    Raises:
      UserError: the source or the encoder cannot be used, `workdir` holds another run, or training diverged.
    """
    run = RunDirectory(workdir, options_class=TuneOptions, inputs_class=TuneInputs)
    task = _task(options)
    inputs = TuneInputs(
        labels=task.corpus.labels,
        dataset_fingerprint=fingerprint(task.corpus),
        model_sha256=task.encoder.sha256,
    )
    run.claim(options, inputs, about={})
    seeds = range(options.seed, options.seed + options.seeds)
    best = [_fit_seed(task, seed, workdir / "seeds" / str(seed)) for seed in seeds]
    number = int(np.argmax([score for _, score in best]))
    export.write(
        workdir / MODEL,
        steps.joined(jax.device_get(best[number][0]), task.frozen),
        encoder=task.encoder,
        labels=task.corpus.labels,
        options=options,
        card=export.Card(corpus=task.corpus.name, seed=seeds[number], dev_weighted_f1=best[number][1]),
    )
    print(f"seed {seeds[number]}, the best on dev, is exported to {workdir / MODEL}")
    for split in ("dev", "test"):
        if split in task.splits and (task.splits[split].label != UNLABELLED).any():
            _score(task, run, split, [trained for trained, _ in best])


def _task(options: TuneOptions) -> Task:
    """Reads the corpus and the encoder; `fit` says what is raised."""
    corpus = load_source(options)
    for split in ("train", "dev"):
        if not any(u.label for d in corpus.splits.get(split, ()) for u in d.utterances):
            raise UserError(
                f"{corpus.name} has no labelled utterance in a {split} split; fine-tuning needs train, and dev to "
                "choose the epoch on"
            )
    encoder = TextEncoder(options.model)
    if options.rank and encoder.opened.adapters is not None:
        raise UserError(
            f"config.model: {options.model} holds adapters, and new ones beside them could not be read again; give "
            f"their base ({encoder.opened.folder}), or train all weights with config.rank=0"
        )
    splits = {
        name: token_split(dialogues, labels=corpus.labels, options=options, tokenizer=encoder.tokenizer)
        for name, dialogues in corpus.splits.items()
    }
    train = splits["train"]
    if options.sentiment and not (train.sentiment != UNLABELLED).any():
        raise UserError(
            "config.sentiment asks for a sentiment head, but no utterance of the train split has a sentiment; leave it "
            "out"
        )
    model = Classifier(
        encoder=Bert(config=encoder.config, running=options.running),
        classes=len(corpus.labels),
        sentiment=bool(options.sentiment),
        rate=options.dropout,
        reach=None if options.context < 0 else options.context,
        causal=options.causal,
    )
    counts = np.bincount(train.label[train.label != UNLABELLED], minlength=len(corpus.labels))
    weighted = options.class_weights != "none"
    return Task(
        options=options,
        corpus=corpus,
        encoder=encoder,
        model=model,
        splits=splits,
        shape=shape_of(
            splits.values(), width=min(options.max_tokens, encoder.tokenizer.limit), batch_tokens=options.batch_tokens
        ),
        published=encoder.params(encoder.layers),
        weights=tuple(sampling.class_weights(counts, scheme=options.class_weights).tolist()) if weighted else None,
    )


def _variables(task: Task, seed: int) -> Any:
    """Returns the variables before the first update: the published encoder, fresh heads and fresh adapters."""
    blank = next(batches(task.splits["dev"], task.shape))
    fresh: Any = jax.jit(task.model.init)(jax.random.key(seed), blank)
    return fresh | {"params": fresh["params"] | {ENCODER: task.published["params"]}}


def _fit_seed(task: Task, seed: int, folder: Path) -> tuple[Flat, float]:
    """Trains one seed, and returns its parameters after the best epoch on dev, and that epoch's weighted F1."""
    options, run = task.options, RunDirectory(folder)
    trained, _ = steps.parted(_variables(task, seed), options)
    plan = [
        list(batches(task.splits["train"], task.shape, rng=np.random.default_rng((seed, epoch))))
        for epoch in range(options.epochs)
    ]
    optimizer = steps.make_optimizer(options, trained, layers=task.encoder.layers, steps=sum(map(len, plan)))
    step = steps.make_step(task.model, optimizer, options, class_weights=task.weights)
    state, progress = steps.init_state(trained, optimizer, options), Progress.start(seeds=1, keep=1)
    best = jax.tree.map(jnp.copy, state.trained)

    folder.mkdir(parents=True, exist_ok=True)
    remove_cut_off(run.checkpoints)
    checkpoints = Checkpoints(run.checkpoints)
    if last := latest_epoch(run.checkpoints):
        state, kept, saved = checkpoints.restore(last, state=state, best={"params": best})
        best, progress = kept["params"], Progress.from_json(saved)
    log = Log(run, after=progress.epoch)
    size = sum(x.size for x in trained.values())
    print(
        f"seed {seed}: {size:,} trained parameters, {sum(map(len, plan))} updates"
        + (f", going on after epoch {last}" if last else "")
    )
    while progress.epoch < options.epochs:
        epoch, start = progress.epoch + 1, time.perf_counter()
        losses = []
        for batch in cli.progress_bar(
            plan[epoch - 1], total=len(plan[epoch - 1]), desc=f"epoch {epoch}/{options.epochs}", unit=" updates"
        ):
            state, loss = step(state, task.frozen, batch, jnp.int32(seed))
            losses.append(loss)
        if options.average == "epochs":
            state = steps.average_epoch(state)
        scored = steps.scored(state, options)
        logits = _logits(task, "dev", scored)
        loss = np.mean(jax.device_get(losses))
        if not np.isfinite(loss) or not np.isfinite(logits).all():
            raise UserError(
                f"{folder}: training diverged in epoch {epoch}: the loss or the dev logits are infinite or NaN; give a "
                f"lower --config.lr (now {options.lr:g}) and another --workdir"
            )
        dev = metrics.classification_report(task.splits["dev"].label[:-1], logits.argmax(-1), logits.shape[-1])
        chosen, progress = progress.after_epoch(np.array([dev["weighted_f1"]]), patience=options.epochs)
        if chosen.any():
            best = jax.tree.map(jnp.copy, scored)
        seconds = time.perf_counter() - start
        log.write(epoch, seeds=[seed], figures={"train_loss": np.array([loss])}, dev=[dev], progress=progress,
                  seconds=seconds)  # fmt: skip
        checkpoints.save(epoch, state=state, best={"params": best}, progress=progress.to_json())
    log.close()
    return best, progress.best_score[0][0]


def _logits(task: Task, split: str, trained: Flat) -> np.ndarray:
    """Returns the logits of every utterance of a split, `[N, C]`."""
    out = np.zeros((len(task.splits[split]) + 1, len(task.corpus.labels)), np.float32)
    for batch in batches(task.splits[split], task.shape):
        out[batch.utterance] = steps.scores(task.model, trained, task.frozen, batch).logits
    return out[:-1]


def _score(task: Task, run: RunDirectory, split: str, each: Sequence[Flat]) -> None:
    """Scores every seed on a split, and writes the files of an evaluation."""
    logits = np.stack([_logits(task, split, trained) for trained in each])
    rows = [
        ScoredRow(dialogue.id, u.id, u.speaker, u.text, int(label))
        for (dialogue, u), label in zip(
            ((d, u) for d in task.corpus.splits[split] for u in d.utterances), task.splits[split].label, strict=False
        )
    ]
    seeds = list(range(task.options.seed, task.options.seed + task.options.seeds))
    write_scores(
        run.evaluation(split, vote=False),
        rows,
        np.asarray(jax.nn.softmax(logits)),
        labels=task.corpus.labels,
        title=f"{split}, seed {seeds[0]}",
        about={"dataset": task.corpus.name, "split": split, "seeds": seeds, "members": []},
    )
