"""Orbax checkpoints of a run, each of one epoch, with hashes of their own.

The folder of an epoch holds three items: `state` (all that training goes on from), `best` (the parameters that each
seed keeps and the feature statistics, which evaluation and prediction load) and `progress` (JSON). Orbax restores a
file with a flipped bit without an error. Therefore a file beside the folder lists the SHA-256 of every file in it. This
file is written last, so an epoch without it was interrupted while it was saved.
"""

import contextlib
import logging
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from jmer.base import files
from jmer.base.errors import UserError
from jmer.training.devices import as_main, is_main

_log = logging.getLogger(__name__)

Tree = Any  # a pytree of arrays

_KEEP = 2  # the latest epoch, and the one before it in case the latest is damaged
_HASHES = ".sha256.json"
_LOOKS = 3  # at a folder into which training may write meanwhile
PAUSE = 9  # the least time between two saves, in multiples of the time that the last one took


def latest_epoch(folder: Path) -> int:
    """Returns the latest epoch that is whole in a folder of checkpoints; 0 where there is none, or no folder.

    A later epoch that is damaged is left out with a warning, which names the damage.
    """
    for _ in range(_LOOKS):
        found = _epochs(folder)
        for epoch in found:
            if not (fault := _fault(folder / str(epoch))):
                return epoch
            if epoch in _epochs(folder):  # training removes old epochs while others read
                _log.warning(f"checkpoint {folder / str(epoch)} is left out: {fault}")
        if _epochs(folder) == found:
            return 0
    return 0


def remove_damaged(folder: Path, *, after: int) -> None:
    """Removes the epochs after the latest one that is whole, and says so.

    The main process calls this before any process opens the folder with `Checkpoints`.

    Raises:
      UserError: epochs were saved, and none of them is whole.
    """
    if not after and any(folder.glob(f"*{_HASHES}")):
        raise UserError(
            f"{folder}: no checkpoint is whole any more; restore one from a copy, or remove the folder to train anew"
        )
    for epoch in _epochs(folder):
        if epoch > after:
            _log.info(f"checkpoint {folder / str(epoch)} is removed; training goes on from epoch {after}")
            shutil.rmtree(folder / str(epoch), ignore_errors=True)
            _hash_file(folder / str(epoch)).unlink(missing_ok=True)
        elif not (folder / str(epoch)).is_dir():  # a process was ended between the removal of the folder and of this
            _hash_file(folder / str(epoch)).unlink(missing_ok=True)


def restore_best(folder: Path, epoch: int, *, best: Tree) -> tuple[Tree, dict[str, Any]]:
    """Returns (best, progress) of an epoch that `latest_epoch` found, in a folder into which nothing is written.

    Args:
      best: a tree of arrays, or of their shapes, that matches the tree which was saved.
    """
    args = ocp.args.Composite(best=ocp.args.StandardRestore(best), progress=ocp.args.JsonRestore())
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
        restored = reader.restore((folder / str(epoch)).absolute(), args=args)
    return restored["best"], restored["progress"]


def save_best(folder: Path, epoch: int, *, best: Tree, progress: Mapping[str, Any]) -> None:
    """Saves an epoch as `restore_best` reads it, without the state that training would go on from."""
    args = ocp.args.Composite(best=ocp.args.StandardSave(best), progress=ocp.args.JsonSave(dict(progress)))
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as writer:
        writer.save((folder / str(epoch)).absolute(), args=args)
    _seal(folder / str(epoch))


def restore_latest(folder: Path, epoch: int, *, best: Tree) -> tuple[Tree, dict[str, Any]]:
    """Returns what `restore_best` does, in a folder into which training may write meanwhile.

    Training removes old epochs. If it has removed this one, a later one is read.
    """
    for _ in range(_LOOKS):
        try:
            return restore_best(folder, epoch, best=best)
        except Exception:  # Orbax raises what its libraries raise
            if not _fault(folder / str(epoch)):
                raise
            epoch = latest_epoch(folder) or epoch
    return restore_best(folder, epoch, best=best)


class Checkpoints:
    """The checkpoints of a run that is being trained."""

    def __init__(self, folder: Path):
        """Opens a folder of checkpoints for training, and makes the folder where there is none."""
        self.folder = folder.absolute()
        self._manager = ocp.CheckpointManager(
            self.folder,
            item_names=("state", "best", "progress"),
            options=ocp.CheckpointManagerOptions(max_to_keep=_KEEP, enable_async_checkpointing=False),
        )
        self._ended, self._seconds = 0.0, 0.0  # of the last save

    def due(self) -> bool:
        """Returns whether an epoch that has just ended is worth saving.

        It is not right after another save, so that epochs of milliseconds do not spend more than a tenth of the time on
        saving. A run that is killed then loses no more than nine times what a save takes.
        """
        return as_main(time.perf_counter() - self._ended >= PAUSE * self._seconds)

    def save(self, epoch: int, *, state: Tree, best: Tree, progress: Mapping[str, Any]) -> None:
        """Saves an epoch; on return its checkpoint is whole on disk, and all but the latest two are removed."""
        start = time.perf_counter()
        with _failing_once(self.folder):
            self._manager.save(
                epoch,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    best=ocp.args.StandardSave(best),
                    progress=ocp.args.JsonSave(dict(progress)),
                ),
            )
        if is_main():
            _seal(self.folder / str(epoch))
            for old in self.folder.glob(f"*{_HASHES}"):
                if not (self.folder / old.name.removesuffix(_HASHES)).is_dir():
                    old.unlink()
        self._ended = time.perf_counter()
        self._seconds = self._ended - start

    def restore(self, epoch: int, *, state: Tree, best: Tree) -> tuple[Tree, Tree, dict[str, Any]]:
        """Returns (state, best, progress) of an epoch that `latest_epoch` found.

        Args:
          state, best: trees of arrays, or of their shapes, that match the trees which were saved.
        """
        restored = self._manager.restore(
            epoch,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(state),
                best=ocp.args.StandardRestore(best),
                progress=ocp.args.JsonRestore(),
            ),
        )
        return restored["state"], restored["best"], restored["progress"]


def _seal(folder: Path) -> None:
    """Lists the hashes of an epoch's folder, which is then whole."""
    files.save_sealed(_hash_file(folder), {"files": _hashes(folder)})


@contextlib.contextmanager
def _failing_once(folder: Path) -> Iterator[None]:
    """Lets the writing of a folder, when it fails, be told by the exception that reaches the caller, and named.

    Orbax logs the exception of each of its threads too, and TensorStore tells by tracebacks that the event loops of
    other writes are gone. Some of that comes late, so that after a failure it stays silent.
    """
    orbax, hook = logging.getLogger("absl"), sys.unraisablehook

    def shown(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    orbax.addFilter(_is_news)
    sys.unraisablehook = shown
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(folder)
        raise
    orbax.removeFilter(_is_news)
    sys.unraisablehook = hook


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a record of Orbax says more than an exception that is raised as well."""
    return "raised an exception" not in str(record.msg)


def _hash_file(folder: Path) -> Path:
    """Returns the file that lists the hashes of an epoch's folder."""
    return folder.with_name(folder.name + _HASHES)


def _hashes(folder: Path) -> dict[str, str]:
    return {str(f.relative_to(folder)): files.sha256(f) for f in sorted(folder.rglob("*")) if f.is_file()}


def _epochs(folder: Path) -> list[int]:
    """Returns the epochs of which a folder holds anything, the latest first."""
    names = {file.name.removesuffix(_HASHES) for file in folder.iterdir()} if folder.is_dir() else set()
    return sorted((int(name) for name in names if name.isdecimal()), reverse=True)


def _fault(folder: Path) -> str:
    """Returns what is wrong with the folder of an epoch; empty where every file has its recorded hash."""
    if not folder.is_dir():
        return "its folder is missing"
    file = _hash_file(folder)
    if not file.is_file():
        return f"it has no {file.name}, so it was cut off while it was written"
    try:
        recorded = files.load_sealed(file, cure="", required=False)
        expected, found = recorded.get("files", recorded), _hashes(folder)  # earlier jmers wrote no seal
        if not isinstance(expected, dict):
            raise UserError("no hashes")
    except (UserError, OSError):
        return f"{file.name} is damaged"
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if not wrong:
        return ""
    return f"{wrong[0]} is {'damaged (its SHA-256 is not the recorded one)' if wrong[0] in found else 'missing'}"
