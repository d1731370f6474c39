"""Runs of fine-tuning for tests."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from jmer.training import checkpoint
from jmer.tuning import fit as fitting
from jmer.tuning.options import TuneOptions


def fit(options: TuneOptions, workdir: Path) -> None:
    """Fine-tunes. Optax promotes integers to floats, which strict promotion forbids; jmer's own code is strict."""
    with jax.numpy_dtype_promotion("standard"):
        fitting.fit(options, workdir)


def fit_interrupted(options: TuneOptions, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fine-tunes, is interrupted after the second epoch, and goes on."""
    saved = fitting.Checkpoints.save

    def interrupted(self: Any, epoch: int, **items: Any) -> None:
        saved(self, epoch, **items)
        if epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "PAUSE", 0)  # every epoch is saved
        patch.setattr(fitting.Checkpoints, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(options, workdir)
    fit(options, workdir)


def assert_same_weights(run: Path, other: Path) -> None:
    """Compares the weights that two runs left, bit for bit."""
    for name in ("model.safetensors", "head.safetensors"):
        weights = (load_file(each / "model" / name) for each in (run, other))
        jax.tree.map(np.testing.assert_array_equal, *weights)


def metrics(run: Path, split: str) -> dict[str, Any]:
    return json.loads((run / "eval" / split / "metrics.json").read_text())
