"""Orbax checkpoints of a run, each of one epoch, with hashes of their own.

The folder of an epoch holds three items: `state` (all that training goes on from), `best` (the parameters that each
seed keeps and the feature statistics, which evaluation and prediction load) and `progress` (JSON). Orbax restores a
file with a flipped bit without an error. Therefore a file beside the folder lists the SHA-256 of every file in it. This
file is written last, so an epoch without it was interrupted while it was saved.
"""

import json
import logging
import shutil
import time
from collections.abc import Mapping
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
PAUSE = 9  # the least time between two saves, in multiples of the time that the last one took


def latest_epoch(folder: Path) -> int:
    """Returns the latest epoch that is whole in a folder of checkpoints; 0 where there is none, or no folder."""
    named = (file.name.removesuffix(_HASHES) for file in folder.glob(f"*{_HASHES}"))
    return max((int(name) for name in named if (folder / name).is_dir()), default=0)


def remove_cut_off(folder: Path) -> None:
    """Removes the epochs that were interrupted while they were saved, and says so.

    The main process calls this before any process opens the folder with `Checkpoints`.
    """
    for found in folder.iterdir() if folder.is_dir() else ():
        if found.is_dir() and not _hash_file(found).is_file():
            _log.info(f"checkpoint {found.name} was cut off while being written: removed")
            shutil.rmtree(found)


def restore_best(folder: Path, epoch: int, *, best: Tree) -> tuple[Tree, dict[str, Any]]:
    """Returns (best, progress) of an epoch in a folder of checkpoints, into which nothing is written.

    Args:
      best: a tree of arrays, or of their shapes, that matches the tree which was saved.

    Raises:
      UserError: a file is missing or damaged.
    """
    _verify(folder / str(epoch))
    args = ocp.args.Composite(best=ocp.args.StandardRestore(best), progress=ocp.args.JsonRestore())
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
        restored = reader.restore((folder / str(epoch)).absolute(), args=args)
    return restored["best"], restored["progress"]


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
        self._manager.save(
            epoch,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                best=ocp.args.StandardSave(best),
                progress=ocp.args.JsonSave(dict(progress)),
            ),
        )
        if is_main():
            folder = self.folder / str(epoch)
            files.save_json(_hash_file(folder), _hashes(folder))
            for old in self.folder.glob(f"*{_HASHES}"):
                if not (self.folder / old.name.removesuffix(_HASHES)).is_dir():
                    old.unlink()
        self._ended = time.perf_counter()
        self._seconds = self._ended - start

    def restore(self, epoch: int, *, state: Tree, best: Tree) -> tuple[Tree, Tree, dict[str, Any]]:
        """Returns (state, best, progress) of an epoch.

        Args:
          state, best: trees of arrays, or of their shapes, that match the trees which were saved.

        Raises:
          UserError: a file is missing or damaged.
        """
        _verify(self.folder / str(epoch))
        restored = self._manager.restore(
            epoch,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(state),
                best=ocp.args.StandardRestore(best),
                progress=ocp.args.JsonRestore(),
            ),
        )
        return restored["state"], restored["best"], restored["progress"]


def _hash_file(folder: Path) -> Path:
    """Returns the file that lists the hashes of an epoch's folder."""
    return folder.with_name(folder.name + _HASHES)


def _hashes(folder: Path) -> dict[str, str]:
    return {str(f.relative_to(folder)): files.sha256(f) for f in sorted(folder.rglob("*")) if f.is_file()}


def _verify(folder: Path) -> None:
    """Checks every file of an epoch's folder against the recorded hashes.

    Raises:
      UserError: a file is missing or damaged.
    """
    expected, found = json.loads(_hash_file(folder).read_text()), _hashes(folder)
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        what = "is damaged" if wrong[0] in found else "is missing"
        raise UserError(
            f"checkpoint file {folder / wrong[0]} {what} (its SHA-256 is not the recorded one); "
            f"remove {folder} to go on from the checkpoint before it"
        )
