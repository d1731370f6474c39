"""What each part is worth: one row a part, on the text of MELD's dev split and on RAVDESS's speech and faces.

    python -m jmer.extract --config configs/extract/hf.py --config.source=meld --config.root=DIR_OF_MELD_CSVS \\
        --config.text.model=sentence-transformers/all-MiniLM-L6-v2 --config.out=data/packed/meld-minilm
    python benchmarks/ablation.py --meld=data/packed/meld-minilm --ravdess=audio_video_features.csv

A row is the defaults with one thing changed, trained with 5 seeds. MELD: the score of the dev split, on which the epoch
was chosen too. RAVDESS: 270 clips, each a dialogue of its own, in 6 folds of 3 actors that training does not see; the
epoch is chosen on 3 other actors, and the score is that of all 270 held-out predictions. Each row runs in a process of
its own on one core, several at a time; rows that are done are not run again. The tables of all rows go to
benchmarks/results.
"""

import argparse
import contextlib
import csv
import json
import multiprocessing
import os
import platform
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

SEEDS = 5
RESULTS = Path(__file__).parent / "results"
SETTINGS = {
    "meld": {"epochs": 20, "patience": 20, "seeds": SEEDS},
    "ravdess": {"epochs": 30, "patience": 30, "seeds": SEEDS, "hidden": 64, "batch_utterances": 16, "lr": 3e-3},
}
FOLDS, ACTORS = 6, 18

# (part, row, what differs from the defaults). A row for which a dataset lacks something is left out there, and said so.
ROWS: list[tuple[str, str, dict[str, Any]]] = [
    ("", "the defaults: BiGRU, gated fusion, R-GCN then GAT", {}),
    ("modality", "text alone", {"modalities": "text"}),
    ("modality", "audio alone", {"modalities": "audio"}),
    ("modality", "video alone", {"modalities": "video"}),
    ("encoder", "none", {"encoder": "none"}),
    ("encoder", "GRU, forward", {"encoder": "gru"}),
    ("encoder", "BiGRU with self-attention", {"encoder": "bigru_attention"}),
    ("encoder", "transformer", {"encoder": "transformer"}),
    ("encoder", "BiGRU with co-attention", {"co_attention": True}),
    ("graph", "none", {"graph": "none"}),
    ("graph", "none, transformer of 2 layers", {"graph": "none", "encoder": "transformer", "encoder_layers": 2}),
    ("graph", "R-GCN", {"graph": "rgcn"}),
    ("graph", "R-GCN of 2 bases", {"graph": "rgcn", "bases": 2}),
    ("graph", "GAT", {"graph": "gat"}),
    ("graph", "GRNN", {"graph": "grnn"}),
    ("graph", "GFPush", {"graph": "gfpush"}),
    ("graph", "distance bins 2, 5", {"distance_bins": "2,5"}),
    ("graph", "window of 4", {"past": 4, "future": 4}),
    ("graph", "causal, with a forward GRU", {"future": 0, "encoder": "gru"}),
    ("graph", "nodes are modalities", {"graph_nodes": "modality"}),
    ("graph", "lambda learned", {"learn_graph_weight": True}),
    ("fusion", "early", {"fusion": "early"}),
    ("fusion", "late", {"fusion": "late"}),
    ("fusion", "hybrid", {"fusion": "hybrid"}),
    ("fusion", "modality dropout .2", {"modality_dropout": 0.2}),
    ("regularisation", "no DropNode", {"drop_node": 0.0}),
    ("regularisation", "DropEdge .2", {"drop_edge": 0.2}),
    ("regularisation", "DropNode .3, 2 consistent passes", {"drop_node": 0.3, "consistency.passes": 2}),
    ("regularisation", "feature noise .2", {"feature_noise": 0.2}),
    ("regularisation", "mixup .3", {"mixup": 0.3}),
    ("imbalance", "class weights, square root", {"class_weights": "sqrt"}),
    ("imbalance", "class weights, inverse", {"class_weights": "inverse"}),
    ("imbalance", "class weights, effective number", {"class_weights": "effective"}),
    ("imbalance", "focal loss, gamma 2", {"focal_gamma": 2.0}),
    ("imbalance", "focal loss, gamma 2, square root weights", {"focal_gamma": 2.0, "class_weights": "sqrt"}),
    ("imbalance", "label smoothing .1", {"label_smoothing": 0.1}),
    ("imbalance", "logit adjustment 1", {"logit_adjustment": 1.0}),
    ("imbalance", "weighted sampler, square root", {"sampler": "sqrt"}),
    ("imbalance", "weighted sampler, inverse", {"sampler": "inverse"}),
    ("auxiliary", "contrastive with prototypes", {"contrastive.weight": 0.3}),
    ("auxiliary", "contrastive", {"contrastive.weight": 0.3, "contrastive.prototypes": False}),
    ("auxiliary", "sentiment task", {"sentiment": 0.5}),
    ("auxiliary", "specialist for disgust, sadness, fear", {"specialist": "disgust,sadness,fear"}),
    ("auxiliary", "specialist for disgust, sad, fearful", {"specialist": "disgust,sad,fearful"}),
    ("ensemble", "vote of 3 best epochs", {"keep_epochs": 3}),
    ("ensemble", "average of 3 best epochs", {"keep_epochs": 3, "merge_epochs": "average"}),
    ("ensemble", "vote of all seeds", {"vote": True}),
    ("ensemble", "vote of all seeds and 3 best epochs", {"vote": True, "keep_epochs": 3}),
    ("precision", "bfloat16 in large products", {"precision": "bfloat16"}),
    ("precision", "bfloat16 features", {"data_dtype": "bfloat16"}),
]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meld", type=Path, help="dataset directory with MELD's text features")
    parser.add_argument("--ravdess", type=Path, help="the CSV of 69 acoustic and 56 face features")
    parser.add_argument("--work", type=Path, default=Path("runs/ablation"), help="where runs and finished rows lie")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="rows at a time, one core each")
    parser.add_argument("--rows", default="", help="only rows whose part or name holds this; no table")
    args = parser.parse_args(argv)
    for name, source in (("meld", args.meld), ("ravdess", args.ravdess)):
        if source is None:
            continue
        folder = args.work / name
        folder.mkdir(parents=True, exist_ok=True)
        datasets = [source] if name == "meld" else write_folds(source, folder / "data")
        rows = [row for row in ROWS if args.rows in f"{row[0]} {row[1]}"]
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(args.jobs, mp_context=spawn, max_tasks_per_child=1) as pool:
            futures = [pool.submit(run_row, row, name, datasets, folder, args.jobs) for row in rows]
            for row, future in zip(rows, futures, strict=True):
                print(f"{name}: {' '.join(row[:2])}: {future.result()['said']}", flush=True)
        if not args.rows:
            write_tables(name, folder, jobs=args.jobs)
    return 0


def run_row(
    row: tuple[str, str, Mapping[str, Any]], name: str, datasets: Sequence[Path], folder: Path, jobs: int
) -> dict[str, Any]:
    """Trains and scores one row, unless that is already done; returns what its JSON file holds."""
    part, title, changes = row
    slug = "".join(c if c.isalnum() else "-" for c in f"{part} {title}".strip())
    file = folder / f"{slug}.json"
    if file.is_file() and json.loads(file.read_text())["changes"] == dict(changes):
        return json.loads(file.read_text())
    if jobs > 1:  # one core each; before jax makes its thread pools
        os.environ |= {"NPROC": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}

    import jax

    from jmer.base import cli, files
    from jmer.base.errors import UserError
    from jmer.base.options import from_config
    from jmer.config import base
    from jmer.dataset import store
    from jmer.runs import directory, fit, voting
    from jmer.training import metrics
    from jmer.training.options import TrainOptions

    jax.config.update("jax_compilation_cache_dir", str(folder / "xla"))  # the folds have the same shapes
    config = base()
    for field, value in (SETTINGS[name] | dict(changes)).items():
        cli.set_field(config, field, str(value))
    result: dict[str, Any] = {"part": part, "row": title, "changes": dict(changes)}
    start, probs, labels, params = time.process_time(), [], [], 0
    try:
        with (folder / f"{slug}.log").open("w") as log, contextlib.redirect_stdout(log):
            for i, source in enumerate(datasets):
                workdir = folder / slug / str(i)
                shutil.rmtree(workdir, ignore_errors=True)
                config.dataset, dataset = str(source), store.load(source)
                fit.fit(from_config(TrainOptions, config), dataset, workdir)
                run = directory.load(workdir)
                dialogues = dataset.split("dev" if name == "meld" else "test")
                probs.append(np.concatenate([p for p, _ in voting.predict_features(run, dialogues)], axis=1))
                labels.append(np.concatenate([d.labels for d in dialogues]))
                params = sum(x[0, 0].size for x in jax.tree.leaves(run.params))
    except UserError as error:
        why = str(error).replace(str(datasets[0]), datasets[0].name)  # no paths in what is committed
        result |= {"left_out": why, "said": f"left out: {why}"}
    else:
        each = np.concatenate(probs, axis=1)  # [S, N, C]
        each = each.mean(axis=0, keepdims=True) if config.vote else each
        reports = [metrics.classification_report(np.concatenate(labels), p.argmax(-1), p.shape[-1]) for p in each]
        for score in ("weighted_f1", "macro_f1"):
            result[score] = [r[score] for r in reports]
        result |= {"parameters": params, "seconds": (time.process_time() - start) / SEEDS}
        result["said"] = f"{np.mean(result['weighted_f1']):.4f} {np.mean(result['macro_f1']):.4f}"
    shutil.rmtree(folder / slug, ignore_errors=True)
    files.save_json(file, result)
    return result


def write_folds(table: Path, folder: Path) -> list[Path]:
    """Writes a dataset directory a fold: 12 actors to train, 3 to choose the epoch on, 3 held out."""
    from jmer.base.types import UNLABELLED, Features
    from jmer.dataset import store

    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = list(rows[0])
    middle, end = names.index("file"), names.index("emotion")
    columns = {"audio": names[:middle], "video": names[middle + 1 : end]}
    labels = sorted({row["emotion"] for row in rows})
    actors = np.array([int(row["actor"]) for row in rows])
    values = {m: np.array([[float(row[c] or "nan") for c in cs] for row in rows]) for m, cs in columns.items()}
    outs = []
    for fold in range(FOLDS):
        size = ACTORS // FOLDS
        held = {"test": fold * size + 1 + np.arange(size), "dev": (fold + 1) % FOLDS * size + 1 + np.arange(size)}
        chosen = {split: np.isin(actors, who) for split, who in held.items()}
        chosen = {"train": ~(chosen["test"] | chosen["dev"]), **chosen}
        splits: dict[str, list[Features]] = {}
        # A missing measure becomes the mean of the actors trained on.
        filled = {m: np.where(np.isnan(v), np.nanmean(v[chosen["train"]], axis=0), v) for m, v in values.items()}
        for split, mask in chosen.items():
            splits[split] = [
                Features(
                    dialogue_id=f"clip{i}",
                    utterance_ids=(f"clip{i}",),
                    speakers=(str(actors[i]),),
                    texts=("",),
                    labels=np.array([labels.index(rows[i]["emotion"])], np.int32),
                    sentiments=np.array([UNLABELLED], np.int32),
                    values={m: v[i : i + 1].astype(np.float32) for m, v in filled.items()},
                    present={m: np.ones(1, np.bool_) for m in filled},
                )
                for i in np.nonzero(mask)[0]
            ]
        modalities = {
            m: {
                "dim": len(columns.get(m, ())),
                "extractor": None,
                "fingerprint": table.name,
                "reason": "not in the table",
            }
            for m in ("text", "audio", "video")
        }
        outs.append(folder / str(fold))
        described = {"name": "ravdess", "labels": labels, "modalities": modalities, "rows": []}
        store.write(
            outs[-1],
            dims={m: len(columns) for m, columns in columns.items()},
            splits=list(splits),
            examples=((split, dialogue) for split, dialogues in splits.items() for dialogue in dialogues),
            describe=lambda described=described: described,
        )
    return outs


def write_tables(name: str, folder: Path, *, jobs: int) -> None:
    """Writes what is finished as Markdown and JSON, in the order of ROWS."""
    done = [json.loads(f.read_text()) for f in folder.glob("*.json")]
    order = {row[:2]: i for i, row in enumerate(ROWS)}
    done = sorted((r for r in done if (r["part"], r["row"]) in order), key=lambda r: order[r["part"], r["row"]])
    packages = ", ".join(f"{p} {version(p)}" for p in ("jax", "flax", "jraph", "numpy"))
    about = (
        f"{platform.machine()}, {os.cpu_count()} cores, {jobs} rows at a time on one core each; "
        f"Python {platform.python_version()}, {packages}; {SEEDS} seeds; settings {SETTINGS[name]}"
    )
    lines = [
        f"# Ablation on {name}",
        "",
        about,
        "",
        "| part | row | weighted F1 | macro-F1 | CPU s a seed | parameters |",
    ]
    lines.append("|---|---|---|---|---|---|")
    first = next((np.mean(r["weighted_f1"]) for r in done if not r["part"] and "weighted_f1" in r), 0.0)
    for r in done:
        if "left_out" in r:
            continue
        figures = []
        for score in ("weighted_f1", "macro_f1"):
            spread = f" ± {np.std(r[score], ddof=1):.4f}" if len(r[score]) > 1 else ""
            figures.append(f"{np.mean(r[score]):.4f}{spread}")
        figures[0] += f" ({np.mean(r['weighted_f1']) - first:+.4f})" if r["part"] else ""
        cells = [r["part"], r["row"], *figures, f"{r['seconds']:.0f}", f"{r['parameters']:,}"]
        lines.append("| " + " | ".join(cells) + " |")
    out = [f"Left out, since the data do not allow them: {', '.join(r['row'] for r in done if 'left_out' in r)}."]
    lines += ["", *out] if any("left_out" in r for r in done) else []
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"ablation_{name}.md").write_text("\n".join(lines) + "\n")
    keep = [{k: v for k, v in r.items() if k != "said"} for r in done]
    (RESULTS / f"ablation_{name}.json").write_text(json.dumps({"about": about, "rows": keep}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
