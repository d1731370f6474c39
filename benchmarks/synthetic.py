"""What the benchmarks on made-up dialogues share: a corpus, what trains on it, times, processes, results."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jmer_step import LABELS

from jmer.base.options import from_config
from jmer.base.types import MODALITIES, UNLABELLED, Features
from jmer.config import Config
from jmer.dataset.flat import flatten
from jmer.dataset.plan import Plan
from jmer.nn.model import Model
from jmer.runs import building
from jmer.training import steps
from jmer.training.devices import Placement, put
from jmer.training.feed import Feed
from jmer.training.optim import make_optimizer
from jmer.training.options import TrainOptions

RESULTS = Path(__file__).parent / "results"
MIB = 2**20


def lengths_like_meld(utterances: int) -> list[int]:
    """Dialogues of 1 to 24 utterances, about so many utterances in all."""
    return np.random.default_rng(0).integers(1, 25, size=max(1, utterances * 2 // 25)).tolist()


def dialogues(lengths: Sequence[int], *, dim: int) -> list[Features]:
    """Dialogues of these lengths, of up to 5 speakers, with random features, D in each modality, and random labels."""
    rng, total = np.random.default_rng(0), sum(lengths)
    values = {m: rng.standard_normal((total, dim), np.float32) for m in MODALITIES}
    labels = rng.integers(len(LABELS), size=total, dtype=np.int32)
    speakers = rng.integers(5, size=total)
    present, unlabelled, names = np.ones(total, np.bool_), np.full(total, UNLABELLED, np.int32), tuple("abcde")
    made, start = [], 0
    for i, length in enumerate(lengths):
        part = slice(start, start + length)
        made.append(
            Features(
                dialogue_id=str(i),
                utterance_ids=("",) * length,
                speakers=tuple(names[s] for s in speakers[part]),
                texts=("",) * length,
                labels=labels[part],
                sentiments=unlabelled[part],
                values={m: x[part] for m, x in values.items()},
                present=dict.fromkeys(MODALITIES, present[part]),
            )
        )
        start += length
    return made


class Training(NamedTuple):
    """Ready to train; `train_epoch` takes `state`, `stats` and a piece of `feed`.

    seconds: what laying out, flattening and initialising took.
    """

    model: Model
    plan: Plan
    train_epoch: Any
    state: steps.State
    stats: dict[str, Any]
    feed: Feed
    seconds: dict[str, float]


def training(corpus: Sequence[Features], config: Config, *, seeds: Sequence[int]) -> Training:
    """What `jmer.train` sets up for a corpus, with the clock running."""
    dims = {m: corpus[0].values[m].shape[1] for m in MODALITIES}
    seconds, start = {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal start
        seconds[name], start = time.perf_counter() - start, time.perf_counter()

    placement, lengths = Placement(seeds=len(seeds), devices=config.devices), [len(d) for d in corpus]
    plan = Plan(lengths, batch_utterances=config.batch_utterances)
    lap("plan")
    flat = flatten(corpus, utterances=sum(lengths), dims=dims, sequences={})
    feed = Feed(flat, placement, streamed=config.data_mode == "streamed")
    lap("flatten")
    stats = put(steps.feature_stats(flat), placement.everywhere)
    lap("statistics")
    options, counts = from_config(TrainOptions, config), np.bincount(flat.label[:-1], minlength=len(LABELS))
    model = building.make_model(options, dims=dims, sequence_dims={}, labels=LABELS)
    objective = building.make_objective(options, labels=LABELS, counts=counts)
    optimizer = make_optimizer(lr=1e-3, total_steps=10**6, warmup=0.0, weight_decay=0.01, clip_norm=1.0)
    train_epoch = steps.make_train_epoch(model, optimizer, objective, placement)
    state = put(steps.init_state(model, optimizer, seeds=seeds), placement.state)
    lap("init")
    return Training(model, plan, train_epoch, state, stats, feed, seconds)


def seconds_of(calls: Mapping[str, Callable[[], Any]], *, budget: float, least: int = 3) -> dict[str, list[float]]:
    """How long each call takes, again and again by turns, until `budget` seconds have gone but `least` times at least.

    Each is called once before that and not counted.
    """
    found: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call())
    begin, turns = time.perf_counter(), 0
    while turns < least or time.perf_counter() - begin < budget:
        turns += 1
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            found[name].append(time.perf_counter() - start)
    return found


def spread(values: Sequence[float], *, scale: float = 1.0, digits: int = 3) -> str:
    """Median and, in brackets, least to most."""
    middle, low, high = (f"{scale * x:.{digits}g}" for x in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


def exponent(sizes: Sequence[float], figures: Sequence[float]) -> float:
    """The slope of a straight line through the logarithms; 1 is linear growth."""
    return float(np.polyfit(np.log(sizes), np.log(figures), 1)[0])


def peak_memory() -> float:
    """MiB, the most that this process has held; `ru_maxrss` would begin with what its parent held."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in status if line.startswith("VmHWM"))) / 1024


def in_process(script: str, job: Mapping[str, Any]) -> dict[str, Any]:
    """Runs `script --job=JSON` in a process of its own; returns what it printed last, read as JSON.

    Raises:
      RuntimeError: it failed.
    """
    command = [sys.executable, script, f"--job={json.dumps(job)}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{job} ended with status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def machine() -> str:
    cpu = next((li.split(": ")[1] for li in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in li), "")
    cores = len(os.sched_getaffinity(0))
    return f"{platform.machine()}, {cpu}, {cores} cores, Python {platform.python_version()}, jax {jax.__version__}"


def write(name: str, lines: Sequence[str], kept: Any, *, keep: bool) -> None:
    """Prints a report and, with `keep`, writes it to results/NAME.md and its figures to NAME.json."""
    print("\n".join(lines))
    if keep:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n")
        (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
