"""What a cross-validated run says where a modality is missing, on the utterances that have a chosen one.

    python benchmarks/missing_modality.py --workdir=runs/ravdess-both --of=video

A row hides one modality from the trained models, or none. The score is that of all folds together, the mean over the
seeds; `--of` keeps the utterances that have this modality.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from held_out import cell, fold_runs, scores

from jmer.runs.scoring import dataset_of, without


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="directory that jmer.train wrote with config.cv")
    parser.add_argument("--of", required=True, help="modality that the scored utterances have")
    args = parser.parse_args(argv)
    runs = fold_runs(args.workdir)
    tested = [dataset_of(run, None).split("test") for run in runs]
    chosen = np.concatenate([d.present[args.of] for dialogues in tested for d in dialogues])
    print(f"{args.workdir}: {chosen.sum()} of {len(chosen)} utterances have {args.of}")
    print(f"{'hidden':10}{'weighted F1':>18}{'macro-F1':>18}")
    for hidden in ("none", *runs[0].inputs.modalities):
        masked = [[without(d, hidden) for d in dialogues] for dialogues in tested]
        print(f"{hidden:10}" + "".join(f"{cell(x):>18}" for x in scores(runs, masked, chosen)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
