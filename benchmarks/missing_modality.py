"""What a cross-validated run says where a modality is missing, on the utterances that have a chosen one.

    python benchmarks/missing_modality.py --workdir=runs/ravdess-both --of=video

A row hides one modality from the trained models, or none. The score is that of all folds together, the mean over the
seeds; `--of` keeps the utterances that have this modality.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from jmer.base.types import Features
from jmer.runs import directory
from jmer.runs.directory import Run, RunDirectory
from jmer.runs.predictor import predict_features
from jmer.runs.scoring import dataset_of
from jmer.training.metrics import classification_report


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="directory that jmer.train wrote with config.cv")
    parser.add_argument("--of", required=True, help="modality that the scored utterances have")
    args = parser.parse_args(argv)
    folders = RunDirectory(args.workdir).fold(0).path.parent
    runs = [directory.load(path) for path in sorted(folders.iterdir())]
    tested = [dataset_of(run, None).split("test") for run in runs]
    chosen = np.concatenate([d.present[args.of] for dialogues in tested for d in dialogues])
    labels = np.concatenate([d.labels for dialogues in tested for d in dialogues])[chosen]
    print(f"{args.workdir}: {chosen.sum()} of {len(chosen)} utterances have {args.of}")
    print(f"{'hidden':10}{'weighted F1':>18}{'macro-F1':>18}")
    for hidden in ("none", *runs[0].inputs.modalities):
        probs = np.concatenate([without(r, d, hidden) for r, d in zip(runs, tested, strict=True)], axis=1)[:, chosen]
        each = [classification_report(labels, p.argmax(-1), p.shape[-1]) for p in probs]
        figures = [[report[name] for report in each] for name in ("weighted_f1", "macro_f1")]
        print(f"{hidden:10}" + "".join(f"{np.mean(x):10.3f} +- {np.std(x, ddof=len(x) > 1):.3f}" for x in figures))
    return 0


def without(run: Run, dialogues: Sequence[Features], hidden: str) -> np.ndarray:
    """Returns what the seeds of a run say, `[S, N, C]`, when a modality is hidden."""
    masked = [replace(d, present={m: x & (m != hidden) for m, x in d.present.items()}) for d in dialogues]
    return np.concatenate([probs for probs, _ in predict_features(run, masked)], axis=1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
