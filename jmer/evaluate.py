"""Evaluates a run's best checkpoint (chosen on dev) on a split.

    python -m jmer.evaluate --workdir=runs/x --split=test [--dataset=DIR] [--vote] [--with=runs/y ...]

Writes metrics.json, confusion_matrix.png and predictions.csv into WORKDIR/eval/SPLIT and prints the report. With --vote
the seeds vote: their probabilities are averaged, and there is one score; --with adds the seeds of other runs to the
vote. That goes into WORKDIR/eval/SPLIT-vote.
"""

import csv
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jmer import cli, files, metrics, pack, runs
from jmer.errors import UserError
from jmer.labels import check_label
from jmer.predict import check_members, predict_features
from jmer.report import confusion_picture, report_table
from jmer.runs import Run
from jmer.types import UNLABELLED, Features


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--workdir", type=Path, required=True, help="run directory that jmer.train wrote")
    parser.add_argument("--split", default="test", help="train, dev or test (default test)")
    parser.add_argument("--dataset", type=Path, help="another dataset directory than the one trained on")
    parser.add_argument("--vote", action="store_true", help="average the probabilities of all seeds")
    parser.add_argument(
        "--with", dest="others", type=Path, action="append", default=[], help="another run that votes too; repeatable"
    )
    args = cli.parse(parser, argv)
    runs.keep_compiled()
    members = [runs.load(workdir) for workdir in (args.workdir, *args.others)]
    dataset = pack.load(args.dataset or Path(members[0].config.dataset))
    evaluate(members, dataset, args.split, vote=args.vote or bool(args.others))
    return cli.EXIT_OK


def evaluate(members: Sequence[Run], dataset: pack.Dataset, split: str, *, vote: bool = False) -> dict[str, Any]:
    """Scores runs on a split, writes the files, prints the report, and returns what `metrics.json` holds.

    Args:
      members: one run; more only where they vote. The files go to the first.
      vote: average the probabilities of all seeds of all members, for one score.

    Raises:
      UserError: the dataset's features or labels are not those that a run was trained on, or the runs do not fit
        together.
    """
    check_members(members)
    run, name = members[0], f"{split}-vote" if vote else split
    dialogues = compatible_split(run, dataset, split)
    each_run = [predict_features(m, compatible_split(m, dataset, split)) for m in members]
    probs = np.concatenate([np.concatenate([p for p, _ in pairs], axis=1) for pairs in each_run])  # [S, N, C]
    if vote:
        probs = probs.mean(axis=0, keepdims=True)
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
        "members": [str(m.workdir) for m in members] if vote else [],  # whose seeds voted
    }
    folder = run.workdir / "eval" / name
    who = "all seeds" if vote else f"seed {run.seeds[0]}"
    folder.mkdir(parents=True, exist_ok=True)
    files.save_json(folder / "metrics.json", result)
    picture = confusion_picture(each[0]["confusion_matrix"], run.labels, title=f"{split}, {who}")
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
