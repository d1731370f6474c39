"""However the work is shared out and the data comes, training gives the same: devices, processes, streamed data."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax
import ml_dtypes
import numpy as np
import pytest
import tiny

import jmer
from jmer.base.types import Batch
from jmer.dataset import store
from jmer.dataset.flat import flatten
from jmer.dataset.plan import Plan
from jmer.nn.model import Output
from jmer.runs import directory, progress, voting
from jmer.training import feed, steps
from jmer.training.devices import Placement, put
from jmer.training.objective import Objective
from jmer.training.optim import make_optimizer
from jmer.training.options import ObjectiveOptions, OptimizerOptions

CHANCE = {"mixup": 0.3, "feature_noise": 0.2, "modality_dropout": 0.2}  # what draws at random, with the rest
FULL = CHANCE | {"drop_edge": 0.2}
PLAIN = CHANCE | {"encoder": "none", "graph": "none"}  # quicker to compile


pytestmark = pytest.mark.usefixtures("optax_promotion")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    splits = {
        "train": tiny.dialogues([3, 7, 5, 8, 4, 6, 7, 2, 8, 8], seed=1),
        "dev": tiny.dialogues([5, 8], seed=2),
    }
    return tiny.write_dataset(tmp_path_factory.mktemp("data") / "tiny", splits=splits)


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """Runs on one device, of data that lies there."""
    folder = tmp_path_factory.mktemp("runs")
    for name, options in {"full": FULL, "plain": PLAIN, "seeds": PLAIN | {"seeds": 2}}.items():
        tiny.train(dataset, folder / name, **options)
    return folder


def losses(workdir: Path) -> list[float]:
    return [json.loads(line)["train_loss"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def assert_same_parameters(a: Path, b: Path, *, within: float) -> None:
    for x, y in zip(*(jax.tree.leaves(directory.load(workdir).params) for workdir in (a, b)), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=within)


def test_rows_are_shared_out_and_a_run_moves_between_device_counts(dataset, whole, tmp_path, monkeypatch, said):
    finished = progress.Progress.finished
    for devices, until in ((4, 2), (1, 4)):
        monkeypatch.setattr(
            progress.Progress, "finished", lambda self, until=until, **o: self.epoch >= until or finished(self, **o)
        )
        tiny.train(dataset, tmp_path / "run", devices=devices, **FULL)
        shared_out = f"rows of batches shared out among {devices} devices"
        assert ("one device" if devices == 1 else shared_out) in said.readouterr().out
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(whole / "full"), rtol=0, atol=1e-5)
    assert_same_parameters(tmp_path / "run", whole / "full", within=1e-4)


def test_seeds_are_shared_out(dataset, whole, tmp_path, said):
    tiny.train(dataset, tmp_path / "run", seeds=2, devices=2, **PLAIN)
    assert "seeds shared out among 2 devices" in said.readouterr().out
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(whole / "seeds"), rtol=0, atol=1e-5)


def test_seeds_train_together_as_one_by_one(dataset, whole, tmp_path, monkeypatch):
    """As a GPU trains them, in products of all."""
    monkeypatch.setattr(Placement, "one_by_one", False)
    tiny.train(dataset, tmp_path / "run", seeds=2, **PLAIN)
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(whole / "seeds"), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [(8, 2), (9, 3), (5, 1), (1, 1), (2, 2), (12, 3)],
)
def test_cores_are_devices_that_share_out_seeds(monkeypatch, seeds, expected):
    code = (
        "import jax, joblib\njoblib.cpu_count = lambda: 3\nfrom jmer.training import devices\n"
        f"devices.share_cores({seeds})\nprint(jax.device_count())"
    )
    monkeypatch.delenv("XLA_FLAGS")
    assert int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout) == expected


def test_more_devices_than_there_are_is_refused(dataset, tmp_path):
    with pytest.raises(jmer.UserError, match=r"config.devices is 99, but there are 4"):
        tiny.train(dataset, tmp_path / "run", devices=99)


def test_streamed_is_resident(dataset, whole, tmp_path, monkeypatch, said):
    monkeypatch.setattr(feed, "_PIECE_BYTES", 4000)  # several pieces an epoch, of several batches
    tiny.train(dataset, tmp_path / "run", data_mode="streamed", devices=2, **PLAIN)
    assert "features are streamed" in said.readouterr().out
    assert json.loads((tmp_path / "run/environment.json").read_text())["streamed"] is True
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(whole / "plain"), rtol=0, atol=1e-5)


def test_what_takes_over_half_of_the_memory_is_streamed(dataset, tmp_path, monkeypatch):
    size = 4 * sum(tiny.DIMS.values()) * (58 + 13)
    for memory, expected in ((2 * size, False), (2 * size - 1, True)):
        monkeypatch.setattr(feed, "memory", lambda memory=memory: memory)
        (train_flat, _), streamed = feed.load_flat(
            store.load(dataset), [["train"], ["dev"]], dims=tiny.DIMS, sequence_dims={}, dtype="float32", mode="auto",
            folder=tmp_path,
        )  # fmt: skip
        assert streamed is expected
        assert isinstance(train_flat.features["text"], np.memmap) is expected
        assert not any(tmp_path.iterdir())


def test_a_streamed_piece_takes_a_small_part_of_the_memory(monkeypatch):
    flat = flatten(tiny.dialogues([8] * 16), utterances=128, dims=tiny.DIMS, sequences={})
    size = sum(x.nbytes for x in jax.tree.leaves(flat)) / len(flat.mask)
    streamed = feed.Feed(flat, Placement(seeds=1, devices=1), streamed=True)
    index = np.arange(128, dtype=np.int32).reshape(16, 1, 8)
    for utterances, pieces in ((1000, 1), (64, 2), (16, 8)):
        monkeypatch.setattr(feed, "memory", lambda room=utterances: 64 * size * room)
        assert len(list(streamed.pieces([index]))) == pieces


def test_processes_train_as_one(dataset, whole, root, tmp_path):
    """Two processes of two devices each, by the command line."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    config = tmp_path / "tiny_config.py"
    config.write_text(
        "import sys\nfrom pathlib import Path\n"
        f"sys.path.insert(0, {str(root / 'tests')!r})\nimport tiny\n"
        f"def get_config():\n    return tiny.config(Path({str(dataset)!r}), **{PLAIN} | {{'devices': 0}})\n"
    )
    command = [sys.executable, "-m", "jmer.train", "--config", config, f"--workdir={tmp_path / 'run'}"]
    command += [f"--coordinator=localhost:{port}", "--processes=2"]
    environment = os.environ | {"XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=4", "device_count=2")}
    processes = [
        subprocess.Popen([*command, f"--process={i}"], env=environment, cwd=root, stdout=subprocess.PIPE, text=True)
        for i in range(2)
    ]
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert "shared out among 4 devices" in said[0]
    assert "epoch " in said[0]
    assert "epoch " not in said[1]
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(whole / "plain"), rtol=0, atol=1e-5)
    assert directory.load(tmp_path / "run").progress.epoch == 4


def test_bfloat16_features_train_nearly_alike(dataset, whole, tmp_path):
    tiny.train(dataset, tmp_path / "run", data_dtype="bfloat16", **PLAIN)
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(whole / "plain"), rtol=0.02)
    assert losses(tmp_path / "run") != losses(whole / "plain")
    # It reads such features later too.
    run, (dialogue, _) = directory.load(tmp_path / "run"), store.load(dataset).split("dev")
    rounded = {m: x.astype(ml_dtypes.bfloat16).astype(np.float32) for m, x in dialogue.values.items()}
    assert all((rounded[m] != x).any() for m, x in dialogue.values.items())
    for a, b in zip(
        voting.predict_features(run, [dialogue])[0],
        voting.predict_features(run, [dataclasses.replace(dialogue, values=rounded)])[0],
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


class Traced(Objective):
    def __call__(self, outputs: Output, batch: Batch) -> jax.Array:
        return once(outputs, batch)


PLAIN_LOSS = {"options": ObjectiveOptions(), "counts": (500, 500, 500)}
once: Callable[..., Any] = chex.assert_max_traces(n=1)(lambda outputs, batch: Objective(**PLAIN_LOSS)(outputs, batch))


@pytest.fixture(scope="module")
def train_on():
    """A function that trains so many epochs of 50 updates more; tracing the update again is an error."""
    dialogues, model = tiny.dialogues([4] * 400), tiny.model()
    plan = Plan([4] * 400, batch_utterances=32)
    optimizer = make_optimizer(OptimizerOptions(epochs=2000, warmup=0.0, weight_decay=0.0), steps_per_epoch=50)
    placement = Placement(seeds=1, devices=1)
    train_epoch = steps.make_train_epoch(model, optimizer, Traced(**PLAIN_LOSS), placement)
    flat = flatten(dialogues, utterances=1600, dims=tiny.DIMS, sequences={})
    flat, stats = put((flat, steps.feature_stats(flat)), placement.everywhere)
    state = put(steps.init_state(model, optimizer, seeds=[0]), placement.state)

    def train_on(epochs: int) -> None:
        nonlocal state
        before = int(state.step[0])
        for epoch in range(epochs):
            (index,) = plan.epoch(epoch, seeds=[0])
            state, _ = train_epoch(state, stats, flat, put(index, placement.everywhere))
        assert int(state.step[0]) == before + 50 * epochs

    return train_on


def test_an_epoch_is_traced_once(train_on):
    train_on(3)


def test_ten_thousand_steps_leave_memory_as_it_was(train_on):
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    train_on(20)
    before = resident()
    train_on(200)
    assert resident() < 1.01 * before
