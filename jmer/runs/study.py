"""A sweep: Optuna draws settings from a space, they are trained side by side, and a study keeps what they scored.

The directory of a sweep holds

    study.db     the study, an SQLite database of Optuna, with which an interrupted sweep goes on
    trials.csv   a row for each setting that was tried
    best.py      a config of the best setting, for jmer.train
"""

import itertools
import json
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.samplers import PartialFixedSampler, TPESampler
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from jmer.base import locks
from jmer.base.errors import StorageError, UserError
from jmer.base.options import check, fields, replaced
from jmer.dataset import store
from jmer.runs.report import spread
from jmer.runs.side_by_side import Outcome, SideBySide
from jmer.runs.space import Choice, Range, Space, traced
from jmer.runs.tried import Trial, ranked, summary, write_best, write_table
from jmer.training.options import TrainOptions

_log = logging.getLogger(__name__)

_DATABASE, _LOCK = "study.db", ".lock"
_NAME = "sweep"  # of the study in its database
_SCORES = ("epochs", "weighted_f1", "macro_f1")  # attributes of a trial that was scored
_FAULT = "fault"  # the attribute of a trial that says why it failed


def sweep(
    options: TrainOptions, dataset: store.Dataset, space: Space, *, trials: int, width: int, workdir: Path
) -> None:
    """Tries settings until there are `trials` in `workdir`, those of earlier calls among them, and shows the best.

    A space of values alone that has at most `trials` settings is tried whole. Otherwise the tree-structured Parzen
    estimator draws them (Bergstra et al. 2011), which learns from the settings before.

    Args:
      options: those that all settings share; `options.seed` is also the seed of the drawing.
      width: settings that are trained side by side.

    Raises:
      UserError: the dataset is unfit, another process works in `workdir`, it holds another sweep, or no setting could
        be trained.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    refusal = f"another process works in {workdir}; wait until it ends, or give another --workdir"
    with locks.held(workdir / _LOCK, refusal=refusal), _opened(workdir, seed=options.seed) as study:
        _claim(study, options, dataset, space, workdir)
        beside = SideBySide(dataset, traced=traced(space), width=width, folder=workdir)
        trials = _enqueue(study, space, trials=trials)
        found = _tried(study, space)
        while len(found) < trials:
            asked = _asked(study, space, count=min(width, trials - len(found)))
            _train(study, asked, options, space, beside)
            before, found = {trial.number for trial in found}, _tried(study, space)
            new = [trial for trial in found if trial.number not in before]
            for place, trial in enumerate(new, len(before) + 1):
                _say(trial, found, f"{place}/{trials}")
            _write(found, options, workdir)
        if not ranked(found):
            raise UserError(f"none of {len(found)} settings could be trained, the last because {found[-1].fault}")
        print(summary(found, workdir))


@contextmanager
def _opened(workdir: Path, *, seed: int) -> Iterator[optuna.Study]:
    """Opens the study of a directory; there is a new one where there was none.

    Raises:
      UserError: its database is damaged.
      StorageError: the disk is full, or the database may not be written to.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    file = workdir / _DATABASE
    with ExitStack() as held:
        try:
            storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
            held.callback(storage.engine.dispose)
            held.callback(storage.remove_session)
            study = optuna.create_study(storage=storage, study_name=_NAME, direction="maximize", load_if_exists=True)
            held.enter_context(warnings.catch_warnings(category=ExperimentalWarning, action="ignore"))
            study.sampler = TPESampler(seed=seed + len(study.trials), multivariate=True)
            yield study
        except (SQLAlchemyError, StorageInternalError) as error:
            fault = " ".join(str(error.__cause__ or error).split())
            if "disk is full" in fault or "readonly" in fault:
                raise StorageError(
                    f"{file}: {fault}; free space or change permissions, and run the command again"
                ) from error
            raise UserError(f"{file} is damaged ({fault}); remove {workdir}, or give another --workdir") from error


def _claim(study: optuna.Study, options: TrainOptions, dataset: store.Dataset, space: Space, workdir: Path) -> None:
    """Writes down what the sweep is of, or checks that it is what an earlier call began."""
    asked = {
        **{
            f"config.{name}": value for name, value, field in fields(options) if not field.neutral and name not in space
        },
        **{f"--search {name}": str(drawn) for name, drawn in space.items()},
        "the dataset's fingerprint": dataset.fingerprint,
    }
    asked = json.loads(json.dumps(asked))
    was = study.user_attrs.get("settings", asked)
    changed = [f"{k} was {was.get(k)}, is {asked.get(k)}" for k in was | asked if was.get(k) != asked.get(k)]
    if changed:
        raise UserError(
            f"{workdir} holds another sweep: {'; '.join(changed)}; give another --workdir, or remove {workdir}"
        )
    study.set_user_attr("settings", asked)


def _enqueue(study: optuna.Study, space: Space, *, trials: int) -> int:
    """Puts the settings in the queue that are known before: those of an interrupted call, and a small space whole.

    Returns:
      How many settings to try: `trials`, or as many as a small space has.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    choices = {name: drawn.values for name, drawn in space.items() if isinstance(drawn, Choice)}
    count = math.prod(map(len, choices.values()))
    if len(choices) < len(space) or count > trials:
        return trials
    names = sorted(space, key=lambda name: name in traced(space))  # those that share no program change least often
    for values in itertools.product(*(choices[name] for name in names)):
        study.enqueue_trial(dict(zip(names, values, strict=True)), skip_if_exists=True)
    return count


def _tried(study: optuna.Study, space: Space) -> list[Trial]:
    """Returns the settings that are through: scored, or failed for a reason of their own."""
    found = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL)):
        known, values = trial.user_attrs, _values(trial.params, space)
        if trial.state == TrialState.COMPLETE:
            outcome = Outcome(**{name: tuple(known[name]) for name in _SCORES}, diverged=False)
            found.append(Trial(number=trial.number, values=values, outcome=outcome))
        elif _FAULT in known:
            found.append(Trial(number=trial.number, values=values, fault=known[_FAULT]))
    return found


def _values(params: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Returns the values of a setting as they are trained with."""
    return {name: drawn.short(params[name]) for name, drawn in space.items()}


def _asked(study: optuna.Study, space: Space, *, count: int) -> list[optuna.Trial]:
    """Draws settings of one shape; those that wait in the queue come first, whatever their shapes."""
    distributions = {name: _distribution(drawn) for name, drawn in space.items()}
    sampler, asked = study.sampler, [study.ask(distributions)]
    shared = {name: value for name, value in asked[0].params.items() if name not in traced(space)}
    study.sampler = PartialFixedSampler(shared, sampler) if shared else sampler
    asked += [study.ask(distributions) for _ in range(count - 1)]
    study.sampler = sampler
    return asked


def _distribution(drawn: Range | Choice) -> BaseDistribution:
    if isinstance(drawn, Choice):
        return CategoricalDistribution(drawn.values)
    kind = IntDistribution if isinstance(drawn.low, int) else FloatDistribution
    return kind(drawn.low, drawn.high, log=drawn.log)  # pyright: ignore[reportArgumentType]


def _train(
    study: optuna.Study,
    asked: Sequence[optuna.Trial],
    options: TrainOptions,
    space: Space,
    beside: SideBySide,
) -> None:
    """Trains settings, those of one shape together, and tells the study what they scored."""
    shapes: dict[TrainOptions, list[tuple[optuna.Trial, TrainOptions]]] = {}
    for trial in asked:
        setting = replaced(options, _values(trial.params, space))
        try:
            check(setting)
        except UserError as error:
            _fail(study, trial, str(error))
            continue
        shapes.setdefault(beside.shape(setting), []).append((trial, setting))
    for members in shapes.values():
        try:
            outcomes = beside.train([setting for _, setting in members])
        except UserError as error:
            for trial, _ in members:
                _fail(study, trial, str(error))
            continue
        for (trial, _), outcome in zip(members, outcomes, strict=True):
            if outcome.diverged:
                _fail(study, trial, "training diverged: numbers became infinite or NaN")
                continue
            for name in _SCORES:
                trial.set_user_attr(name, getattr(outcome, name))
            study.tell(trial, spread(outcome.weighted_f1)["mean"])


def _fail(study: optuna.Study, trial: optuna.Trial, fault: str) -> None:
    trial.set_user_attr(_FAULT, fault)
    study.tell(trial, state=TrialState.FAIL)


def _say(trial: Trial, found: Sequence[Trial], place: str) -> None:
    """Says what became of a setting. place: which it is, of how many."""
    if trial.fault:
        _log.warning(f"setting {trial.number} failed: {trial.fault}")
        return
    shown = ", ".join(f"{name}={value}" for name, value in trial.values.items())
    _log.info(f"{place}  dev weighted F1 {trial.score:.4f}  best {ranked(found)[0].score:.4f}  {shown}")


def _write(found: Sequence[Trial], options: TrainOptions, workdir: Path) -> None:
    """Writes the files of what was tried so far."""
    write_table(found, workdir)
    if best := ranked(found):
        write_best(found, replaced(options, best[0].values), workdir)
