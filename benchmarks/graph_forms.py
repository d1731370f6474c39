"""Which form of the speaker graph is the quickest, by the width of a row, the window and the streams.

    python benchmarks/graph_forms.py [--quick]

R-GCN over 8 relations (14 between three streams), then GAT, forward and backward, of one seed as training runs it, in
the three forms of `jmer.graph.forms`. Batches have 1,024 utterances, whatever the width of their rows, each row one
dialogue. `all` is a window over the whole row. A form with more than 80 slots a node is not measured but dense: at 126
slots the others take 8 and 20 times as long as dense, and up to 25 s to compile. Forms run by turns; `temp` is what the
compiled program asks for beside its arguments and results.

`auto` is what `speaker_graph(form="auto")` takes, and how much slower it is than the quickest.
"""

import statistics
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from synthetic import MIB, machine, seconds_of, write

from jmer.base import cli
from jmer.base.types import Rows
from jmer.graph import FORMS, speaker_graph
from jmer.nn.options import GraphOptions
from jmer.nn.speaker_graph import SpeakerGraph

UTTERANCES = 1024
WIDTHS = (8, 24, 32, 64, 128, 256, 512, 1024)
MOST_SLOTS = 80


class Shape(NamedTuple):
    """window: past and future, in utterances; at most the width less one."""

    hidden: int
    heads: int
    streams: int
    window: int
    width: int

    @property
    def slots(self) -> int:
        return 2 * self.window + self.streams - 1

    def forms(self) -> list[str]:
        return [form for form in FORMS if form == "dense" or 2 * self.window <= MOST_SLOTS]


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="a few shapes, hardly repeated; nothing is written")
    args = parser.parse_args(argv)
    cases = [case for case in shapes() if not args.quick or case[1:] in ((8, 1, 10, 24), (8, 1, 10, 128))]
    rows = []
    for case in cases:
        rows.append(measure(case, budget=0.1 if args.quick else 0.5))
        print(line(rows[-1]), flush=True)
    write("graph_forms", table(rows), {"about": machine(), "rows": rows}, keep=not args.quick)
    return cli.EXIT_OK


def shapes() -> list[Shape]:
    """Every shape once; the default config's width of layers with the default window only."""
    found = []
    for hidden, heads, windows in ((256, 8, (2, 10, 40, UTTERANCES)), (128, 4, (10,))):
        for streams in (1, 3):
            for window in windows:
                found += [Shape(hidden, heads, streams, min(window, width - 1), width) for width in WIDTHS]
    return list(dict.fromkeys(found))


def measure(shape: Shape, *, budget: float) -> dict[str, Any]:
    """Milliseconds of every call, and MiB, by form; and the form that `auto` takes."""
    b, u, m = max(1, UTTERANCES // shape.width), shape.width, shape.streams
    rng = np.random.default_rng(0)
    x = jnp.array(rng.standard_normal((1, b, u, m, shape.hidden), np.float32))
    mask, dialogue = jnp.ones((1, b, u), jnp.bool_), jnp.zeros((1, b, u), jnp.int32)
    rows = Rows(mask=mask, dialogue=dialogue, speaker=jnp.array(rng.integers(3, size=(1, b, u)), jnp.int32))
    nodes = (jnp.ones((1, b, u, m), jnp.bool_), rows)
    programs = {form: compiled(shape, form, x, nodes) for form in shape.forms()}
    auto = jax.eval_shape(
        lambda *nodes: speaker_graph(*nodes, past=shape.window, future=shape.window, form="auto"),
        *jax.tree.map(lambda a: a[0], nodes),
    )
    seconds = seconds_of({form: program for form, (program, _) in programs.items()}, budget=budget)
    return {
        **shape._asdict(),
        "slots": shape.slots,
        "auto": type(auto).__name__.lower(),
        "ms": {form: [1000 * s for s in each] for form, each in seconds.items()},
        "temp_mib": {form: temp / MIB for form, (_, temp) in programs.items()},
    }


def compiled(shape: Shape, form: str, x: jax.Array, nodes: tuple[jax.Array, Rows]) -> tuple[Any, int]:
    """Returns a call without arguments, and the bytes that it needs for a while."""
    options = GraphOptions(
        past=shape.window, future=shape.window, distance_bins="5", heads=shape.heads, graph_form=form
    )
    module = SpeakerGraph(options=options)

    def loss(params: Any, x: jax.Array, *nodes: Any) -> jax.Array:
        out = module.apply(params, x, *nodes)
        assert isinstance(out, jax.Array)
        return jnp.square(out).sum()

    few = jax.tree.map(lambda a: a[0, :1, :4], (x, *nodes))
    params = jax.tree.map(lambda p: p[None], module.init(jax.random.key(0), *few))
    program = jax.jit(jax.vmap(jax.grad(loss, argnums=(0, 1)))).lower(params, x, *nodes).compile()
    memory = program.memory_analysis()
    assert memory is not None
    return lambda: program(params, x, *nodes), memory.temp_size_in_bytes


def line(row: dict[str, Any]) -> str:
    ms = {form: statistics.median(each) for form, each in row["ms"].items()}
    cells = []
    for form in FORMS:
        if form not in ms:
            cells.append("not measured")
            continue
        middle = f"**{ms[form]:.1f}**" if ms[form] == min(ms.values()) else f"{ms[form]:.1f}"
        cells.append(f"{middle} ({min(row['ms'][form]):.1f} to {max(row['ms'][form]):.1f})")
    window = "all" if row["window"] == row["width"] - 1 else row["window"]
    temp = ", ".join(f"{row['temp_mib'][form]:.0f}" if form in ms else "-" for form in FORMS)
    where = f"{row['hidden']} | {row['streams']} | {window} | {row['width']} | {row['width'] * row['streams']}"
    return f"| {where} | {row['slots']} | {' | '.join(cells)} | {temp} | {row['auto']}, {slower(row):.2f} x |"


def slower(row: dict[str, Any]) -> float:
    """How many times the quickest form's time `auto` takes; infinite where its form was not measured."""
    ms = {form: statistics.median(each) for form, each in row["ms"].items()}
    return ms.get(row["auto"], float("inf")) / min(ms.values())


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    worst = max(rows, key=slower)
    return [
        "# Forms of the speaker graph: ms a call, forward and backward",
        "",
        f"{machine()}; batches of {UTTERANCES} utterances; median (least to most), the quickest in bold.",
        "",
        f"What `auto` takes is at worst {slower(worst):.2f} times as slow as the quickest (hidden {worst['hidden']}, "
        f"{worst['streams']} streams, window {worst['window']}, width {worst['width']}).",
        "",
        f"| hidden | streams | window | width | nodes of a row | slots | {' | '.join(FORMS)} | temp, MiB | auto |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *map(line, rows),
    ]


if __name__ == "__main__":
    sys.exit(cli.run(main))
