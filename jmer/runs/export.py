"""A trained run as a folder to hand on: what predicts, and nothing that only training needs.

The folder is a run directory (`jmer/runs/directory.py`), so that everything that opens a run opens it too.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import jax

from jmer.base import files
from jmer.base.errors import UserError
from jmer.base.options import to_config
from jmer.runs import card
from jmer.runs import onnx as as_onnx
from jmer.runs import stablehlo as as_stablehlo
from jmer.runs.directory import EXPORTED, FORMAT, Run, RunDirectory
from jmer.training import checkpoint, weights

FORMS = ("safetensors", "orbax")


def export(
    run: Run, out: Path, *, form: str = "safetensors", stablehlo: bool = False, onnx: int = 0, vote: bool = False
) -> int:
    """Writes a run as a folder; returns how many parameters a seed has.

    Args:
      out: a new folder, an empty one, or an earlier export, whose place the new one takes once it is whole.
      form: how the parameters are stored: `safetensors`, or `orbax` for a checkpoint of them alone.
      stablehlo: whether the folder also holds the model as a program.
      onnx: of how many utterances the dialogues may be in an ONNX file that the folder also holds; 0 for no such file.
      vote: in the programs all seeds vote, as they do anyway where the run was trained to vote.

    Raises:
      UserError: `out` holds something else, the run's scores are damaged, or the run cannot become an ONNX file.
    """
    if out.resolve() == run.directory.path.resolve():
        raise UserError(f"--out={out} is the run itself; name another folder")
    vote = vote or run.options.vote
    seeds, keep = jax.tree.leaves(run.params)[0].shape[:2]
    size = sum(x.size for x in jax.tree.leaves(run.params)) // (seeds * keep)
    with appearing(out) as folder:
        made = RunDirectory(folder)
        files.save_sealed(made.config, json.loads(to_config(run.options).to_json()))
        files.save_sealed(made.features, {"format": FORMAT, EXPORTED: True} | run.inputs.to_json())
        if run.directory.environment.is_file():
            files.save_sealed(made.environment, run.directory.read_environment())
        if run.directory.calibration.is_file():
            made.write_calibration(run.calibration)
        best = {"params": run.params, "stats": run.stats}
        if form == "orbax":
            checkpoint.save_best(made.checkpoints, run.progress.epoch, best=best, progress=run.progress.to_json())
        else:
            weights.save(made.weights, best)
        if stablehlo:
            as_stablehlo.write(run, made.stablehlo, made.stablehlo_inputs, vote=vote)
        if onnx:
            as_onnx.write(run, made.onnx, made.onnx_inputs, utterances=onnx, vote=vote)
        _finish(replace(run, directory=made), source=run, form=form, keep=keep, size=size)
    return size


def _finish(made: Run, *, source: Run, form: str, keep: int, size: int) -> None:
    """Writes the card, and last of all the list of hashes, by which the folder is known to be whole."""
    folder = made.directory
    held = sorted(file for file in folder.path.rglob("*") if file.is_file())
    described = {
        folder.config: "every option",
        folder.features: "labels, and what is read: the extractors and their hashes",
        folder.environment: "the versions and devices of the training",
        folder.calibration: "the temperatures of the probabilities",
        folder.weights: "the parameters of the best epochs, and the statistics that standardise the features",
        folder.checkpoints: "the parameters and these statistics as an Orbax checkpoint",
        folder.stablehlo: "the model as a program in StableHLO, which `jax.export` runs without jmer",
        folder.stablehlo_inputs: "the inputs and outputs of that program",
        folder.onnx: "the model as an ONNX file",
        folder.onnx_inputs: "the inputs and outputs of that file",
    }
    listed = {file.name: holds for file, holds in described.items() if file.exists()}
    listed |= {folder.exported.name: "the SHA-256 of every other file but this card, which is there to be completed"}
    files.save_text(folder.card, card.text_of(source, files=listed, size=size))
    files.save_sealed(
        folder.exported,
        {
            "form": form,
            "keep_epochs": keep,
            "progress": source.progress.to_json(),
            "files": {file.relative_to(folder.path).as_posix(): files.sha256(file) for file in held},
        },
    )


@contextmanager
def appearing(out: Path) -> Iterator[Path]:
    """Gives a new folder that takes the place of `out` when the block ends well, and vanishes when it does not.

    Raises:
      UserError: `out` is a file, or a folder that holds something else than an export.
    """
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or RunDirectory(out).exported.is_file())):
        raise UserError(f"--out={out} exists and is no folder that jmer.export has written; name another folder")
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.absolute().parent))
    try:
        folder = work / "new"
        folder.mkdir()
        yield folder
        if out.is_dir():
            os.replace(out, work / "old")
        os.replace(folder, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
