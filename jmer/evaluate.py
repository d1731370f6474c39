"""Evaluates a run's best checkpoint (chosen on dev) on a split.

    python -m jmer.evaluate --workdir=runs/x --split=test [--dataset=DIR]

Writes metrics.json, confusion_matrix.png and predictions.csv into WORKDIR/eval/SPLIT and prints the report.
"""

import csv
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jmer import cli, metrics, pack, runs
from jmer.errors import UserError
from jmer.labels import check_label
from jmer.predict import predict_features
from jmer.report import confusion_picture, report_table
from jmer.runs import Run
from jmer.types import UNLABELLED, Features


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--workdir", type=Path, required=True, help="run directory that jmer.train wrote")
    parser.add_argument("--split", default="test", help="train, dev or test (default test)")
    parser.add_argument("--dataset", type=Path, help="another dataset directory than the one trained on")
    args = cli.parse(parser, argv)
    run = runs.load(args.workdir)
    evaluate(run, pack.load(args.dataset or Path(run.config.dataset)), args.split)
    return cli.EXIT_OK


def evaluate(run: Run, dataset: pack.Dataset, split: str) -> dict[str, Any]:
    """Scores a run on a split, writes the files, prints the report, and returns what `metrics.json` holds.

    Raises:
      UserError: the dataset's features or labels are not those that the run was trained on.
    """
    dialogues = compatible_split(run, dataset, split)
    probs = np.concatenate([p for p, _ in predict_features(run, dialogues)], axis=1)  # [S, N, C]
    labels = np.concatenate([d.labels for d in dialogues])
    if not (labels != UNLABELLED).any():
        raise UserError(f"{dataset.path}: no utterance of split '{split}' has a label, so there is nothing to score")
    each = [metrics.classification_report(labels, p.argmax(-1), len(run.labels)) for p in probs]
    result = {
        "dataset": str(dataset.path),
        "split": split,
        "n": int((labels != UNLABELLED).sum()),
        "labels": list(run.labels),
        "seeds": list(run.seeds),
        **{name: _spread([r[name] for r in each]) for name in metrics.SCORES},
        "per_class": {
            label: {k: v[c].item() for k, v in each[0]["per_class"].items()} for c, label in enumerate(run.labels)
        },
        "confusion_matrix": each[0]["confusion_matrix"].tolist(),
        "checkpoint": str(run.workdir / "checkpoints" / str(run.progress["epoch"])),
        "best_epoch": run.progress["best_epoch"],
    }
    folder = run.workdir / "eval" / split
    folder.mkdir(parents=True, exist_ok=True)
    runs.save_json(folder / "metrics.json", result)
    picture = confusion_picture(each[0]["confusion_matrix"], run.labels, title=f"{split}, seed {run.seeds[0]}")
    picture.savefig(folder / "confusion_matrix.png", dpi=150)
    _write_predictions(folder / "predictions.csv", run.labels, dialogues, probs[0])
    print(report_table(result))
    print(f"written to {folder}\n")
    return result


def compatible_split(run: Run, dataset: pack.Dataset, split: str) -> tuple[Features, ...]:
    """Returns a split with its labels numbered as the run numbers them.

    Raises:
      UserError: features come from other extractors than the run's, or a label is not in the run's set.
    """
    for modality, expected in run.modalities.items():
        found = dataset.manifest["modalities"][modality]
        if found["dim"] and found["fingerprint"] != expected["fingerprint"]:
            raise UserError(
                f"{dataset.path}: its {modality} features come from another extractor ({found['extractor']}) than "
                f"the run's ({expected['extractor']}); extract again with the run's"
            )
    numbers = [run.labels.index(check_label(x, run.labels, where=str(dataset.path))) for x in dataset.labels]
    lookup = np.array([*numbers, UNLABELLED], np.int32)  # UNLABELLED is -1: the last
    return tuple(replace(d, labels=lookup[d.labels]) for d in dataset.split(split))


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and sample standard deviation over seeds (0 for one seed)."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": std, "values": list(values)}


def _write_predictions(file: Path, labels: Sequence[str], dialogues: Sequence[Features], probs: np.ndarray) -> None:
    """One row an utterance; `probs` is `[N, C]`."""
    each = iter(probs)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["dialogue", "utterance", "speaker", "text", "label", "prediction", *labels])
        for d in dialogues:
            for utterance, speaker, text, label in zip(d.utterance_ids, d.speakers, d.texts, d.labels, strict=True):
                p = next(each)
                true = "" if label == UNLABELLED else labels[label]
                row = [d.dialogue_id, utterance, speaker, text, true, labels[p.argmax()]]
                writer.writerow([*row, *(f"{x:.6f}" for x in p)])


if __name__ == "__main__":
    sys.exit(cli.run(main))
