"""Evaluates the best epochs of a run, which were chosen on dev, on a split.

    python -m jmer.evaluate --workdir=runs/x --split=test [--dataset=DIR] [--vote] [--with=runs/y ...]
    python -m jmer.evaluate --compare runs/x runs/y --split=test [--vote]

Writes metrics.json, confusion_matrix.png, predictions.csv and report.html into WORKDIR/eval/SPLIT, and prints the
scores. With --vote the seeds vote: their probabilities are averaged, and there is one score. --with adds the seeds of
another run to the vote. A vote is written into WORKDIR/eval/SPLIT-vote. A run that was trained with config.vote is
always evaluated both ways.

--compare says whether the second run is better than the first beyond chance: by a paired bootstrap over dialogues and
by McNemar's test. The first seed of each run counts, or the vote of all with --vote. The page is written into the first
run's eval/SPLIT.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from jmer.base import cli


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__, prog="jmer evaluate")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--workdir", type=Path, help="run directory that jmer.train wrote")
    what.add_argument("--compare", type=Path, nargs=2, metavar="RUN", help="two run directories to compare")
    parser.add_argument("--split", default="test", help="train, dev or test (default test)")
    parser.add_argument("--dataset", type=Path, help="dataset directory to evaluate on (default: the one trained on)")
    parser.add_argument("--vote", action="store_true", help="score the mean of all seeds' probabilities")
    parser.add_argument(
        "--with",
        dest="others",
        type=Path,
        action="append",
        default=[],
        help="another run that votes too; repeatable",
    )
    args = cli.parse(parser, argv)

    # These modules import JAX, which takes seconds. A mistake in the arguments is reported before.
    from jmer.runs import comparison, directory
    from jmer.runs.environment import keep_compiled
    from jmer.runs.scoring import dataset_of, score, score_run

    keep_compiled()
    if args.compare:
        runs = [directory.load(path) for path in args.compare]
        print(comparison.compare_runs(*runs, split=args.split, vote=args.vote, moved=args.dataset))
        return cli.EXIT_OK
    run, *others = [directory.load(workdir) for workdir in (args.workdir, *args.others)]
    dataset = dataset_of(run, args.dataset)
    if args.vote or others:
        score([run, *others], dataset, args.split, vote=True)
    else:
        score_run(run, dataset, args.split)
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
