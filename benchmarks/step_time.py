"""How long an epoch of training takes: jmer against PyTorch with PyTorch Geometric, on one machine in one run.

    python benchmarks/step_time.py --meld=DIR_OF_CSVS --torch-python=PYTHON

Three modalities of 768 random features, on the dialogues of MELD's train split (lengths and speakers); BiGRU, gated
fusion, R-GCN over 8 relations, GAT of 8 heads with relations in its logits, focal loss, AdamW; hidden size 256. Both
sides are given the same weights, and their logits must agree to 1e-4 before anything is timed.

PyTorch's rows: edges built once for PyTorch Geometric, or dense masked products; random batches of 32 dialogues, padded
and packed, as people write it, or batches of dialogues of one length, which need neither; eager or compiled; float32 or
bfloat16 autocast. `seed` builds edges and GFPush's neighbourhoods pair by pair in every batch, as the system that jmer
began from does. All keep the corpus in memory and gather batches by number. jmer's rows have about as many utterances a
batch. Every row is a process of its own on the same cores; they train an epoch by turns, while the others wait. `first`
is the first epoch, with all compilation. `--torch-python` is an interpreter with torch and torch_geometric.
"""

import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jmer_step import LABELS, config_of

from jmer import cli, runs, steps
from jmer.types import MODALITIES

BENCHMARKS = Path(__file__).parent
RESULTS = BENCHMARKS / "results"
D, HIDDEN, HEADS = 768, 256, 8
COMMON = {"hidden": HIDDEN, "heads": HEADS}
TORCH = {"graph": "pyg", "batches": "random", "compile": False, "bf16": False}
JMER = {"seeds": 1, "batch_utterances": 312}
ROWS: list[tuple[str, dict[str, Any]]] = [
    ("PyG, random batches", TORCH),
    ("PyG, batches of one length", TORCH | {"batches": "bucketed"}),
    ("dense, random batches", TORCH | {"graph": "dense"}),
    ("dense, batches of one length", TORCH | {"graph": "dense", "batches": "bucketed"}),
    ("dense, random batches, compiled", TORCH | {"graph": "dense", "compile": True}),
    ("dense, batches of one length, compiled", TORCH | {"graph": "dense", "batches": "bucketed", "compile": True}),
    ("PyG, batches of one length, bfloat16", TORCH | {"batches": "bucketed", "bf16": True}),
    ("dense, batches of one length, bfloat16", TORCH | {"graph": "dense", "batches": "bucketed", "bf16": True}),
    ("seed, random batches", TORCH | {"graph": "seed"}),
    ("jmer", JMER),
    ("jmer, 8 seeds in one program", JMER | {"seeds": 8}),
]


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--meld", type=Path, required=True, help="folder of train_sent_emo.csv")
    parser.add_argument("--torch-python", default=sys.executable, help="an interpreter with torch and torch_geometric")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--rows", default="", help="only rows whose name holds this")
    args = parser.parse_args(argv)
    os.sched_setaffinity(0, range(args.threads))  # inherited
    rows = [row for row in ROWS if args.rows in row[0]]
    with tempfile.TemporaryDirectory() as temporary:
        corpus = Path(temporary) / "corpus.npz"
        write_corpus(corpus, args.meld)
        workers = {name: Worker(args, corpus, settings) for name, settings in rows}
        check(workers, Path(temporary))
        seconds: dict[str, list[float]] = {name: [] for name in workers}
        for repeat in range(args.repeats + 1):  # the first compiles
            for name, worker in workers.items():
                seconds[name].append(worker.ask("epoch")["seconds"])
                print(f"{repeat} {name}: {seconds[name][-1]:.2f} s", flush=True)
        abouts = {name: worker.about for name, worker in workers.items()}
        for worker in workers.values():
            worker.close()
    write_table(seconds, abouts, args)
    return cli.EXIT_OK


class Worker:
    """A row's process."""

    def __init__(self, args: Any, corpus: Path, settings: Mapping[str, Any]):
        torch = "graph" in settings
        python, script = (args.torch_python, "torch_step.py") if torch else (sys.executable, "jmer_step.py")
        given = json.dumps(COMMON | dict(settings) | {"threads": args.threads})
        self._process = subprocess.Popen(
            [python, str(BENCHMARKS / script), str(corpus), given],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.about: dict[str, Any] = self._answer()["ready"]

    def ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended with status {self._process.wait()}")
        return json.loads(line)


def write_corpus(out: Path, meld: Path) -> None:
    """Random features on MELD's dialogues, and the parameters of jmer's model, as arrays by name."""
    speakers: dict[str, list[str]] = {}
    with (meld / "train_sent_emo.csv").open(newline="", encoding="utf-8", errors="replace") as stream:
        for row in csv.DictReader(stream):
            speakers.setdefault(row["Dialogue_ID"], []).append(row["Speaker"])
    rng, lengths = np.random.default_rng(0), np.array([len(names) for names in speakers.values()])
    numbers = [[list(dict.fromkeys(names)).index(name) for name in names] for names in speakers.values()]
    n = int(lengths.sum())
    x = rng.normal(size=(len(MODALITIES), n + 1, D)).astype(np.float32)
    x[:, -1] = 0
    dims: dict[str, int] = dict.fromkeys(MODALITIES, D)
    model = runs.make_model(config_of(COMMON), dims=dims, sequence_dims={}, labels=LABELS)
    params = jax.tree.map(lambda p: np.asarray(p[0]), steps.init_params(model, seeds=[0]))
    named = {
        "param/" + "/".join(key.key for key in path): value
        for path, value in jax.tree_util.tree_leaves_with_path(params)
    }
    label = np.append(rng.integers(len(LABELS), size=n), -1).astype(np.int32)
    np.savez(out, x=x, lengths=lengths, speaker=np.concatenate(numbers), label=label, **named)


def check(workers: Mapping[str, Worker], folder: Path) -> None:
    """Asks all for the logits of some dialogues and compares them.

    Raises:
      RuntimeError: they differ by more than 1e-4.
    """
    found = {}
    for name, worker in workers.items():
        with np.load(worker.ask(f"check {folder / 'check.npz'}")["written"]) as file:
            found[name] = file["logits"]
    first = next(iter(found.values()))
    for name, logits in found.items():
        difference = float(np.abs(logits - first).max())
        if difference > 1e-4:
            raise RuntimeError(f"{name}: its logits differ by {difference:.1e}")


def write_table(seconds: Mapping[str, list[float]], abouts: Mapping[str, Any], args: Any) -> None:
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    jmer = medians.get("jmer")
    about = f"{platform.machine()}, {args.threads} threads; " + json.dumps(
        {name: abouts[name] for name in (next(iter(abouts)), list(abouts)[-1])}
    )
    lines = [
        "# Seconds for an epoch of training",
        "",
        about,
        "",
        "| row | median | least to most | first | times jmer |",
    ]
    lines.append("|---|---|---|---|---|")
    for name, values in seconds.items():
        ratio = f"{medians[name] / jmer:.2f}" if jmer else ""
        spread = f"{min(values[1:]):.2f} to {max(values[1:]):.2f}"
        lines.append(f"| {name} | {medians[name]:.2f} | {spread} | {values[0]:.1f} | {ratio} |")
    print("\n".join(lines))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "step_time.md").write_text("\n".join(lines) + "\n")
    kept = {"about": abouts, "threads": args.threads, "machine": platform.machine(), "seconds": seconds}
    (RESULTS / "step_time.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(cli.run(main))
