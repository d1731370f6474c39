"""A dataset, ready to be trained on: its splits on the way to the devices, the plan of its batches, one epoch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from jmer.base.errors import UserError
from jmer.base.options import fields
from jmer.base.types import UNLABELLED, FlatSplit
from jmer.dataset import store
from jmer.dataset.flat import dialogue_lengths, head
from jmer.dataset.plan import Plan, evaluation_plan
from jmer.nn.model import Model
from jmer.runs.inputs import Inputs, inputs_of, model_of
from jmer.training import sampling, steps
from jmer.training.devices import Placement, put
from jmer.training.feed import Feed, load_flat
from jmer.training.objective import Objective
from jmer.training.optim import make_optimizer
from jmer.training.options import DataOptions, SamplerOptions, TrainOptions


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the epochs of a training need besides the state.

    inputs: what the model reads of the dataset.
    placement: where arrays lie.
    train, dev: the splits, `train` with its augmented views; `dev` is empty where there is no dev split.
    plan, dev_plan: the batches of an epoch, and those of the dev split.
    stats: the statistics of the train split, on the devices.
    counts: `[dialogues, C]`, the utterances of each class.
    dev_labels: labelled utterances of the dev split.
    has_dev: whether there is a dev split.
    streamed: whether features are streamed.
    with_frames: the modalities of which the train split has sequences.
    sentiments: whether the train split has any sentiment.
    """

    inputs: Inputs
    placement: Placement
    train: Feed
    dev: Feed
    plan: Plan
    dev_plan: list[np.ndarray]
    stats: steps.Tree
    counts: np.ndarray
    dev_labels: int
    has_dev: bool
    streamed: bool
    with_frames: tuple[str, ...]
    sentiments: bool

    def trained(self, options: TrainOptions) -> steps.Trained:
        """Returns the model, the optimizer and the objective that the options describe.

        The options may hold traced values. They agree with those that the data were prepared for in all that
        `looked_at` returns.

        Raises:
          UserError: the options ask for what the data cannot give.
        """
        options.check_fit(
            modalities=list(self.inputs.modalities),
            sequences=self.with_frames,
            labels=self.inputs.labels,
            sentiments=self.sentiments,
        )
        model = model_of(options, self.inputs)
        counts = tuple(self.counts.sum(axis=0).tolist())
        objective = Objective(options=options, counts=counts, specialist=model.specialist_classes)
        return steps.Trained(model, make_optimizer(options, steps_per_epoch=self.plan.steps), objective)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one epoch of S seeds leaves.

    loss: the mean over the updates.
    finite: whether the loss, the parameters and the dev logits of each seed are.
    confusion: of the dev split; None where there is none.
    graph_weight: the trained lambda of each seed; None where it is not trained.
    """

    loss: Float[np.ndarray, " S"]
    finite: Bool[np.ndarray, " S"]
    confusion: Int[np.ndarray, "S C C"] | None
    graph_weight: Float[np.ndarray, " S"] | None


def looked_at(options: TrainOptions) -> tuple[Any, ...]:
    """Returns the values of the options that `prepare` looks at."""
    parts = [name for part in (DataOptions, SamplerOptions) for name, *_ in fields(part())]
    return tuple(getattr(options, name) for name in (*parts, "sequences", "choose"))


def prepare(options: TrainOptions, dataset: store.Dataset, *, seeds: int, folder: Path) -> Prepared:
    """Returns the dataset, ready for so many seeds that train side by side.

    Args:
      folder: holds the files of streamed features, which vanish with the process.

    Raises:
      UserError: the dataset is unfit for the options.
      StorageError: the disk of `folder` is full.
    """
    _check_splits(dataset, dev=options.choose == "best")
    has_dev = "dev" in dataset.manifest["splits"]
    inputs = inputs_of(dataset, modalities=options.modalities, sequences=options.sequences)
    placement = Placement(seeds=seeds, devices=options.devices)
    (flat, dev_flat), streamed = load_flat(
        dataset,
        (("train", *dataset.views), ("dev",) if has_dev else ()),
        dims=inputs.dims,
        sequence_dims=inputs.sequence_dims,
        dtype=options.data_dtype,
        mode=options.data_mode,
        folder=folder,
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
    return Prepared(
        inputs=inputs,
        placement=placement,
        train=Feed(flat, placement, streamed=streamed),
        dev=Feed(dev_flat, placement, streamed=streamed),
        plan=plan,
        dev_plan=evaluation_plan(dialogue_lengths(dev_flat)),
        stats=put(steps.feature_stats(train_flat), placement.everywhere),
        counts=counts,
        dev_labels=int((dev_flat.label != UNLABELLED).sum()),
        has_dev=has_dev,
        streamed=streamed,
        with_frames=tuple(m for m, mask in train_flat.frame_mask.items() if mask.any()),
        sentiments=bool((train_flat.sentiment != UNLABELLED).any()),
    )


def run_epoch(
    data: Prepared,
    train_epoch: Callable[..., tuple[steps.State, jax.Array]],
    model: Model,
    state: steps.State,
    *,
    number: int,
    seeds: Sequence[int],
) -> tuple[steps.State, Figures]:
    """Trains one epoch and evaluates dev after it, with one transfer from the devices.

    Args:
      train_epoch: of `steps.make_train_epoch`.
      number: of the epoch, from 1.
      seeds: the S seeds, which decide on the order of the dialogues.
    """
    losses, updates, confusions = [], [], []
    with jax.transfer_guard("disallow"):
        for utterances, index in data.train.pieces(data.plan.epoch(number, seeds=seeds)):
            state, loss = train_epoch(state, data.stats, utterances, index)
            losses.append(loss)
            updates.append(len(index))
        for utterances, index in data.dev.pieces(data.dev_plan):
            confusions.append(steps.confusion(model, state.params, data.stats, utterances, index))
        figures = (
            losses,
            confusions,
            steps.all_finite((state.params, state.opt_state)),
            state.params.get("graph_weight"),
        )
        losses, confusions, finite, graph_weight = data.placement.fetch(figures)  # the one transfer back
    loss, confusion = np.average(losses, axis=0, weights=updates), None
    finite = finite & np.isfinite(loss)
    if data.has_dev:
        confusion = np.sum(confusions, axis=0)
        finite = finite & (confusion.sum(axis=(1, 2)) == data.dev_labels)
    return state, Figures(loss=loss, finite=finite, confusion=confusion, graph_weight=graph_weight)


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
