"""How near training and evaluation come to what this machine could do at best.

    python benchmarks/roofline.py [--quick]

The model and batches of step_time.py (3 x 768 features, hidden 256, 312 utterances a batch) on dialogues of 1 to 24
utterances, with random features. The limit of a program is the longer of two times,

    products   its floating-point operations / the rate of the quickest matrix product at the model's shapes
    memory     the bytes that must move at least / the rate of adding 1 to a large array where it lies, read and written

and what is reached is the limit / the measured time. The bytes that must move at least are, a step and seed: in
training, the parameters and AdamW's two moments read and written once; in evaluation, the parameters read; in both, the
batch's features read. What lies in between (activations, gradients) might stay in a cache. `bytes accessed` is XLA's
own count, every operand and result of every fused operation; it bounds nothing, and is shown beside it.

Operations are XLA's `cost_analysis()` of one step of one seed, times the seeds. XLA counts the body of a loop once,
however often it runs: the GRU's loops would be missing but for one step in 24. So the counted program has its scans
unrolled, and the timed one not. `products by hand` checks it: 2 M N K for every matrix product in the step's jaxpr,
times the lengths of the scans that it is in. XLA's count, which has the element-wise operations too, must not be below
it nor above 1.25 times it. The jaxpr's forward count was in turn compared with a sum over the layers' shapes, 6.08
MFLOP an utterance in rows of 24 (1.18 input, 1.18 + 0.59 GRU, 0.39 + 1.18 fusion, 1.28 R-GCN, 0.15 GAT, 0.13 head):
1.90 GFLOP a batch of 312, the same.
"""

import dataclasses
import functools
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params
from jax.interpreters.partial_eval import dce_jaxpr
from jmer_step import options_of
from synthetic import dialogues, lengths_like_meld, machine, seconds_of, spread, training, write

from jmer.base import cli
from jmer.dataset.plan import evaluation_plan
from jmer.training import steps
from jmer.training.devices import share_cores
from jmer.training.options import TrainOptions

DIM, BATCH_UTTERANCES = 768, 312
MODEL = {"hidden": 256, "heads": 8}
SEEDS = 8
# Rows, inner and columns of products in the model: input, GRU, gates, R-GCN; of one batch and of eight seeds' at once.
SHAPES = [(m, k, n) for k, n in ((768, 256), (256, 768), (768, 768), (2048, 256)) for m in (312, 2496)]
ARRAY = 2**28  # bytes, beyond any cache


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="little data, one seed; nothing is written")
    args = parser.parse_args(argv)
    share_cores(SEEDS)
    rates = measured_rates(budget=0.2 if args.quick else 2.0)
    corpus = dialogues(lengths_like_meld(600 if args.quick else 5_000), dim=DIM)
    counts = count(corpus)
    rows = [row for seeds in ((1,) if args.quick else (1, SEEDS)) for row in measure(corpus, counts, seeds, repeats=5)]
    lines = table(rates, rows)
    write("roofline", lines, {"about": machine(), "rates": rates, "rows": rows}, keep=not args.quick)
    return cli.EXIT_OK


def measured_rates(*, budget: float) -> dict[str, Any]:
    """Operations a second of each product, and bytes a second of a pass over an array; medians."""
    rng = np.random.default_rng(0)
    product, calls = jax.jit(jnp.matmul), {}
    for m, k, n in SHAPES:
        a, b = (jnp.array(rng.standard_normal(shape, np.float32)) for shape in ((m, k), (k, n)))
        calls[f"{m} x {k} x {n}"] = functools.partial(product, a, b)
    seconds = seconds_of(calls, budget=budget, least=20)
    products = {
        name: 2 * math.prod(shape) / statistics.median(seconds[name]) for name, shape in zip(calls, SHAPES, strict=True)
    }
    add, x = jax.jit(lambda x: x + 1, donate_argnums=0), jnp.zeros(ARRAY // 4, jnp.float32)

    def pass_over() -> jax.Array:
        nonlocal x
        x = add(x)
        return x

    passes = seconds_of({"pass": pass_over}, budget=budget)["pass"]
    return {"products": products, "product": max(products.values()), "memory": 2 * ARRAY / statistics.median(passes)}


def count(corpus: Sequence[Any]) -> dict[str, tuple[dict[str, float], float]]:
    """What a step takes, by program: of each seed, and the bytes that are read once for all.

    Counted on one seed and device, whose program has no loop over seeds.
    """
    model, plan, train_epoch, state, stats, feed, _ = training(corpus, step_options(devices=1), seeds=(0,))
    ((flat, index),) = feed.pieces(plan.epoch(0, seeds=(0,)))  # [J, S, B, U]
    ((_, eval_index),) = feed.pieces(eval_plan(corpus))
    parameters = 4 * sum(x.size for x in jax.tree.leaves(state.params))
    features = 4 * DIM * len(model.dims)  # of an utterance
    trained = counted(train_epoch, state, stats, flat, index[:1])
    trained |= {"utterances": index[0].size, "bytes": 6 * parameters + features * index[0].size}
    evaluated = counted(functools.partial(steps.confusion, model), state.params, stats, flat, eval_index[:1])
    evaluated |= {"utterances": eval_index[0].size, "bytes": parameters}
    return {"training": (trained, 0), "evaluation": (evaluated, features * eval_index[0].size)}


def measure(
    corpus: Sequence[Any], counts: Mapping[str, tuple[Mapping[str, float], float]], seeds: int, *, repeats: int
) -> list[dict[str, Any]]:
    """A row of training and one of evaluation."""
    options = step_options(devices=1 if seeds == 1 else 0)  # as jmer.train would; `main` has made devices for SEEDS
    model, plan, train_epoch, state, stats, feed, _ = training(corpus, options, seeds=range(seeds))
    ((flat, index),) = feed.pieces(plan.epoch(0, seeds=range(seeds)))
    ((_, eval_index),) = feed.pieces(eval_plan(corpus))
    confusion = functools.partial(steps.confusion, model)

    def evaluate() -> None:
        jax.block_until_ready(confusion(state.params, stats, flat, eval_index))

    def train() -> None:
        nonlocal state
        state, _ = train_epoch(state, stats, flat, index)
        jax.block_until_ready(state)

    rows = []
    for name, epoch, batches in (("training", train, index), ("evaluation", evaluate, eval_index)):
        of_seed, shared_bytes = counts[name]
        row = {key: seeds * x for key, x in of_seed.items()}
        row["bytes"] += shared_bytes
        epoch()  # compiles
        seconds = [timed(epoch) / len(batches) for _ in range(repeats)]
        rows.append({"program": name, "seeds": seeds, "steps": len(batches), **row, "seconds": seconds})
    return rows


def step_options(*, devices: int) -> TrainOptions:
    return dataclasses.replace(options_of(MODEL), batch_utterances=BATCH_UTTERANCES, devices=devices)


def eval_plan(corpus: Sequence[Any]) -> list[np.ndarray]:
    return evaluation_plan([len(d) for d in corpus], batch_utterances=BATCH_UTTERANCES)


def timed(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def counted(function: Callable[..., Any], *args: Any) -> dict[str, float]:
    """Operations and bytes of a call, by XLA and by hand.

    Raises:
      RuntimeError: they do not fit each other.
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    by_hand = products(dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0])  # without what nothing asks for
    jax.clear_caches()  # of traces with loops
    with mock.patch.object(jax.lax, "scan", functools.partial(jax.lax.scan, unroll=True)):
        compiled = jax.jit(function).lower(*args).compile()
    jax.clear_caches()  # of traces without
    cost = compiled.cost_analysis()
    assert cost is not None
    if not by_hand <= cost["flops"] <= 1.25 * by_hand:
        raise RuntimeError(f"XLA counts {cost['flops']:.4g} operations, the products alone have {by_hand:.4g}")
    return {"flops": cost["flops"], "products": by_hand, "accessed": cost["bytes accessed"]}


def products(jaxpr: Any) -> float:
    """Operations of the matrix products in a jaxpr and those inside it; 2 for a multiplication and an addition."""
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            inner = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2.0 * inner * equation.outvars[0].aval.size
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += times * sum(products(inner) for inner in jaxprs_in_params(equation.params))
    return total


def table(rates: dict[str, Any], rows: Sequence[dict[str, Any]]) -> list[str]:
    best = max(rates["products"], key=rates["products"].get)
    lines = [
        "# Time of a step against the machine's limit",
        "",
        f"{machine()}; quickest product {rates['product'] / 1e9:.0f} GFLOP/s ({best}), memory "
        f"{rates['memory'] / 1e9:.1f} GB/s. 3 x {DIM} features; utterances are those of a step and all "
        "seeds, padding too; time is median (least to most).",
        "",
        "| program | seeds | utterances | GFLOP | products by hand | MB at least | bytes accessed, MB | products, ms "
        "| memory, ms | limit, ms | measured, ms | reached |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        arithmetic, memory = row["flops"] / rates["product"], row["bytes"] / rates["memory"]
        limit = max(arithmetic, memory)
        cells = [
            row["program"],
            str(row["seeds"]),
            str(row["utterances"]),
            f"{row['flops'] / 1e9:.2f}",
            f"{row['products'] / 1e9:.2f}",
        ]
        cells += [f"{row['bytes'] / 1e6:.1f}", f"{row['accessed'] / 1e6:.0f}"]
        cells += [f"{1000 * x:.1f}" for x in (arithmetic, memory, limit)]
        cells += [spread(row["seconds"], scale=1000), f"{limit / statistics.median(row['seconds']):.0%}"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| product | GFLOP/s |", "|---|---|"]
    return lines + [f"| {name} | {rate / 1e9:.0f} |" for name, rate in rates["products"].items()]


if __name__ == "__main__":
    sys.exit(cli.run(main))
