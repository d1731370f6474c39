"""Small trainings as processes of their own: started, waited for, and compared with each other."""

import hashlib
import json
import logging
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from benchmarks.faults import commands, training_child
from jmer.runs.directory import RunDirectory
from jmer.runs.log import LOG_SHA256
from jmer.training import checkpoint

sys.path.insert(0, str(commands.ROOT / "tests"))
import tiny  # pyright: ignore[reportMissingImports] (of the tests)

write_dataset = tiny.write_dataset

PHASES = ("start-up", "compilation", "epochs", "saving", "scoring")
_AFTER = {"start-up": "compilation", "compilation": "saving", "scoring": "done"}  # programs may be compiled already
FORMS: Mapping[str, Mapping[str, Any]] = {
    "one seed": {},
    "two seeds": {"seeds": 2},
    "two seeds, streamed": {"seeds": 2, "data_mode": "streamed"},
}
_OPTIONS = {"encoder": "none", "graph": "none", "fusion": "late", "hidden": 8, "heads": 2, "batch_utterances": 16}
EQUAL = "equal to the unbroken one"
_PLACES = ("checkpoint", "dataset")  # entries of metrics.json that name folders


@dataclass(frozen=True, kw_only=True)
class Training:
    """A command that trains.

    run: the run directory.
    folder: holds the marks of the command and what it prints.
    cache: of compiled programs, which trainings may have in common.
    options: config fields.
    """

    run: Path
    folder: Path
    dataset: Path
    cache: Path
    options: Mapping[str, Any]

    @property
    def arguments(self) -> list[str]:
        """The arguments of `jmer.train`."""
        fields = _OPTIONS | {"dataset": self.dataset} | dict(self.options)
        given = [f"--config.{name}={value}" for name, value in fields.items()]
        return [f"--config={commands.ROOT / 'configs/gat_fusion.py'}", f"--workdir={self.run}", *given]

    def start(self, *, marked: bool = True, **settings: Any) -> subprocess.Popen[bytes]:
        """Starts the command.

        Args:
          marked: it notes its phases and saves every epoch; otherwise it is the command that users call.
          settings: of `commands.start`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._marks.write_text("")
        program = [Path(training_child.__file__)] if marked else ["-m", "jmer.train"]
        environment = {training_child.MARKS: self._marks, "JMER_CACHE": self.cache}
        environment |= settings.pop("environment", {})
        return commands.start([*program, *self.arguments], self.folder, environment=environment, **settings)

    @property
    def _marks(self) -> Path:
        return self.folder / "marks"

    def marks(self) -> list[tuple[str, float]]:
        """Returns the phases that the command has begun, and when."""
        lines = self._marks.read_text().splitlines(keepends=True)
        return [(name, float(at)) for name, at in (line.split() for line in lines if line.endswith("\n"))]

    def wait_for(self, phase: str, process: subprocess.Popen[bytes], *, times: int = 1) -> bool:
        """Waits until the command begins a phase, the `times`-th time; returns whether it did before it ended."""
        while (ended := process.poll() is not None) or sum(name == phase for name, _ in self.marks()) < times:
            if ended:
                return False
            time.sleep(0.001)
        return True


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long the phases of an unbroken training take, in seconds, and how many epochs it saves."""

    phases: Mapping[str, float]
    epochs: int

    @classmethod
    def of(cls, begun: float, marks: list[tuple[str, float]]) -> "Lengths":
        """Measures a training that began at `begun`."""
        first = dict(reversed(marks))
        saves = [at for name, at in marks if name == "saving"]
        saved = [at for name, at in marks if name == "saved"]
        phases = {
            "start-up": first["compilation"] - begun,
            "compilation": first["saving"] - first["compilation"],
            "epochs": (saves[-1] - saves[0]) / (len(saves) - 1),
            "saving": sum(saved[1:]) / len(saved[1:]) - sum(saves[1:]) / len(saves[1:]),
            "scoring": first["done"] - first["scoring"],
        }
        return cls(phases=phases, epochs=len(saves))


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A training that faults are done to, and all that it has to leave in the end.

    expected: the `content` of an unbroken training.
    lengths: of the phases of the unbroken training.
    """

    training: Training
    expected: Mapping[str, str]
    lengths: Lengths

    @classmethod
    def prepared(cls, folder: Path, options: Mapping[str, Any], *, run: Path | None = None) -> "Subject":
        """Writes a dataset into an empty folder and trains on it once, unbroken.

        run: the run directory of the training that faults are done to; by default in the folder.
        """
        places = {"dataset": write_dataset(folder / "data"), "cache": folder / "cache", "options": options}
        whole, begun = Training(run=folder / "whole/run", folder=folder / "whole", **places), time.monotonic()
        if whole.start().wait():
            raise RuntimeError(commands.told(whole.folder))
        lengths = Lengths.of(begun, whole.marks())
        training = Training(run=run or folder / "broken/run", folder=folder / "broken", **places)
        return cls(training=training, expected=content(whole.run), lengths=lengths)

    def forget_programs(self) -> None:
        """Removes the compiled programs, so that the next command compiles again."""
        shutil.rmtree(self.training.cache, ignore_errors=True)

    def forget_run(self) -> None:
        """Lets the training begin anew."""
        shutil.rmtree(self.training.run, ignore_errors=True)

    def reach(self, phase: str, process: subprocess.Popen[bytes], rng: random.Random) -> bool:
        """Waits for a random instant of a phase; returns whether the command still ran then."""
        training = self.training
        if phase in ("epochs", "saving"):
            last = checkpoint.latest_epoch(RunDirectory(training.run).checkpoints)
            times = rng.randint(1, max(self.lengths.epochs - last, 1))
            begun = training.wait_for("saving", process, times=times)
        else:
            begun = phase == "start-up" or training.wait_for(phase, process)
        if not begun:
            return False
        end, after = time.monotonic() + rng.uniform(0, self.lengths.phases[phase]), _AFTER.get(phase)
        while time.monotonic() < end and after not in {name for name, _ in training.marks()}:
            time.sleep(0.001)
        return process.poll() is None

    def ending(self) -> str:
        """Runs the training to its end; returns how it compares with the unbroken one."""
        training, expected = self.training, self.expected
        if code := training.start().wait():
            print(commands.told(training.folder), file=sys.stderr)
            return f"exit code {code}"
        found = content(training.run)
        differing = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        if "files" in differing:
            names = (set(each["files"].split()) for each in (found, expected))
            differing.append(f"which are {', '.join(sorted(set.symmetric_difference(*names)))}")
        return f"other {', '.join(differing)}" if differing else EQUAL


def content(run: Path) -> dict[str, str]:
    """Returns a hash of each thing that a training leaves, apart from times and folders, and the names of its files."""
    directory = RunDirectory(run)
    latest = directory.checkpoints / str(checkpoint.latest_epoch(directory.checkpoints))
    state = saved(run)
    lines = [json.loads(line) for line in directory.metrics.read_text().splitlines()]
    progress = json.loads((latest / "progress/metadata").read_text())
    found = {
        "parameters": digest(state["params"]),
        "optimiser, RNG and position": digest({name: value for name, value in state.items() if name != "params"}),
        "best epochs": digest(_arrays(latest / "best")),
        "progress": _hash({name: value for name, value in progress.items() if name != LOG_SHA256}),
        "metrics.jsonl": _hash([{name: value for name, value in line.items() if name != "seconds"} for line in lines]),
        "calibration": _hash(json.loads(directory.calibration.read_text())),
        "files": " ".join(sorted(_names(run))),
    }
    for split in ("dev", "test"):
        folder = directory.evaluation(split, vote=False)
        scores = json.loads((folder / "metrics.json").read_text())
        found[f"scores of {split}"] = _hash({name: value for name, value in scores.items() if name not in _PLACES})
        found[f"predictions of {split}"] = _hash((folder / "predictions.csv").read_text())
    return found


def saved(run: Path) -> Any:
    """Returns the state that training goes on from, at the latest epoch that was saved."""
    folder = RunDirectory(run).checkpoints
    return _arrays(folder / str(checkpoint.latest_epoch(folder)) / "state")


def _arrays(folder: Path) -> Any:
    """Returns an item of a checkpoint as arrays of the host, on whatever devices it was trained."""
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax warns of a file that jmer's checkpoints do without
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        tree = reader.metadata(folder.absolute()).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return reader.restore(folder.absolute(), args=ocp.args.PyTreeRestore(restore_args=as_numpy))


def digest(tree: Any) -> str:
    """Returns the SHA-256 of the arrays of a tree and of their places in it."""
    whole = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        whole.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode() + array.tobytes())
    return whole.hexdigest()


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _names(run: Path) -> list[str]:
    """Returns the names of the files of a run. Those within checkpoints and of TensorBoard differ from run to run."""
    inner = [path.relative_to(run) for path in run.rglob("*")]
    return [str(path) for path in inner if path.parts[0] != "tensorboard" and (
        path.parts[0] != "checkpoints" or len(path.parts) == 2)]  # fmt: skip
