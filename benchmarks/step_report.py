"""The tables of step_time.py, as Markdown."""

import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ONE_SEED, ALL_SEEDS, SEEDS = "jmer", "jmer, 8 seeds in one program", 8

WHAT = """\
All models have the same sizes and weights: three modalities of 768 random features, BiGRU 256, gated fusion, R-GCN 256
over 8 relations, GAT 256 with 8 heads, focal loss, AdamW; on the dialogues of MELD's train split. Their logits agreed
to 1e-4 before they were timed: in float32, and once more as compiled. jmer's bfloat16 rounds the factors of large
products, PyTorch's is autocast. Rows were timed by turns; a figure is the median,
with the least and the most in brackets."""
EPOCH = """\
## An epoch

From features in memory to updated weights, with all that makes the batches. `seed` builds its graphs in Python for
every batch, the others once. What is slower than jmer has more than 1 in the last column."""
OTHERS = """\
## A step, an evaluation, a prediction

A step is one update on a batch of about the mean size, with the gathering of it. An evaluation is a pass over the same
corpus that ends in a confusion matrix. A prediction is of one dialogue of 10 utterances, from features in host memory
to probabilities there, its graph built anew; jmer's is `predict_features`, by all 8 seeds in that row."""
COMPILATION = """\
## Compilation

Seconds of initialisation, an epoch and an evaluation in a fresh process: `cold` with no compiled program on the disk,
`warm` with those that `cold` left, where a row keeps any. `start` comes before: interpreter, imports, reading the
corpus, and graphs that are built once."""
PRODUCTS = """\
## Products

GFLOP/s of single products at the shapes of the model, in each library; a' is a matrix that is kept transposed, as in
the gradient of a weight. Of bfloat16 factors the result is float32 in jmer, bfloat16 in PyTorch."""


def report(measured: Sequence[Any], products: Mapping[str, Any], args: Any) -> str:
    """The whole file.

    Args:
      measured: `step_time.Measured`, a row each.
      products: of `step_time.measure`.
    """
    parts = ["# Seconds of training, evaluation and prediction", about(measured, args), WHAT]
    parts += [EPOCH, epochs(measured)]
    parts += [OTHERS, table(measured, others)]
    parts += [COMPILATION, table(measured, compilation)]
    parts += [PRODUCTS, product_table(products)]
    if args.device == "cpu":
        parts.append("GPU: not measured (no device)")
    return "\n\n".join(parts) + "\n"


def about(measured: Sequence[Any], args: Any) -> str:
    """Machine, versions and repeats."""
    cpu = next((li.split(": ")[1] for li in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in li), "")
    lines = [
        f"{platform.machine()}, {cpu}, {args.threads} of {os.cpu_count()} cores, as many threads; {args.repeats} turns."
    ]
    sides = {"PyTorch" if "graph" in m.row.settings else "jmer": m.about for m in measured if not m.failed}
    for side, said in sides.items():
        lines.append(
            f"{side}: " + ", ".join(f"{name} {value}" for name, value in said.items() if name != "batches") + "."
        )
        if "batches" in said:
            lines.append("Its batches: " + ", ".join(f"{j} of {b} rows of {u}" for j, b, u in said["batches"]) + ".")
    return "\n".join(lines)


def table(measured: Sequence[Any], columns: Callable[[Mapping[str, list[float]], Any], dict[str, str]]) -> str:
    """A line a row, with what `columns` makes of its seconds; a row that failed says why."""
    lines = []
    for m in measured:
        cells = columns(m.seconds, m)
        if not lines:
            lines += [f"| row | {' | '.join(cells)} |", "|---" * (len(cells) + 1) + "|"]
        failed = f"fails: {m.failed[:200]}".replace("|", "/")
        lines.append(f"| {m.row.name} | {failed if m.failed else ' | '.join(cells.values())} |")
    return "\n".join(lines)


def epochs(measured: Sequence[Any]) -> str:
    medians = {m.row.name: statistics.median(m.seconds["epoch"]) for m in measured if "epoch" in m.seconds}
    jmer = medians.get(ONE_SEED)

    def ratio(value: float) -> str:
        return f"{value / jmer:.2f}" if jmer else ""

    def columns(seconds: Mapping[str, list[float]], m: Any) -> dict[str, str]:
        each = seconds.get("epoch", [])
        return {
            "seconds": spread(each),
            "times": str(len(each)),
            "relative to jmer": ratio(medians[m.row.name]) if each else "",
        }

    lines = table(measured, columns)
    if jmer and ALL_SEEDS in medians:
        lines += f"\n| jmer, {SEEDS} seeds one after another ({SEEDS} x jmer) | {SEEDS * jmer:.3g} | | {SEEDS:.2f} |"
    return lines


def others(seconds: Mapping[str, list[float]], m: Any) -> dict[str, str]:
    calls = [1000 * s for s in seconds.get("latency", [])]
    middle, late = (f"{np.percentile(calls, q):.2f}" if calls else "" for q in (50, 99))
    return {
        "step, ms": spread([1000 * s for s in seconds.get("step", [])]),
        "of utterances": str(m.utterances),
        "evaluation, s": spread(seconds.get("evaluation", [])),
        "prediction, ms: p50": middle,
        "p99": late,
        "of calls": str(len(calls)),
    }


def compilation(seconds: Mapping[str, list[float]], _: Any) -> dict[str, str]:
    again = sum(statistics.median(seconds[name]) for name in ("epoch", "evaluation") if name in seconds)
    return {
        "start": f"{statistics.median(seconds['start']):.1f}",
        **{name: ", ".join(f"{s:.1f}" for s in seconds.get(name, [])) for name in ("cold", "warm")},
        "later epoch and evaluation": f"{again:.1f}",
    }


def product_table(products: Mapping[str, Mapping[str, Mapping[str, list[float]]]]) -> str:
    """products: seconds by library, dtype and shape."""
    columns = [(library, dtype) for library, found in products.items() for dtype in found]
    lines = [f"| shape | {' | '.join(' '.join(c) for c in columns)} |", "|---" * (len(columns) + 1) + "|"]
    for shape in dict.fromkeys(shape for found in products.values() for each in found.values() for shape in each):
        m, k, n = map(int, shape.rstrip("'").split("x"))
        rates = [[2e-9 * m * k * n / s for s in products[library][dtype].get(shape, [])] for library, dtype in columns]
        lines.append(f"| {shape} | {' | '.join(map(spread, rates))} |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Median (least to most)."""
    if not values:
        return ""
    middle, least, most = (f"{x:#.3g}".rstrip(".") for x in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({least} to {most})"
