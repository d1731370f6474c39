"""Trains a model on a dataset directory; with none given, extracts the embedded sample first.

    python -m jmer.train --config configs/gat_fusion.py [--config.dataset=DIR] [--workdir=runs/x]

Running the same command again goes on from the last epoch. The epoch that counts is chosen on dev by weighted F1.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from jmer.base import cli
from jmer.training.options import TrainOptions


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__, prog="jmer train")
    parser.add_argument("--workdir", type=Path, help="run directory (default runs/CONFIG)")
    distributed = parser.add_argument_group("several processes, the same command in each, on one shared file system")
    distributed.add_argument("--coordinator", help="HOST:PORT of process 0, or auto in a cluster that JAX detects")
    distributed.add_argument("--processes", type=int, help="number of processes")
    distributed.add_argument("--process", type=int, help="number of this process, counted from 0")
    args = cli.parse(parser, argv, options=TrainOptions)

    # These modules import JAX, which takes seconds. A mistake in the arguments is reported before.
    import jax

    from jmer.dataset import store
    from jmer.dataset.build import sample_dataset
    from jmer.runs import directory
    from jmer.runs.fit import fit
    from jmer.runs.scoring import evaluate
    from jmer.training.devices import is_main, join_processes, share_cores

    workdir = args.workdir or Path("runs") / args.config_name
    if args.coordinator:
        join_processes(args.coordinator, count=args.processes, number=args.process)
    else:
        share_cores(args.config.seeds)
    directory.keep_compiled()
    if not args.config.dataset:
        args.config.dataset = str(sample_dataset())
    fit(args.config, workdir)
    if jax.process_count() > 1:
        if is_main():
            print(f"python -m jmer.evaluate --workdir={workdir} scores the run, in one process")
        return cli.EXIT_OK
    run = directory.load(workdir)
    dataset = store.load(Path(run.config.dataset))
    for split in ("dev", "test"):
        if split in dataset.manifest["splits"]:
            evaluate([run], dataset, split)
            if run.config.vote:
                evaluate([run], dataset, split, vote=True)
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
