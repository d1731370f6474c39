"""How long training, evaluation and prediction take: jmer against PyTorch with PyTorch Geometric, in one run.

    python benchmarks/step_time.py --meld=DIR_OF_CSVS --torch-python=PYTHON

Three modalities of 768 random features, on the dialogues of MELD's train split (lengths and speakers); BiGRU, gated
fusion, R-GCN over 8 relations, GAT of 8 heads with relations in its logits, focal loss, AdamW; hidden size 256. Both
sides are given the same weights, and their logits must agree to 1e-4 before anything is timed.

PyTorch's rows: edges built once for PyTorch Geometric, or dense masked products; random batches of 32 dialogues, padded
and packed, as people write it, or batches of dialogues of one length, which need neither; eager or compiled; float32 or
bfloat16 autocast. `seed` builds edges and GFPush's neighbourhoods pair by pair in every batch, as the system that jmer
began from does. All keep the corpus in memory and gather batches by number. jmer's rows have about as many utterances a
batch.

Every row is a process of its own on the same cores; they are measured by turns, while the others wait, `--repeats`
times, or fewer where a row is slow. `--torch-python` is an interpreter with torch and torch_geometric. Tables and raw
seconds go to benchmarks/results, unless `--rows` or `--dialogues` leaves some out.
"""

import csv
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jmer_step import LABELS, config_of
from step_report import about, report
from step_worker import Worker

from jmer.base import cli, files
from jmer.base.errors import UserError
from jmer.base.options import from_config
from jmer.base.types import MODALITIES
from jmer.runs import building
from jmer.training import steps
from jmer.training.options import TrainOptions

BENCHMARKS = Path(__file__).parent
RESULTS = BENCHMARKS / "results"
D, HIDDEN, HEADS = 768, 256, 8
CHECKED = (4, 12, 18)  # lengths, about, of the dialogues whose logits are compared; the graph's window is 10
LATENCY = 10  # utterances of a dialogue that is predicted
WARM = 10  # calls before those that count
SLOW = 3  # turns that slow rows take


class Row(NamedTuple):
    """settings: of its process. turns: how many it takes at most. keeps: it keeps compiled programs on the disk."""

    name: str
    settings: dict[str, Any]
    turns: int = 100
    keeps: bool = False


def torch_rows() -> list[Row]:
    variants = (
        ("", Row("", {"compile": False, "bf16": False})),
        (", compiled", Row("", {"compile": True, "bf16": False}, SLOW, keeps=True)),
        (", bfloat16", Row("", {"compile": False, "bf16": True}, SLOW)),
    )
    return [
        row._replace(
            name=f"{graph}, {name}{variant}", settings={"graph": graph.lower(), "batches": batches} | row.settings
        )
        for graph in ("PyG", "dense")
        for batches, name in (("random", "random batches"), ("bucketed", "batches of one length"))
        for variant, row in variants
    ]


SEED = {"graph": "seed", "batches": "random", "compile": False, "bf16": False}
JMER = {"seeds": 1, "batch_utterances": 312}
ROWS = [
    *torch_rows(),
    Row("seed, random batches", SEED, SLOW),
    Row("jmer", JMER, keeps=True),
    Row("jmer, bfloat16", JMER | {"precision": "bfloat16"}, keeps=True),
    Row("jmer, 8 seeds in one program", JMER | {"seeds": 8}, SLOW, keeps=True),
]
# Of the model: m x k x n, a `[m, k]` by `[k, n]`; with ', a is kept as `[k, m]`, as in the gradient of a weight.
PRODUCTS = {
    "312x768x768": (312, 768, 768, False),
    "936x256x768": (936, 256, 768, False),
    "312x2048x256": (312, 2048, 256, False),
    "768x312x768'": (768, 312, 768, True),
    "256x936x768'": (256, 936, 768, True),
}


@dataclass
class Measured:
    """A row with its process.

    seconds: by what was timed: `start`, `cold`, `warm`, `epoch`, `step`, `evaluation`, `latency`.
    utterances: of the batch of a step.
    failed: why there is nothing more; empty where all went well.
    """

    row: Row
    command: list[str]
    environment: dict[str, str]
    seconds: dict[str, list[float]] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    utterances: int = 0
    failed: str = ""

    def start(self) -> None:
        self._worker = Worker(self.command, self.environment)
        self._take(self._worker.about)
        self.about = self._worker.about
        self.seconds.setdefault("start", []).append(self._worker.start)

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """The answer; nothing where the row failed, now or before."""
        return {} if self.failed else self._take(self._worker.ask(do, **arguments))

    def time(self, do: str, *, name: str = "", **arguments: Any) -> None:
        if answer := self.ask(do, **arguments):
            self.seconds.setdefault(name or do, []).extend(answer["seconds"])
            self.utterances = answer.get("utterances", self.utterances)
            shown = float(np.median(answer["seconds"]))
            print(f"{self.row.name}, {name or do}: {shown:.3g} s", flush=True)

    def close(self) -> None:
        self._worker.close()

    def _take(self, answer: dict[str, Any]) -> dict[str, Any]:
        self.failed = answer.get("failed", "")
        if self.failed:
            print(f"{self.row.name} fails: {self.failed}", flush=True)
        return {} if self.failed else answer


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--meld", type=Path, required=True, help="folder of train_sent_emo.csv")
    parser.add_argument("--torch-python", default=sys.executable, help="an interpreter with torch and torch_geometric")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=7, help="turns; each has an epoch and an evaluation")
    parser.add_argument("--steps", type=int, default=40, help="in all turns together")
    parser.add_argument("--calls", type=int, default=700, help="single predictions in all turns together")
    parser.add_argument("--rows", default="", help="only rows whose name holds this; nothing is written")
    parser.add_argument("--dialogues", type=int, help="only so many, to try it out; nothing is written")
    args = cli.parse(parser, argv)
    rows = [row for row in ROWS if args.rows in row.name]
    if not rows:
        raise UserError(f"--rows={args.rows}: no row's name holds it")
    os.sched_setaffinity(0, range(args.threads))  # inherited
    jax.config.update("jax_platforms", "cpu")  # here; the processes are told otherwise
    with tempfile.TemporaryDirectory() as temporary:
        corpus = Path(temporary) / "corpus.npz"
        lengths = write_corpus(corpus, args.meld, count=args.dialogues)
        measured = [prepare(row, args, corpus, Path(temporary) / f"row{i}") for i, row in enumerate(rows)]
        try:
            products = measure(measured, args, lengths)
        finally:
            for each in measured:
                each.close()
    text = report(measured, products, args)
    print(text)
    if not (args.rows or args.dialogues):
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "step_time.md").write_text(text)
        kept = {m.row.name: {"about": m.about, "failed": m.failed, "seconds": m.seconds} for m in measured}
        files.save_json(
            RESULTS / "step_time.json", {"about": about(measured, args), "rows": kept, "products": products}
        )
    return cli.EXIT_OK


def prepare(row: Row, args: Any, corpus: Path, cache: Path) -> Measured:
    """cache: where the row's process keeps what it compiles; empty at first."""
    rival = "graph" in row.settings
    python, script = (args.torch_python, "torch_step.py") if rival else (sys.executable, "jmer_step.py")
    shared = {"hidden": HIDDEN, "heads": HEADS, "threads": args.threads, "device": args.device}
    environment = {"JMER_CACHE": str(cache), "TORCHINDUCTOR_CACHE_DIR": str(cache)}
    # With some orders of its sets torch 2.13 fails to compile PyG's model ("sources must not be empty for symbol").
    environment["PYTHONHASHSEED"] = "0"
    if args.device == "gpu":
        # Many processes share its memory, and float32 is to be float32 on both sides.
        environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    environment["JAX_PLATFORMS"] = "cuda" if args.device == "gpu" else "cpu"
    return Measured(
        row, [python, str(BENCHMARKS / script), str(corpus), json.dumps(row.settings | shared)], environment
    )


def measure(measured: Sequence[Measured], args: Any, lengths: np.ndarray) -> dict[str, Any]:
    """Times every row, and returns seconds of products, by library, dtype and shape."""
    for each in measured:
        each.start()
    chosen = [int(abs(lengths - n).argmin()) for n in CHECKED]
    check(measured, chosen)
    for each in measured:
        each.time("first", name="cold")
    again = [each for each in measured if each.row.keeps and not each.failed]
    for each in again:
        each.close()
        each.start()
        each.time("first", name="warm")
    check(again, chosen)  # once more, now by what was compiled

    libraries = {}
    for each in measured:
        libraries.setdefault("PyTorch" if "graph" in each.row.settings else "jmer", each)
    products: dict[str, Any] = {}
    predicted = np.flatnonzero(lengths == LATENCY).tolist()
    for turn in range(args.repeats):
        for each in measured:
            turns = min(each.row.turns, args.repeats)
            if turn in np.linspace(0, args.repeats - 1, turns).round():
                each.time("epoch")
                each.time("step", count=-(-args.steps // turns))
                each.time("evaluation")
                each.time("latency", dialogues=predicted, count=-(-args.calls // turns), warm=WARM)
        for name, each in libraries.items():
            for dtype in ("float32", "bfloat16"):
                found = each.ask("products", shapes=list(PRODUCTS.values()), dtype=dtype, count=20).get("seconds", [])
                for shape, value in zip(PRODUCTS, found, strict=False):
                    products.setdefault(name, {}).setdefault(dtype, {}).setdefault(shape, []).append(value)
    return products


def write_corpus(out: Path, meld: Path, *, count: int | None) -> np.ndarray:
    """Writes random features on MELD's dialogues, and parameters of jmer's model; returns the dialogues' lengths."""
    speakers: dict[str, list[str]] = {}
    with (meld / "train_sent_emo.csv").open(newline="", encoding="utf-8", errors="replace") as stream:
        for row in csv.DictReader(stream):
            speakers.setdefault(row["Dialogue_ID"], []).append(row["Speaker"])
    speakers = dict(list(speakers.items())[:count])
    rng, lengths = np.random.default_rng(0), np.array([len(names) for names in speakers.values()])
    numbers = [[list(dict.fromkeys(names)).index(name) for name in names] for names in speakers.values()]
    n = int(lengths.sum())
    x = rng.normal(size=(len(MODALITIES), n + 1, D)).astype(np.float32)
    x[:, -1] = 0
    dims: dict[str, int] = dict.fromkeys(MODALITIES, D)
    options = from_config(TrainOptions, config_of({"hidden": HIDDEN, "heads": HEADS}))
    model = building.make_model(options, dims=dims, sequence_dims={}, labels=LABELS)
    params = jax.tree.map(lambda p: np.asarray(p[0]), steps.init_params(model, seeds=[0]))
    named = {
        "param/" + "/".join(key.key for key in path): value
        for path, value in jax.tree_util.tree_leaves_with_path(params)
    }
    label = np.append(rng.integers(len(LABELS), size=n), -1).astype(np.int32)
    np.savez(out, x=x, lengths=lengths, speaker=np.concatenate(numbers), label=label, **named)
    return lengths


def check(measured: Sequence[Measured], dialogues: Sequence[int]) -> None:
    """Compares the logits that all give for some dialogues.

    Raises:
      RuntimeError: they differ by more than 1e-4.
    """
    found = {each.row.name: each.ask("check", dialogues=dialogues).get("logits") for each in measured}
    logits: Mapping[str, np.ndarray] = {name: np.array(values) for name, values in found.items() if values}
    first = next(iter(logits.values()), np.zeros(()))
    for name, values in logits.items():
        difference = float(np.abs(values - first).max())
        print(f"{name}: logits differ from the first row's by {difference:.1e}", flush=True)
        if not difference <= 1e-4:
            raise RuntimeError(f"{name}: its logits differ by {difference:.1e}")


if __name__ == "__main__":
    sys.exit(cli.run(main))
