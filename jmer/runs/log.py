"""The log of a run: one epoch's figures on the screen, in metrics.jsonl and as TensorBoard events."""

import importlib
import json
import logging
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter

from jmer.base import files
from jmer.base.errors import UserError
from jmer.base.options import to_config
from jmer.pages.report import Curve
from jmer.runs.directory import RunDirectory
from jmer.training import metrics

_log = logging.getLogger(__name__)

LOG_SHA256 = "log_sha256"  # the entry of a checkpoint's progress that holds the hash of metrics.jsonl


class Log:
    """Writes the figures of each epoch; only the main process makes one."""

    def __init__(self, run: RunDirectory, *, after: int, epochs: int, sha256: str = "", options: Any = None):
        """Opens the log of a run that goes on after epoch `after`, and has `epochs` at the most.

        An interrupted call may have logged later epochs. Their lines are dropped, because those epochs come again.

        Args:
          sha256: the hash of metrics.jsonl after that epoch, where it is known. A file that has another one is kept as
            it is, with a warning.
          options: those of the run, which name a tracker and are told to it; None for no tracker.

        Raises:
          UserError: there is no such tracker.
        """
        self._epochs, self._seconds = epochs, []
        self._file = run.metrics
        text = self._file.read_bytes().decode(errors="surrogateescape") if self._file.is_file() else ""
        whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n") and _epoch_of(line) <= after]
        files.save_text(self._file, "".join(whole))
        if sha256 and self.sha256 != sha256:
            _log.warning(f"{self._file} was damaged or changed since epoch {after} was saved; it is kept as it is")
        self._board = SummaryWriter(str(run.tensorboard), purge_step=after + 1)
        self._tracker = _tracked(run, options) if options is not None and options.tracker else None

    @property
    def sha256(self) -> str:
        """The hash of metrics.jsonl."""
        return files.sha256(self._file)

    def write(
        self,
        epoch: int,
        *,
        seeds: Sequence[int],
        figures: Mapping[str, np.ndarray],
        dev: Sequence[Mapping[str, Any]],
        seconds: float,
    ) -> None:
        """Writes one line a seed to metrics.jsonl, and the same figures to TensorBoard.

        Args:
          figures: `[S]` by name, among them `train_loss`.
          dev: the scores of each seed, of `metrics.scores`; empty where there is no dev split.
          seconds: how long the epoch took, without its checkpoint.
        """
        told: dict[str, float] = {}
        with self._file.open("a", encoding="utf-8") as file:
            for i, seed in enumerate(seeds):
                each = {f"dev_{name}": dev[i][name] for name in metrics.SCORES} if dev else {}
                each |= {name: float(values[i]) for name, values in figures.items()}
                file.write(json.dumps({"epoch": epoch, "seed": seed, **each, "seconds": round(seconds, 3)}) + "\n")
                for name, value in each.items():
                    self._board.add_scalar(f"seed_{seed}/{name}", value, epoch)
                told |= {f"seed_{seed}/{name}": value for name, value in each.items()}
        self._board.flush()
        if self._tracker is not None:
            self._tracker.log(told, step=epoch)

    def show(
        self, epoch: int, *, loss: float, dev: Sequence[Mapping[str, Any]], best: np.ndarray | None, seconds: float
    ) -> None:
        """Says the line of an epoch.

        Args:
          dev: as in `write`.
          best: `[S]`, the best dev weighted F1 of each seed so far; None where it does not choose the epoch.
          seconds: how long the epoch took, its checkpoint included.
        """
        self._seconds.append(seconds)
        shown = [f"epoch {epoch:{len(str(self._epochs))}d}/{self._epochs}", f"loss {loss:.4f}"]
        for name, title in (("weighted_f1", "dev weighted F1"), ("macro_f1", "macro-F1")) if dev else ():
            shown.append(f"{title} {np.mean([scores[name] for scores in dev]):.4f}")
        shown += [] if best is None else [f"best {best.mean():.4f}"]
        shown.append(f"{seconds:.2f} s")
        if len(self._seconds) > 1 and epoch < self._epochs:  # the first epoch compiles
            shown.append(f"{statistics.median(self._seconds[1:]) * (self._epochs - epoch):.0f} s left at most")
        _log.info("  ".join(shown))

    def close(self) -> None:
        self._board.close()
        if self._tracker is not None:
            self._tracker.finish()


def _tracked(run: RunDirectory, options: Any) -> Any:
    """Begins the run at its tracker, by `init` of wandb's interface; the result has `log` and `finish`."""
    try:
        module = importlib.import_module(options.tracker)
    except ModuleNotFoundError as error:
        raise UserError(
            f"config.tracker: there is no Python module '{options.tracker}'; install it, or leave config.tracker out"
        ) from error
    settings = json.loads(to_config(options).to_json())
    return module.init(project="jmer", name=run.path.name, config=settings, resume="allow")


def curves(file: Path) -> dict[str, list[Curve]]:
    """Returns the learning curves of a metrics.jsonl as the means over the seeds; nothing where there is no file."""
    rows: dict[int, list[dict[str, Any]]] = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else ():
        if epoch := _epoch_of(line):
            rows.setdefault(epoch, []).append(json.loads(line))

    def curve(key: str, name: str) -> list[Curve]:
        values = [[row[key] for row in of if key in row] for of in rows.values()]
        return [Curve(name=name, values=[statistics.fmean(each) for each in values])] if all(values) and values else []

    found = {
        "loss": curve("train_loss", "train"),
        "score on dev": curve("dev_weighted_f1", "weighted F1") + curve("dev_macro_f1", "macro-F1"),
    }
    return {name: each for name, each in found.items() if each}


def _epoch_of(line: str) -> int:
    """Returns the epoch of a line of metrics.jsonl; 0 where the line is damaged."""
    try:
        return int(json.loads(line)["epoch"])
    except (ValueError, KeyError, TypeError):
        return 0


def describe_classes(
    run: RunDirectory,
    labels: Sequence[str],
    *,
    counts: np.ndarray,
    weights: Sequence[float] | None,
    shares: np.ndarray,
) -> None:
    """Prints how often each class occurs, how often it is drawn and what it weighs in the loss; saves the same table.

    Args:
      counts: `[C]`, utterances of each class in the train split.
      weights: C class weights; None where every class weighs 1.
      shares: `[C]`, the expected share of each class among the utterances that an epoch draws.
    """
    table = {
        label: {"utterances": int(n), "share": n / counts.sum(), "drawn_share": share, "weight": weight}
        for label, n, share, weight in zip(labels, counts, shares, weights or [1.0] * len(labels), strict=True)
    }
    files.save_json(run.classes, table)
    print(f"{'class':12}{'utterances':>12}{'share':>8}{'drawn':>8}{'weight':>8}")
    for label, row in table.items():
        print(f"{label:12}{row['utterances']:12}{row['share']:8.3f}{row['drawn_share']:8.3f}{row['weight']:8.3f}")
