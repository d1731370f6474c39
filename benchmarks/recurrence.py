"""How long a bidirectional GRU takes, forward and backward: jmer's, other ways in JAX, and PyTorch's.

    python benchmarks/recurrence.py --torch-python=PYTHON [--quick]

One GRU for each modality, with the gradients of its weights and of what goes in. All rows of a batch are full, which
spares PyTorch the packing.

    jmer            `jmer.nn.recurrent.GRU`: both directions and all modalities in one scan, with its own backward pass
    differentiated  the same scan, differentiated by JAX, which adds up the weights' gradients step by step
    flax            `flax.linen.RNN` of `GRUCell`, `Bidirectional`, mapped over the modalities
    PyTorch         `nn.GRU`, one modality after another

They run by turns, PyTorch in a process of its own, which waits while the others run.
"""

import os
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from step_worker import Worker
from synthetic import machine, seconds_of, spread, write

from jmer.base import cli
from jmer.base.types import Rows
from jmer.nn import recurrent


class Shape(NamedTuple):
    modalities: int
    rows: int
    steps: int
    dim: int
    hidden: int  # of a direction


SHAPES = (
    Shape(3, 13, 24, 256, 128),  # a batch of step_time.py
    Shape(3, 43, 24, 256, 128),  # 1,024 utterances
    Shape(3, 32, 33, 256, 128),  # of MELD's longest dialogues
    Shape(1, 64, 32, 768, 256),
    Shape(3, 16, 100, 128, 64),
)
TURNS = 5


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--torch-python", default=sys.executable, help="an interpreter with torch")
    parser.add_argument("--quick", action="store_true", help="one shape, hardly repeated; nothing is written")
    args = cli.parse(parser, argv)
    threads = len(os.sched_getaffinity(0))
    worker = Worker([args.torch_python, str(Path(__file__).parent / "torch_recurrence.py"), str(threads)], {})
    rows = []
    for shape in SHAPES[:1] if args.quick else SHAPES:
        calls = {name: make(shape) for name, make in WAYS.items()}
        found: dict[str, list[float]] = {}
        for _ in range(1 if args.quick else TURNS):
            for name, call in calls.items():
                found.setdefault(name, []).extend(seconds_of({name: call}, budget=0.5)[name])
            found.setdefault("PyTorch", []).extend(worker.ask("gru", shape=shape, count=20)["seconds"])
        rows.append({"shape": shape._asdict(), "seconds": found})
    worker.close()
    about = f"{machine()}, torch {worker.about['torch']}, {threads} threads"
    write("recurrence", table(about, rows), {"about": about, "rows": rows}, keep=not args.quick)
    return cli.EXIT_OK


def jmers(shape: Shape) -> Callable[[], Any]:
    module = recurrent.GRU(hidden=shape.hidden, bidirectional=True)
    mask = jnp.ones((shape.rows, shape.steps), jnp.bool_)
    zeros = jnp.zeros_like(mask, jnp.int32)
    return compiled(shape, module, Rows(mask=mask, dialogue=zeros, speaker=zeros))


def differentiated(shape: Shape) -> Callable[[], Any]:
    with mock.patch.object(recurrent, "recurrence", lambda *args: recurrent._forward(*args)[0]):
        return jmers(shape)


def flaxs(shape: Shape) -> Callable[[], Any]:
    forward, backward = (nn.RNN(nn.GRUCell(shape.hidden)) for _ in range(2))
    return compiled(shape, nn.Bidirectional(forward, backward))


WAYS = {"jmer": jmers, "differentiated": differentiated, "flax": flaxs}


def compiled(shape: Shape, module: nn.Module, *inputs: Any) -> Callable[[], Any]:
    """A call of the module's gradients, of every modality."""
    x = jnp.asarray(np.random.default_rng(0).standard_normal(shape[:4]), jnp.float32)
    keys = jax.random.split(jax.random.key(0), shape.modalities)
    params = jax.vmap(lambda key, x: module.init(key, x, *inputs))(keys, x)

    def loss(params: Any, x: jax.Array) -> jax.Array:
        return jnp.square(module.apply(params, x, *inputs)).sum()  # pyright: ignore[reportArgumentType]

    program = jax.jit(jax.vmap(jax.grad(loss, argnums=(0, 1)))).lower(params, x).compile()
    return lambda: program(params, x)


def table(about: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    names = list(rows[0]["seconds"])
    lines = [
        "# GRU: ms a call, forward and backward",
        "",
        f"{about}; median (least to most), the quickest in bold.",
        "",
    ]
    lines += [f"| modalities | rows | steps | in | hidden | {' | '.join(names)} |", "|---" * (5 + len(names)) + "|"]
    for row in rows:
        best = min(names, key=lambda name: statistics.median(row["seconds"][name]))
        cells = [spread(row["seconds"][name], scale=1000) for name in names]
        cells = [f"**{c}**" if name == best else c for c, name in zip(cells, names, strict=True)]
        lines.append(f"| {' | '.join(map(str, row['shape'].values()))} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    sys.exit(cli.run(main))
