"""Orbax checkpoints with hashes of their own.

A step's folder holds three items: `state` (all that training goes on from), `best` (parameters of each seed's best
epoch, which evaluation and prediction load) and `progress` (JSON). Orbax restores a flipped bit in silence, so a file
beside the folder lists the SHA-256 of all that is in it; a step without that file was cut off while being written.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from jmer.base import files
from jmer.base.errors import UserError
from jmer.training.devices import is_main

Tree = Any  # a pytree of arrays

_KEEP = 2  # the latest, and the one before it in case the latest was cut off


class Checkpoints:
    """The checkpoints of one run, one for an epoch."""

    def __init__(self, folder: Path):
        self.folder = folder.absolute()
        self._manager = ocp.CheckpointManager(
            self.folder,
            item_names=("state", "best", "progress"),
            options=ocp.CheckpointManagerOptions(max_to_keep=_KEEP, enable_async_checkpointing=False),
        )

    def save(self, epoch: int, *, state: Tree, best: Tree, progress: Mapping[str, Any]) -> None:
        """Saves an epoch; when it returns, the checkpoint is whole on disk, and all but the latest two are gone."""
        self._manager.save(
            epoch,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                best=ocp.args.StandardSave(best),
                progress=ocp.args.JsonSave(dict(progress)),
            ),
        )
        if not is_main():
            return
        files.save_json(self._hash_file(epoch), _hashes(self.folder / str(epoch)))
        for old in self.folder.glob("*.sha256.json"):
            if not (self.folder / old.name.split(".")[0]).is_dir():
                old.unlink()

    def latest(self) -> int | None:
        """Returns the newest whole epoch; None before the first."""
        return max((epoch for epoch in self._manager.all_steps() if self._hash_file(epoch).is_file()), default=None)

    def remove_cut_off(self) -> None:
        """Removes what an interrupted `save` left, before training goes on; says so."""
        for epoch in self._manager.all_steps():
            if not self._hash_file(epoch).is_file():
                print(f"checkpoint of epoch {epoch} was cut off while being written: removed")
                self._manager.delete(epoch)

    def restore(self, epoch: int, *, state: Tree, best: Tree) -> tuple[Tree, Tree, dict[str, Any]]:
        """Returns (state, best, progress) of an epoch.

        Args:
          state, best: trees of arrays (or their shapes) like those that were saved.

        Raises:
          UserError: a file is missing or damaged.
        """
        self._verify(epoch)
        restored = self._manager.restore(
            epoch,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(state),
                best=ocp.args.StandardRestore(best),
                progress=ocp.args.JsonRestore(),
            ),
        )
        return restored["state"], restored["best"], restored["progress"]

    def restore_best(self, epoch: int, *, best: Tree) -> tuple[Tree, dict[str, Any]]:
        """Returns (best, progress) of an epoch; arguments and errors as for `restore`."""
        self._verify(epoch)
        args = ocp.args.Composite(best=ocp.args.StandardRestore(best), progress=ocp.args.JsonRestore())
        restored = self._manager.restore(epoch, args=args)
        return restored["best"], restored["progress"]

    def _hash_file(self, epoch: int) -> Path:
        return self.folder / f"{epoch}.sha256.json"

    def _verify(self, epoch: int) -> None:
        folder = self.folder / str(epoch)
        expected, found = json.loads(self._hash_file(epoch).read_text()), _hashes(folder)
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        if wrong:
            what = "is damaged" if wrong[0] in found else "is missing"
            raise UserError(
                f"checkpoint file {folder / wrong[0]} {what} (its SHA-256 is not the recorded one); "
                f"remove {folder} to go on from the checkpoint before it"
            )


def _hashes(folder: Path) -> dict[str, str]:
    return {str(f.relative_to(folder)): files.sha256(f) for f in sorted(folder.rglob("*")) if f.is_file()}
