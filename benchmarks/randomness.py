"""What random masks cost in an epoch: jmer's hash of key and position, against JAX's own generators.

    python benchmarks/randomness.py [--quick]

    none      no mask is drawn, the price of everything else
    hash      `jmer.base.masks`: keys from Flax's `make_rng`, the bits of a mask by an integer hash
    threefry  the same keys, the bits by `jax.random.bernoulli`
    rbg       keys of JAX's `rbg` generator, the bits by `jax.random.bernoulli`

An epoch trains the default model with its default rates on dialogues like those of MELD's train split. Every row runs
in a process of its own, round after round; compilation is timed apart.
"""

import json
import sys
import time
from collections.abc import Sequence
from unittest import mock

import jax
import numpy as np
from jmer_step import STEADY
from synthetic import dialogues, in_process, lengths_like_meld, machine, spread, training, write

from jmer.base import cli, masks
from jmer.graph import speaker
from jmer.training.devices import share_cores
from jmer.training.options import TrainOptions

ROWS = ("none", "hash", "threefry", "rbg")
DIM = 768


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="few dialogues, one round; nothing is written")
    parser.add_argument("--job", default="", help="used by the script itself")
    args = cli.parse(parser, argv)
    if args.job:
        print(json.dumps(measure(**json.loads(args.job))))
        return cli.EXIT_OK
    utterances, rounds = (500, 1) if args.quick else (9_989, 5)
    found: dict[str, dict[str, list[float]]] = {row: {"compile": [], "epoch": []} for row in ROWS}
    for _ in range(rounds):
        for row in ROWS:
            for name, values in in_process(__file__, {"row": row, "utterances": utterances}).items():
                found[row][name] += values
    write("randomness", table(found), {"about": machine(), "rows": found}, keep=not args.quick)
    return cli.EXIT_OK


def measure(*, row: str, utterances: int) -> dict[str, list[float]]:
    """Seconds of the compilation, and of each of three epochs."""
    share_cores(1)
    off = dict.fromkeys(("dropout", "drop_node"), 0.0) if row == "none" else {}
    options = TrainOptions(hidden=256, **off, **STEADY)
    if row == "rbg":
        jax.config.update("jax_default_prng_impl", "rbg")
    draw = bernoulli if row in ("threefry", "rbg") else masks.keep_mask
    with mock.patch.object(masks, "keep_mask", draw), mock.patch.object(speaker, "keep_mask", draw):
        _, plan, train_epoch, state, stats, feed, _ = training(
            dialogues(lengths_like_meld(utterances), dim=DIM), options, seeds=(0,)
        )
        ((flat, index),) = feed.pieces(plan.epoch(0, seeds=(0,)))
        start = time.perf_counter()
        program = train_epoch.lower(state, stats, flat, index).compile()
        compiling, epochs = time.perf_counter() - start, []
        for _ in range(3):
            start = time.perf_counter()
            state, _ = jax.block_until_ready(program(state, stats, flat, index))
            epochs.append(time.perf_counter() - start)
    return {"compile": [compiling], "epoch": epochs}


def bernoulli(key: jax.Array, shape: tuple[int, ...], *, rate: float) -> jax.Array:
    return jax.random.bernoulli(key, np.float32(1 - rate), shape)


def table(found: dict[str, dict[str, list[float]]]) -> list[str]:
    base = float(np.median(found["none"]["epoch"]))
    lines = [
        "# Random masks: seconds of an epoch and of its compilation",
        "",
        f"{machine()}; median (least to most).",
        "",
        "| masks | epoch, s | above none | compilation, s |",
        "|---|---|---|---|",
    ]
    for row, seconds in found.items():
        above = float(np.median(seconds["epoch"])) / base - 1
        lines.append(f"| {row} | {spread(seconds['epoch'])} | {above:.0%} | {spread(seconds['compile'])} |")
    return lines


if __name__ == "__main__":
    sys.exit(cli.run(main))
