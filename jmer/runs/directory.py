"""The directory of a run: how training claims it, and how a trained run is opened. `jmer.runs.layout` lists its files.

The JSON files that a later call reads hold their own SHA-256, so that a damaged one is refused.
"""

import functools
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from jmer.base import files, forms, locks
from jmer.base.errors import UserError
from jmer.base.options import from_config, to_config
from jmer.nn.model import Model
from jmer.runs.changes import AFTER_DIVERGENCE, option_changes
from jmer.runs.environment import environment
from jmer.runs.inputs import Inputs, model_of
from jmer.runs.layout import Layout
from jmer.runs.progress import Progress
from jmer.training import checkpoint, weights
from jmer.training.options import TrainOptions
from jmer.training.steps import STATS, param_shapes

_log = logging.getLogger(__name__)

Tree = Any  # a pytree of arrays

_LOCK = ".lock"

_CURE = "restore it from a copy, or train again into a new --workdir"

FORMAT = 5  # of the files of a run
_CALIBRATED = "calibrated"  # the entry of features.json that is true once there is a calibration
EXPORTED = "exported"  # the entry of features.json that is true in an exported directory
_UNSEALED = 4  # the earlier format that is read too, whose files do not hold their own hash


@dataclass(frozen=True)
class RunDirectory(Layout):
    """The files of one run: read, checked and written.

    options_class: the options of the command that writes the run.
    inputs_class: what features.json holds; it has `to_json`, `from_json` and `changes_from`, as `Inputs` has.
    """

    options_class: type = TrainOptions
    inputs_class: type = Inputs

    def fold(self, number: int) -> "RunDirectory":
        """Returns the run of a fold of a cross-validation."""
        return replace(self, path=self.fold_path(number))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training into the directory, as `jmer.base.locks` does.

        Raises:
          UserError: another process trains into the directory.
        """
        refusal = f"another process trains into {self.path}; wait until it ends, or give another --workdir"
        with locks.held(self.path / _LOCK, refusal=refusal):
            yield

    def claim(self, options: Any, inputs: Any, *, about: Mapping[str, Any]) -> None:
        """Describes a run in its directory, or checks that the run which is there may go on with these settings.

        The main process calls this before anything else is written.

        Args:
          about: further entries of environment.json, recorded only.

        Raises:
          UserError: the directory holds something else, or a run whose result another setting would change. The message
            names each such setting with its old and its new value.
        """
        cure = f"give another --workdir, or remove {self.path}"
        if self.is_exported():
            raise UserError(f"{self.path} holds an exported model, which cannot be trained on; {cure}")
        accepted, refused = [], []
        if self.config.is_file():
            changes = option_changes(self.read_options(), options, diverged=self._is_diverged())
            accepted, refused = list(changes.accepted), list(changes.refused)
            refused += inputs.changes_from(self.read_inputs()) if self.features.is_file() else ()
        elif any(file.name != _LOCK and not files.is_partial(file) for file in self.path.glob("*")):
            raise UserError(f"{self.path} is not empty and holds no run of jmer's; {cure}")
        if refused:
            raise UserError(f"{self.path} holds a run with other settings: {'; '.join(refused)}; {cure}")
        for change in accepted:
            _log.info(f"{self.path} goes on with a changed setting: {change}")
        self.path.mkdir(parents=True, exist_ok=True)
        if self.features.is_file() and not self._is_sealed():
            if self.calibration.is_file():
                files.save_sealed(self.calibration, self._read(self.calibration))
            if self.diverged.is_file():
                files.save_sealed(self.diverged, {"epochs": self._divergences()})
        files.save_sealed(self.config, json.loads(to_config(options).to_json()))
        files.save_sealed(self.features, {"format": FORMAT} | inputs.to_json())
        about = {"dataset_fingerprint": inputs.dataset_fingerprint, **about}
        files.save_sealed(self.environment, environment() | about)

    def read_options(self) -> Any:
        """Returns the options that the run was trained with; an option that is newer than the run has its default.

        Raises:
          UserError: there is no run, or it has options that this version of jmer does not know.
        """
        config = self._read(self.config)
        try:
            return from_config(self.options_class, config)
        except UserError as error:
            raise UserError(f"{self.config}: {error}; {self._writer()}") from error

    def read_inputs(self) -> Any:
        """Returns what the model of the run reads and which labels it predicts.

        Raises:
          UserError: there is no run, or another version of jmer wrote it in another format.
        """
        described = self._read(self.features)
        try:
            return self.inputs_class.from_json(described)
        except (UserError, KeyError, TypeError) as error:
            raise UserError(f"{self.features} does not describe a run ({error}); {_CURE}") from error

    def read_environment(self) -> dict[str, Any]:
        """Returns what `jmer.runs.environment.environment` said when the run was last trained."""
        return self._read(self.environment)

    def read_calibration(self, *, seeds: int) -> "Calibration":
        """Returns the calibration of a run of so many seeds.

        Raises:
          UserError: the file is damaged, or missing although the run was calibrated.
        """
        if not self.calibration.is_file():
            if self.features.is_file() and self._read(self.features).get(_CALIBRATED):
                raise UserError(f"{self.calibration} is missing, though the run was calibrated; {_CURE}")
            return Calibration(seeds=(1.0,) * seeds, vote=1.0)
        found = self._read(self.calibration)
        fault = forms.fault(found, {"seeds": [_positive], "vote": _positive})
        if not fault and len(found["seeds"]) != seeds:
            fault = f"it has {len(found['seeds'])} temperatures of seeds, and the run has {seeds} seeds"
        if fault:
            raise UserError(f"{self.calibration} is no calibration of the run ({fault}); {_CURE}")
        return Calibration(seeds=tuple(found["seeds"]), vote=found["vote"])

    def write_calibration(self, calibration: "Calibration") -> None:
        """Records the calibration of the run as it is now."""
        files.save_sealed(self.calibration, asdict(calibration))
        self._mark_calibrated(True)  # last, so that a run which is marked has the file

    def forget_calibration(self) -> None:
        """Removes the calibration, which is that of the epochs kept so far."""
        self._mark_calibrated(False)
        self.calibration.unlink(missing_ok=True)

    def _mark_calibrated(self, calibrated: bool) -> None:
        """Records whether there should be a calibration, so that its loss is noticed. Earlier formats say nothing."""
        described = self._read(self.features) if self.features.is_file() else {}
        if described.get("format") == FORMAT and described.get(_CALIBRATED, False) != calibrated:
            files.save_sealed(self.features, described | {_CALIBRATED: calibrated})

    def is_exported(self) -> bool:
        """Whether the directory is one that jmer.export has written."""
        if self.exported.is_file():
            return True
        return self.features.is_file() and bool(self._read(self.features).get(EXPORTED))

    def read_export(self) -> dict[str, Any]:
        """Returns what an exported directory says of itself, once all of its files are known to be whole.

        Raises:
          UserError: a file is missing or damaged.
        """
        cure = "restore it from a copy, or export the run again"
        if not self.exported.is_file():
            raise UserError(f"{self.exported} is missing; {cure}")
        described = files.load_sealed(self.exported, cure=cure)
        for name, expected in described["files"].items():
            if not (file := self.path / name).is_file():
                raise UserError(f"{file} is missing; {cure}")
            if files.sha256(file) != expected:
                raise UserError(f"{file} is damaged (its SHA-256 is not the recorded one); {cure}")
        return described

    def record_divergence(self, epoch: int, *, seeds: Sequence[int], options: Any) -> None:
        """Records that an epoch made parameters of these seeds infinite or NaN, so that another call may tame it."""
        settings = {name: getattr(options, name) for name in AFTER_DIVERGENCE}
        files.save_sealed(
            self.diverged, {"epochs": [*self._divergences(), {"epoch": epoch, "seeds": list(seeds), **settings}]}
        )

    def _is_diverged(self) -> bool:
        """Whether no epoch has been saved since one diverged."""
        found = self._divergences()
        return bool(found) and found[-1]["epoch"] > checkpoint.latest_epoch(self.checkpoints)

    def _divergences(self) -> list[dict[str, Any]]:
        """Returns each divergence that was recorded; earlier versions of jmer recorded a list by itself."""
        if not self.diverged.is_file():
            return []
        if not self._is_sealed():
            with suppress(ValueError):
                listed = json.loads(self.diverged.read_bytes())
                if isinstance(listed, list):
                    return listed
        return self._read(self.diverged)["epochs"]

    def _is_sealed(self) -> bool:
        """Whether the files of the run hold their hashes; those of earlier versions of jmer do not."""
        return self._format() != _UNSEALED

    def _format(self) -> Any:
        """Returns the format of the run, which features.json tells."""
        return _loaded(self.features, required=False).get("format", 1) if self.features.is_file() else FORMAT

    def _read(self, file: Path) -> dict[str, Any]:
        """Returns the JSON object of a file.

        Raises:
          UserError: there is none, it is damaged, or the run is of a format that this version of jmer does not read.
        """
        version = self._format()
        if type(version) is not int or version not in (_UNSEALED, FORMAT):
            raise UserError(
                f"{self.path} has run format {version}, but this version of jmer reads formats {_UNSEALED} and "
                f"{FORMAT}; {self._writer()}"
            )
        if not file.is_file():
            raise UserError(f"{file} does not exist; --workdir names a folder that jmer.train has written")
        return _loaded(file, required=version != _UNSEALED)

    def _writer(self) -> str:
        """Says which version of jmer wrote the run, and what to do."""
        found: dict[str, Any] = {}
        with suppress(UserError, OSError):  # the fault that is being reported counts more than a damaged record
            found = _loaded(self.environment, required=False)
        packages, revision = found.get("packages"), found.get("git_revision")
        version = packages.get("jmer") if isinstance(packages, dict) else None
        named = f"jmer {version or 'of an unknown version'}" + (f" (revision {revision})" if revision else "")
        return f"{named} wrote the run; use that version, or train again into a new --workdir"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The temperatures by which probabilities are scaled (`jmer.training.calibration`).

    seeds: of each seed by itself. vote: of the mean over the seeds.
    """

    seeds: tuple[float, ...]
    vote: float

    def of(self, *, vote: bool) -> tuple[float, ...]:
        """Returns the temperature of the vote, or of each seed."""
        return (self.vote,) if vote else self.seeds


@dataclass(frozen=True, kw_only=True)
class Run:
    """A trained run.

    params: the parameters that predict: leaves `[S, K, ...]` for the K epochs that each seed keeps, in no order; with
      `merge_epochs="average"` K is 1, and the parameters are the mean over the kept epochs.
    stats: the model's `stats` variables.
    calibration: temperatures of 1 where the run has not been calibrated.
    """

    directory: RunDirectory
    options: TrainOptions
    inputs: Inputs
    model: Model
    params: Tree
    stats: Tree
    progress: Progress
    calibration: Calibration


def load(workdir: Path) -> Run:
    """Opens a run at its latest checkpoint, or an exported one, with the parameters of its best epochs.

    Nothing is written.

    Raises:
      UserError: there is no run, it has no checkpoint yet, a file of it is damaged, or another version of jmer wrote it
        and this one cannot read it.
    """
    directory = RunDirectory(workdir)
    options, inputs = directory.read_options(), directory.read_inputs()
    model = model_of(options, inputs)
    described = directory.read_export() if directory.is_exported() else {}
    keep = described.get("keep_epochs", options.keep_epochs)
    template = _best_template(model, inputs, seeds=options.seeds, keep=keep)
    where = directory.exported
    if directory.weights.is_file():
        best, progress = weights.load(directory.weights, template), described["progress"]
    else:
        epoch = checkpoint.latest_epoch(directory.checkpoints)
        if not epoch:
            raise UserError(
                f"{workdir} has no checkpoint yet; run jmer.train with --workdir={workdir} until its first epoch ends"
            )
        where = directory.checkpoints / str(epoch)
        try:
            best, progress = checkpoint.restore_latest(directory.checkpoints, epoch, best=template)
        except Exception as error:  # Orbax and TensorStore raise exceptions of many kinds; strangers make runs too
            fault = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
            raise UserError(f"{where} does not fit the run ({fault}); {_CURE}, or get the run anew") from error
    try:
        progress = Progress.from_json(progress)
    except UserError as error:
        raise UserError(f"{where}: {error}; {_CURE}, or get the run anew") from error
    filled = min(keep, progress.epoch)  # an interrupted run may have fewer epochs than it may keep
    params = jax.tree.map(lambda x: x[:, :filled], best["params"])
    if options.merge_epochs == "average":
        params = jax.tree.map(lambda x: x.mean(axis=1, keepdims=True), params)
    return Run(
        directory=directory,
        options=options,
        inputs=inputs,
        model=model,
        params=params,
        stats=best["stats"],
        progress=progress,
        calibration=directory.read_calibration(seeds=options.seeds),
    )


def _best_template(model: Model, inputs: Inputs, *, seeds: int, keep: int) -> Tree:
    """Returns the shapes of the checkpoint item `best`, on one device, whatever devices the run was trained on."""
    chosen = jax.config.values["jax_default_device"]
    device = chosen if isinstance(chosen, jax.Device) else jax.local_devices()[0]
    array = functools.partial(jax.ShapeDtypeStruct, sharding=SingleDeviceSharding(device))
    one = param_shapes(model)  # pyright: ignore[reportArgumentType] (Flax makes its modules hashable)
    widths = inputs.dims | {f"{m}_sequence": dim for m, dim in inputs.sequence_dims.items()}
    return {
        "params": jax.tree.map(lambda x: array((seeds, keep, *x.shape), x.dtype), one),
        "stats": {f"{m}_{name}": array((dim,), jnp.float32) for m, dim in widths.items() for name in STATS},
    }


def _loaded(file: Path, *, required: bool) -> dict[str, Any]:
    """Returns the JSON object of a file.

    Args:
      required: whether the file must hold its hash.
    """
    return files.load_sealed(file, cure=_CURE, required=required)


def _positive(value: Any) -> bool:
    """The form of a temperature."""
    return type(value) in (int, float) and 0 < value < math.inf
