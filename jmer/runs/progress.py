"""How far a run is, and which epochs of each seed it keeps."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from jmer.base import forms
from jmer.base.errors import UserError
from jmer.base.forms import at_least

_FORM = {
    "epoch": at_least(0),
    "improved_epoch": [at_least(0)],
    "best_epoch": [[at_least(0)]],
    "best_score": [[float]],
}


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The progress of S seeds, each of which keeps the parameters of K epochs.

    The K slots of a seed are in no order. A slot that no epoch has filled yet has epoch 0 and score -1.

    epoch: epochs that are done.
    improved_epoch: `[S]`, the epoch in which each seed last beat all of its earlier epochs.
    best_epoch: `[S, K]`, the epoch in each slot.
    best_score: `[S, K]`, the score of that epoch: the dev weighted F1, or where the last epochs are kept, the number of
      the epoch.
    """

    epoch: int
    improved_epoch: tuple[int, ...]
    best_epoch: tuple[tuple[int, ...], ...]
    best_score: tuple[tuple[float, ...], ...]

    @classmethod
    def start(cls, *, seeds: int, keep: int) -> "Progress":
        """Returns the progress before the first epoch of so many seeds, each of which keeps so many epochs."""
        return cls(
            epoch=0,
            improved_epoch=(0,) * seeds,
            best_epoch=((0,) * keep,) * seeds,
            best_score=((-1.0,) * keep,) * seeds,
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Progress":
        """Returns the progress that a checkpoint holds.

        Raises:
          UserError: it has another form.
        """
        if fault := forms.fault(value, _FORM):
            raise UserError(f"its progress is damaged: {fault}")
        return cls(
            epoch=value["epoch"],
            improved_epoch=tuple(value["improved_epoch"]),
            best_epoch=tuple(map(tuple, value["best_epoch"])),
            best_score=tuple(map(tuple, value["best_score"])),
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the progress as JSON values."""
        return asdict(self)

    def finished(self, *, epochs: int, patience: int) -> bool:
        """Whether all epochs are done, or no seed has improved for `patience` epochs."""
        return self.epoch >= epochs or self.epoch - max(self.improved_epoch) >= patience

    def why_finished(self, *, epochs: int, patience: int) -> str:
        """Returns why training has ended, as a sentence for the screen."""
        if self.epoch >= epochs:
            return f"all {epochs} epochs are done"
        return (
            f"stopped after epoch {self.epoch}: dev weighted F1 has not risen for {patience} epochs, the last time in "
            f"epoch {max(self.improved_epoch)} (config.patience={patience})"
        )

    def after_epoch(self, scores: np.ndarray, *, patience: int) -> tuple[np.ndarray, "Progress"]:
        """Returns the slots that the next epoch takes, `[S, K]` bool with at most one slot a seed, and the progress
        after it.

        The epoch takes the slot of the lowest score, and of the earliest epoch among equal scores, unless the epoch
        itself scores lower. A seed improves only when the epoch beats every slot. A seed whose patience has run out
        keeps its slots, however long the other seeds go on.

        Args:
          scores: `[S]`, of the epoch, as in `best_score`.
        """
        epoch, score, kept = self.epoch + 1, np.array(self.best_score), np.array(self.best_epoch)
        patient = epoch - np.array(self.improved_epoch) <= patience
        improved = patient & (scores > score.max(axis=1))
        worst = np.array([np.lexsort(pair)[0] for pair in zip(kept, score, strict=True)])
        better = patient & (scores >= score.min(axis=1))
        chosen = (np.arange(score.shape[1]) == worst[:, None]) & better[:, None]
        return chosen, Progress.from_json(
            {
                "epoch": epoch,
                "improved_epoch": np.where(improved, epoch, self.improved_epoch).tolist(),
                "best_epoch": np.where(chosen, epoch, kept).tolist(),
                "best_score": np.where(chosen, scores[:, None], score).tolist(),
            }
        )
