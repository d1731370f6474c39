"""Evaluates a run's best checkpoint (chosen on dev) on a split.

    python -m jmer.evaluate --workdir=runs/x --split=test [--dataset=DIR] [--vote] [--with=runs/y ...]

Writes metrics.json, confusion_matrix.png and predictions.csv into WORKDIR/eval/SPLIT and prints the report. With --vote
the seeds vote: their probabilities are averaged, and there is one score; --with adds the seeds of other runs to the
vote. That goes into WORKDIR/eval/SPLIT-vote.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from jmer.base import cli


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__, prog="jmer evaluate")
    parser.add_argument("--workdir", type=Path, required=True, help="run directory that jmer.train wrote")
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
    from jmer.dataset import store
    from jmer.runs import directory
    from jmer.runs.scoring import evaluate

    directory.keep_compiled()
    members = [directory.load(workdir) for workdir in (args.workdir, *args.others)]
    dataset = store.load(args.dataset or Path(members[0].config.dataset))
    evaluate(members, dataset, args.split, vote=args.vote or bool(args.others))
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
