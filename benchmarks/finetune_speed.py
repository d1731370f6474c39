"""How fast an encoder of text is fine-tuned on dialogues: jmer against PyTorch with Hugging Face, in one run.

    python benchmarks/finetune_speed.py --meld=DIR_OF_CSVS --model=DIR_OF_MINILM --torch-python=PYTHON \\
        --newer-python=PYTHON

Whole dialogues of MELD's train split, in the same batches on both sides. `padded` is PyTorch as people write it: a
batch is some random dialogues, padded to the longest. `packed` is the best that we know to write: jmer's rows of
several dialogues, with a mask that keeps them apart. Tokens are those of the dialogues, without padding.

Every row is a process of its own on the same cores; they are measured by turns, while the others wait. Rows with
options of XLA come after all others. The first step of each, with its compilation, is a column of its own.
`--torch-python` is an interpreter with torch and transformers, and `--newer-python` one with jmer and jaxlib 0.12,
which needs Python 3.12.
"""

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from step_worker import NEWER, Worker
from synthetic import machine, spread, write

from jmer.base import cli
from jmer.dataset.build import load_source
from jmer.encoders.text import TextEncoder
from jmer.tuning.options import TuneOptions
from jmer.tuning.rows import TokenBatch, batches, shape_of, token_split

BENCHMARKS = Path(__file__).parent
COUNT = 12  # batches
ROWS: dict[str, dict[str, Any]] = {
    "PyTorch, padded": {"packed": False, "bf16": False},
    "PyTorch, padded, bfloat16": {"packed": False, "bf16": True},
    "PyTorch, packed": {"packed": True, "bf16": False},
    "PyTorch, packed, bfloat16": {"packed": True, "bf16": True},
    "jmer": {"options": {}},
    "jmer, bfloat16": {"options": {"precision": "bfloat16"}},
    "jmer, adapters of rank 8": {"options": {"rank": 8}},
    **{
        f"jmer{kind}, {name}": {"options": options, "flags": flags}
        for kind, options in {"": {}, ", bfloat16": {"precision": "bfloat16"}}.items()
        for name, flags in NEWER.items()
    },
}


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--meld", type=Path, required=True, help="folder of train_sent_emo.csv")
    parser.add_argument("--model", required=True, help="directory of the encoder")
    parser.add_argument("--torch-python", default=sys.executable, help="an interpreter with torch and transformers")
    parser.add_argument("--newer-python", default="", help="an interpreter with jmer and jaxlib 0.12; without, no rows")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--turns", type=int, default=7, help="turns of two steps each")
    parser.add_argument("--rows", default="", help="only rows whose name holds this; nothing is written")
    args = cli.parse(parser, argv)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "batches.npz"
        tokens = write_batches(path, TuneOptions(source="meld", root=str(args.meld), model=args.model))
        chosen = [
            n for n, settings in ROWS.items() if args.rows in n and ("flags" not in settings or args.newer_python)
        ]
        # Rows with options of XLA are a group of their own, since all at once would take 30 GB.
        groups = [[n for n in chosen if bool(ROWS[n].get("flags")) == given] for given in (False, True)]
        found = {name: row for group in groups for name, row in measure(group, args, path, tokens).items()}
    abouts = {name: row.about for name, row in found.items()}
    best = np.median(found["jmer"].rates) if "jmer" in found else 1.0
    lines = [
        "# Fine-tuning: tokens a second",
        "",
        f"{machine()}; {about(abouts)}.",
        "",
        "MiniLM of 6 layers on whole dialogues of MELD, all weights but the token embeddings, batches of 2,048 places; "
        "median (least to most) of single steps.",
        "",
        "| row | tokens a second | jmer is so many times as fast | first step, s |",
        "|---|---|---|---|",
    ]
    for name, row in found.items():
        lines.append(f"| {name} | {spread(row.rates)} | {best / np.median(row.rates):.2f} | {row.first:.1f} |")
    kept = {
        "about": abouts,
        "tokens": {name: row.rates for name, row in found.items()},
        "first": {name: row.first for name, row in found.items()},
    }
    write("finetune_speed", lines, kept, keep=not args.rows)
    return cli.EXIT_OK


class Measured(NamedTuple):
    """Of a row: its versions, the seconds of its first step, and the tokens a second of the later ones."""

    about: dict[str, str]
    first: float
    rates: list[float]


def measure(names: Sequence[str], args: Any, path: Path, tokens: dict[str, list[int]]) -> dict[str, Measured]:
    """Measures rows by turns, each in a process of its own."""
    workers: dict[str, Worker] = {}
    found: dict[str, Measured] = {}
    for name in names:
        settings = ROWS[name]
        python, script, environment = sys.executable, "jmer_finetune.py", {}
        if "packed" in settings:
            python, script = args.torch_python, "torch_finetune.py"
        elif "flags" in settings:
            python, environment = args.newer_python, {"XLA_FLAGS": settings["flags"]}
        given = json.dumps(settings | {"model": str(Path(args.model).resolve()), "threads": args.threads})
        workers[name] = Worker([python, str(BENCHMARKS / script), str(path), given], environment)
        found[name] = Measured(workers[name].about, timed(workers[name], 0, 1, name=name)[0], [])
        timed(workers[name], 1, 2, name=name)
    for turn in range(args.turns):
        for name, worker in workers.items():
            kind = "padded" if "padded" in name else "packed"
            numbers = [(2 * turn + i) % COUNT for i in range(2)]
            times = timed(worker, numbers[0], 2, name=name)
            found[name].rates.extend(tokens[kind][n] / t for n, t in zip(numbers, times, strict=True))
    for worker in workers.values():
        worker.close()
    return found


def about(each: dict[str, dict[str, str]]) -> str:
    """The versions of the rows, those that have the same ones together."""
    rows: dict[str, list[str]] = {}
    for name, versions in each.items():
        rows.setdefault(", ".join(f"{package} {number}" for package, number in versions.items()), []).append(name)
    return "; ".join(f"{', '.join(f'`{name}`' for name in names)}: {versions}" for versions, names in rows.items())


def timed(worker: Worker, first: int, count: int, *, name: str) -> list[float]:
    """Returns the seconds of some steps of a row.

    Raises:
      RuntimeError: the row failed.
    """
    answer = worker.ask("steps", first=first, count=count)
    if "failed" in answer:
        raise RuntimeError(f"{name}: {answer['failed']}")
    return answer["seconds"]


def write_batches(path: Path, options: TuneOptions) -> dict[str, list[int]]:
    """Writes COUNT batches of either kind; returns the tokens of each, without padding."""
    corpus, encoder = load_source(options), TextEncoder(options.model)
    split = token_split(corpus.splits["train"], labels=corpus.labels, options=options, tokenizer=encoder.tokenizer)
    shape = shape_of([split], width=options.max_tokens, batch_tokens=options.batch_tokens)
    rng = np.random.default_rng(0)
    packed = list(batches(split, shape, rng=rng))[:COUNT]
    arrays: dict[str, Any] = {"count": COUNT, "classes": len(corpus.labels)}
    tokens: dict[str, list[int]] = {"packed": [], "padded": []}
    order = iter(rng.permutation(len(split.passages)))
    for i, batch in enumerate(packed):
        tokens["packed"].append(int((batch.segment > 0).sum()))
        arrays |= {f"packed/{i}/{name}": x for name, x in batch._asdict().items()}
        # So many random dialogues as a packed batch holds on average, one in a row.
        chosen = [split.passages[next(order)] for _ in range(round(np.mean(batch.segment.max(axis=1)) * shape.rows))]
        of_one = shape._replace(rows=1, width=max(len(passage.ids) for passage, _ in chosen))
        rows = [next(batches(replace(split, passages=(each,)), of_one)) for each in chosen]
        joined = TokenBatch(*(np.concatenate(x) for x in zip(*rows, strict=True)))
        tokens["padded"].append(int((joined.segment > 0).sum()))
        arrays |= {f"padded/{i}/{name}": x for name, x in joined._asdict().items()}
    np.savez(path, **arrays)
    return tokens


if __name__ == "__main__":
    sys.exit(cli.run(main))
