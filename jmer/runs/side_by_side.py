"""Training of several settings side by side in one program; nothing is kept of them but their scores on dev."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jmer.base.errors import UserError
from jmer.base.options import fields, replaced
from jmer.dataset import store
from jmer.runs.prepared import Prepared, looked_at, prepare, run_epoch
from jmer.runs.progress import Progress
from jmer.training import metrics, steps
from jmer.training.devices import put
from jmer.training.options import TrainOptions

_STANDS_IN = 0.5  # for the values of traced options in what is compiled; any number that all of them may have


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the S seeds of a setting have come to, each in the epoch that `choose` and `patience` would keep.

    epochs: those epochs.
    diverged: whether the numbers of any seed became infinite or NaN. The scores then say nothing.
    """

    epochs: tuple[int, ...]
    weighted_f1: tuple[float, ...]
    macro_f1: tuple[float, ...]
    diverged: bool


@dataclass(frozen=True, kw_only=True)
class _Program:
    data: Prepared
    trained: steps.Trained
    epoch: Callable[..., tuple[steps.State, jax.Array]]


class SideBySide:
    """Trains settings of one shape, which differ in traced options alone; it keeps the programs of all shapes."""

    def __init__(self, dataset: store.Dataset, *, traced: Sequence[str], width: int, folder: Path):
        """Keeps what all settings share.

        Args:
          traced: dotted names of the options that differ within a program.
          width: settings of a program. Where there are fewer, the last one stands in for those that are missing.
          folder: holds the files of streamed features.

        Raises:
          UserError: the dataset has no dev split.
        """
        if "dev" not in dataset.manifest["splits"]:
            raise UserError(f"{dataset.path} has no dev split; a sweep needs one to compare settings on")
        self._dataset, self._traced, self._width, self._folder = dataset, traced, width, folder
        self._prepared: dict[tuple[Any, ...], Prepared] = {}
        self._programs: dict[TrainOptions, _Program] = {}

    def shape(self, options: TrainOptions) -> TrainOptions:
        """Returns what all settings have in common that share a program with these options."""
        return replaced(options, dict.fromkeys(self._traced, _STANDS_IN))

    def train(self, settings: Sequence[TrainOptions]) -> list[Outcome]:
        """Trains up to `width` settings of one shape from their first epoch to their last; returns an outcome of each.

        Raises:
          UserError: the dataset is unfit for the options.
        """
        shape = self.shape(settings[0])
        if len(settings) > self._width or any(self.shape(each) != shape for each in settings):
            raise ValueError(f"{len(settings)} settings, of more than one shape or more than {self._width}")
        program, count = self._program(shape), len(shape.all_seeds)
        rows = [*settings, *[settings[-1]] * (self._width - len(settings))]
        seeds = shape.all_seeds * len(rows)
        placement, (model, optimizer, _) = program.data.placement, program.trained
        given = [{name: value for name, value, _ in fields(row)} for row in rows]
        own = {name: np.repeat(np.array([each[name] for each in given], np.float32), count) for name in self._traced}
        values = put(own, placement.state)
        state = put(steps.init_state(model, optimizer, seeds=seeds), placement.state)

        def train_epoch(state: steps.State, *rest: Any) -> tuple[steps.State, jax.Array]:
            return program.epoch(state, values, *rest)

        progress, sound = Progress.start(seeds=len(seeds), keep=1), np.ones(len(seeds), np.bool_)
        best = np.zeros((len(seeds), 2))
        while sound.any() and not progress.finished(epochs=shape.epochs, patience=shape.patience):
            number = progress.epoch + 1
            state, found = run_epoch(program.data, train_epoch, model, state, number=number, seeds=seeds)
            assert found.confusion is not None  # there is a dev split
            each = [metrics.scores(x) for x in found.confusion]
            scores = np.array([(x["weighted_f1"], x["macro_f1"]) for x in each])
            sound &= found.finite
            rank = np.where(sound, scores[:, 0] if shape.choose == "best" else number, -1.0)
            chosen, progress = progress.after_epoch(rank, patience=shape.patience)
            best = np.where(chosen, scores, best)
        outcomes = []
        for i in range(len(settings)):
            part = slice(i * count, (i + 1) * count)
            outcomes.append(
                Outcome(
                    epochs=tuple(epoch for (epoch,) in progress.best_epoch[part]),
                    weighted_f1=tuple(best[part, 0].tolist()),
                    macro_f1=tuple(best[part, 1].tolist()),
                    diverged=not sound[part].all(),
                )
            )
        return outcomes

    def _program(self, shape: TrainOptions) -> _Program:
        if shape not in self._programs:
            data = self._data(shape)
            trained = data.trained(shape)
            epoch = steps.make_sweep_epoch(lambda values: data.trained(replaced(shape, values)), data.placement)
            self._programs[shape] = _Program(data=data, trained=trained, epoch=epoch)
        return self._programs[shape]

    def _data(self, shape: TrainOptions) -> Prepared:
        """Returns the dataset, ready for a shape; shapes that read it in the same way share it."""
        if (key := looked_at(shape)) not in self._prepared:
            rows = self._width * shape.seeds
            self._prepared[key] = prepare(shape, self._dataset, seeds=rows, folder=self._folder)
        return self._prepared[key]
