"""How time and memory grow with the length of dialogues, the size of the corpus and the number of seeds.

    python benchmarks/scaling.py [--quick] [--tables=length,corpus,seeds,devices]

Random features, 3 x 64; BiGRU, gated fusion, R-GCN, GAT, hidden size 64; an epoch of training without its compilation.

    length   10,000 utterances in ever longer dialogues, batches of 1,024; as configured, with the graph's form pinned
             to dense, and with a transformer, whose attention is dense, for the BiGRU; time and memory a dialogue
    corpus   dialogues of 1 to 24 utterances, batches of 1,024; resident on the device, and streamed from memory
    seeds    the same, 5,000 utterances, batches of 256, all seeds in one program, which shares them out among the cores
             (a figure a seed that stays the same, an exponent of 0, is linear growth)
    devices  the rows of every batch shared out among simulated devices, which have no more cores than one

Every measurement is a process of its own. `memory` is its peak less what it held after its imports; `temp` is what the
compiled epoch asks for beside its arguments and results. An exponent is the slope of a straight line through the
logarithms of all sizes: 1 is linear growth, and `last` is that of the two largest sizes alone, where fixed costs count
least.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jmer_step import STEADY
from synthetic import MIB, dialogues, exponent, in_process, lengths_like_meld, machine, peak_memory, training, write

from jmer.base import cli
from jmer.training.devices import share_cores
from jmer.training.options import TrainOptions

DIM, HIDDEN = 64, 64


@dataclass(frozen=True, kw_only=True)
class Table:
    """What grows, and what is measured of it.

    sizes: ascending; quick: those of a trial.
    job: of a size, the arguments of `measure`.
    columns: what is shown of a measurement, one figure a size.
    """

    title: str
    sizes: Sequence[int]
    quick: Sequence[int]
    job: Callable[[int], dict[str, Any]]
    columns: dict[str, Callable[[dict[str, Any]], float]]


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes; nothing is written")
    parser.add_argument("--tables", default=",".join(TABLES), help="which of them; all are needed to write results")
    parser.add_argument("--job", help="one measurement, as JSON; used by the script itself")
    args = parser.parse_args(argv)
    if args.job:
        print(json.dumps(measure(**json.loads(args.job))))
        return cli.EXIT_OK
    lines, kept = ["# Growth of time and memory", "", f"{machine()}."], {}
    for name in args.tables.split(","):
        table, sizes = TABLES[name], TABLES[name].quick if args.quick else TABLES[name].sizes
        kept[name] = {}
        for size in sizes:
            kept[name][size] = in_process(__file__, table.job(size))
            print(name, size, kept[name][size], file=sys.stderr, flush=True)
        lines += report(table, kept[name])
    write("scaling", lines, {"about": machine(), **kept}, keep=not args.quick and set(kept) == set(TABLES))
    return cli.EXIT_OK


def report(table: Table, found: dict[int, dict[str, Any]]) -> list[str]:
    """A table with a row a size and the exponents of each column below."""
    sizes = list(found)
    figures = {name: [of(found[size]) for size in sizes] for name, of in table.columns.items()}
    lines = ["", f"## {table.title}", "", f"| size | {' | '.join(figures)} |", "|---" * (len(figures) + 1) + "|"]
    for i, size in enumerate(sizes):
        lines.append(f"| {size:,} | {' | '.join(f'{column[i]:.3g}' for column in figures.values())} |")
    for name, part in (("exponent", slice(None)), ("exponent, last", slice(-2, None))):
        slopes = [exponent(sizes[part], column[part]) for column in figures.values()]
        lines.append(f"| {name} | {' | '.join(f'{slope:.2f}' for slope in slopes)} |")
    return lines


def measure(
    *,
    lengths: Sequence[int] | int,
    batch_utterances: int,
    seeds: int,
    repeats: int,
    variants: dict[str, Any],
    devices: int = 0,
) -> dict[str, Any]:
    """Seconds and MiB of training.

    lengths: of each dialogue, or how many utterances in all.
    variants: what is changed in the config, by name; `memory` is the peak after the first.
    devices: to simulate; 0 for as many as jmer.train makes of the cores.
    """
    if devices:
        jax.config.update("jax_num_cpu_devices", devices)
    else:
        share_cores(seeds)
    imports = peak_memory()
    corpus = dialogues(lengths_like_meld(lengths) if isinstance(lengths, int) else lengths, dim=DIM)
    result: dict[str, Any] = {"dialogues": len(corpus), "utterances": sum(map(len, corpus))}
    for name, changes in variants.items():
        fixed = {"hidden": HIDDEN, "batch_utterances": batch_utterances, "devices": devices, **STEADY}
        options = TrainOptions(**fixed, **changes)
        jax.clear_caches()
        result[name] = measured = epochs(corpus, options, seeds=tuple(range(seeds)), repeats=repeats)
        result.setdefault("memory", peak_memory() - imports)
        result["steps"] = measured.pop("steps")
    return result


def epochs(corpus: Sequence[Any], options: TrainOptions, *, seeds: Sequence[int], repeats: int) -> dict[str, Any]:
    """Seconds of every part, `index` and `epoch` as medians, and `temp` in MiB."""
    _, plan, train_epoch, state, stats, feed, seconds = training(corpus, options, seeds=seeds)
    programs: dict[tuple[int, ...], Any] = {}
    index_seconds, epoch_seconds, compiling = [], [], 0.0
    for utterances, index in feed.pieces(plan.epoch(0, seeds=seeds)):
        if index.shape not in programs:
            start = time.perf_counter()
            programs[index.shape] = train_epoch.lower(state, stats, utterances, index).compile()
            compiling += time.perf_counter() - start
    for number in range(repeats):
        start = time.perf_counter()
        indices = plan.epoch(number, seeds=seeds)
        index_seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
        for utterances, index in feed.pieces(indices):
            state, _ = programs[index.shape](state, stats, utterances, index)
        jax.block_until_ready(state)
        epoch_seconds.append(time.perf_counter() - start)
    return {
        **seconds,
        "seeds": len(seeds),
        "index": statistics.median(index_seconds),
        "compile": compiling,
        "epoch": statistics.median(epoch_seconds),
        "epochs": epoch_seconds,
        "temp": max(program.memory_analysis().temp_size_in_bytes for program in programs.values()) / MIB,
        "steps": plan.steps,
    }


# ---- the tables ------------------------------------------------------------------------------------------------------


def _of_dialogue(variant: str, figure: str) -> Callable[[dict[str, Any]], float]:
    """Milliseconds of an epoch, or KiB of a batch, for each dialogue in it."""
    if figure == "temp":
        return lambda r: 1024 * r[variant]["temp"] * r["steps"] / r["dialogues"]
    return lambda r: 1000 * r[variant][figure] / r["dialogues"]


TABLES = {
    "length": Table(
        title="Length of dialogues, with 10,000 utterances in all",
        sizes=(10, 30, 100, 300, 1000),
        quick=(10, 100),
        job=lambda size: {
            "lengths": [size] * (10_000 // size),
            "batch_utterances": 1024,
            "seeds": 1,
            "repeats": 3,
            "variants": {
                "default": {},
                "dense": {"graph_form": "dense"},
                "transformer": {"encoder": "transformer"},
            },
        },
        columns={
            f"{shown} a dialogue, {name}": _of_dialogue(name, figure)
            for shown, figure in (("ms", "epoch"), ("temp KiB", "temp"))
            for name in ("default", "dense", "transformer")
        },
    ),
    "corpus": Table(
        title="Utterances of the corpus",
        sizes=(10_000, 100_000, 1_000_000),
        quick=(1_000, 4_000),
        job=lambda size: {
            "lengths": size,
            "batch_utterances": 1024,
            "seeds": 1,
            "repeats": min(5, max(1, 300_000 // size)),
            "variants": {"default": {}, "streamed": {"data_mode": "streamed"}},
        },
        columns={
            "plan, s": lambda r: r["default"]["plan"],
            "flatten, s": lambda r: r["default"]["flatten"],
            "statistics, s": lambda r: r["default"]["statistics"],
            "an epoch's index, s": lambda r: r["default"]["index"],
            "epoch, s": lambda r: r["default"]["epoch"],
            "epoch, streamed, s": lambda r: r["streamed"]["epoch"],
            "memory, MiB": lambda r: r["memory"],
        },
    ),
    "seeds": Table(
        title="Seeds in one program, with 5,000 utterances",
        sizes=(1, 2, 4, 8, 16, 32),
        quick=(1, 2),
        job=lambda size: {
            "lengths": 5_000,
            "batch_utterances": 256,
            "seeds": size,
            "repeats": 3,
            "variants": {"default": {}},
        },
        columns={
            "epoch, s": lambda r: r["default"]["epoch"],
            "epoch, s a seed": lambda r: r["default"]["epoch"] / r["default"]["seeds"],
            "compile, s": lambda r: r["default"]["compile"],
            "temp, MiB": lambda r: r["default"]["temp"],
            "memory, MiB": lambda r: r["memory"],
        },
    ),
    "devices": Table(
        title="Simulated devices, which share the same cores, with 5,000 utterances",
        sizes=(1, 2, 4),
        quick=(1, 2),
        job=lambda size: {
            "lengths": 5_000,
            "batch_utterances": 256,
            "seeds": 1,
            "repeats": 3,
            "variants": {"default": {}},
            "devices": size,
        },
        columns={
            "epoch, s": lambda r: r["default"]["epoch"],
            "compile, s": lambda r: r["default"]["compile"],
            "memory, MiB": lambda r: r["memory"],
        },
    ),
}


if __name__ == "__main__":
    sys.exit(cli.run(main))
