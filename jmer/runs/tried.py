"""The settings that a sweep has tried: as a table, as the config of the best one, and on the screen."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmer.base import files
from jmer.base.options import fields
from jmer.corpora import csvfile
from jmer.runs.report import spread
from jmer.runs.side_by_side import Outcome
from jmer.training.options import TrainOptions

TABLE, BEST = "trials.csv", "best.py"
_SHOWN = 5  # settings on the screen


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A setting that was tried.

    values: dotted name of an option -> its value.
    outcome: None where the setting failed, and `fault` says why.
    """

    number: int
    values: Mapping[str, Any]
    outcome: Outcome | None = None
    fault: str = ""

    @property
    def score(self) -> float:
        """The mean weighted F1 on dev over the seeds; -1 where the setting failed."""
        return spread(self.outcome.weighted_f1)["mean"] if self.outcome else -1.0


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Returns the trials that have scores, the best first; of equal ones, the earlier first."""
    return sorted((trial for trial in trials if trial.outcome), key=lambda trial: (-trial.score, trial.number))


def write_table(trials: Sequence[Trial], folder: Path) -> None:
    """Writes one row a trial. No text becomes a formula."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = list(trials[0].values) if trials else []
    writer.writerow(["trial", *names, "dev_weighted_f1", "deviation", "dev_macro_f1", "epochs", "fault"])
    for trial in trials:
        found = [""] * 4
        if trial.outcome:
            f1, macro = spread(trial.outcome.weighted_f1), spread(trial.outcome.macro_f1)
            found = [f"{f1['mean']:.6f}", f"{f1['std']:.6f}", f"{macro['mean']:.6f}"]
            found.append(" ".join(map(str, trial.outcome.epochs)))
        values = [csvfile.harmless(value) if isinstance(value, str) else str(value) for value in trial.values.values()]
        writer.writerow([trial.number, *values, *found, csvfile.harmless(trial.fault)])
    files.save_text(folder / TABLE, stream.getvalue())


def write_best(trials: Sequence[Trial], setting: TrainOptions, folder: Path) -> None:
    """Writes the config of a setting, the best one, with every option that is not its default."""
    defaults = {name: value for name, value, _ in fields(TrainOptions())}
    changed = {name: value for name, value, _ in fields(setting) if value != defaults[name]}
    (best, *_), tried = ranked(trials), len(trials)
    lines = [
        f'"""The best of {tried} settings that jmer.sweep tried: dev weighted F1 {best.score:.4f}.',
        "",
        "They were compared on the dev split, so that this score is optimistic.",
        "",
        f"    python -m jmer.train --config {folder / BEST} --workdir={folder / 'best'}",
        '"""',
        "",
        "from jmer.config import Config, base",
        "",
        "",
        "def get_config() -> Config:",
        "    config = base()",
        *(f"    config.{name} = {value!r}" for name, value in changed.items()),
        "    return config",
    ]
    files.save_text(folder / BEST, "\n".join(lines) + "\n")


def summary(trials: Sequence[Trial], folder: Path) -> str:
    """Returns the best settings as a text table, and what to do with them."""
    best = ranked(trials)[:_SHOWN]
    names = list(best[0].values)
    rows = [["weighted F1", "macro-F1", *names]]
    for trial in best:
        assert trial.outcome is not None  # it is ranked
        f1, macro = spread(trial.outcome.weighted_f1), spread(trial.outcome.macro_f1)
        deviation = f" +- {f1['std']:.4f}" if len(trial.outcome.epochs) > 1 else ""
        rows.append([f"{f1['mean']:.4f}{deviation}", f"{macro['mean']:.4f}", *map(str, trial.values.values())])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    failed = sum(not trial.outcome for trial in trials)
    return "\n".join([
        f"the best of {len(trials)} settings on dev{f', of which {failed} failed' if failed else ''}:",
        *lines,
        f"all of them: {folder / TABLE}",
        "these scores are optimistic, because the settings were compared on dev; train the best and score it on test:",
        f"  python -m jmer.train --config {folder / BEST} --workdir={folder / 'best'}",
    ])  # fmt: skip
