"""Trains a model on a dataset directory; with no dataset given, extracts the embedded sample first.

    python -m jmer.train --config configs/gat_fusion.py [--config.dataset=DIR] [--workdir=runs/x]

The same command again goes on after the last epoch that was saved. Settings that do not change the result may differ
then: another place of the same dataset, devices, vote, and more epochs, over which the learning rate then decays. The
best epoch is chosen on dev by weighted F1, and the temperature of the probabilities on dev as well.

With --config.cv=speaker or dialogue, each fold is trained into WORKDIR/folds/N, and the scores of all folds together go
into WORKDIR/eval/cv. --config.choose=last then trains a fold on all other folds, and keeps the last epoch.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jmer.base import cli, jaxsetup
from jmer.base.errors import UserError
from jmer.training.options import TrainOptions

_log = logging.getLogger("jmer.train")


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__, prog="jmer train")
    parser.add_argument("--workdir", type=Path, help="run directory (default runs/CONFIG)")
    distributed = parser.add_argument_group("several processes, the same command in each, on one shared file system")
    distributed.add_argument("--coordinator", help="HOST:PORT of process 0, or auto in a cluster that JAX detects")
    distributed.add_argument("--processes", type=int, help="number of processes")
    distributed.add_argument("--process", type=int, help="number of this process, counted from 0")
    args = cli.parse(parser, argv, options=TrainOptions)
    if args.coordinator and args.options.cv != "none" and args.options.fold < 0:
        raise UserError(
            "--coordinator cannot be used with config.cv, because the folds are scored in one process; train each fold "
            "by a command of its own, with --config.fold=0 and so on"
        )

    # These modules import JAX, which takes seconds. A mistake in the arguments is reported before.
    import jax

    from jmer.dataset import store
    from jmer.dataset.build import sample_dataset
    from jmer.runs import directory
    from jmer.runs.crossval import cross_validate
    from jmer.runs.environment import keep_compiled
    from jmer.runs.fit import fit
    from jmer.runs.scoring import calibrate, folded, score_run
    from jmer.training.devices import is_main, join_processes, share_cores

    options, workdir = args.options, args.workdir or Path("runs") / args.config_name
    if args.coordinator:
        join_processes(args.coordinator, count=args.processes, number=args.process)
    else:
        share_cores(options.seeds)
    jaxsetup.keep_freed_memory()
    keep_compiled()
    options = replace(options, dataset=options.dataset or str(sample_dataset()))
    dataset = store.load(Path(options.dataset))
    if options.cv != "none" and options.fold < 0:
        cross_validate(options, dataset, workdir)
        return cli.EXIT_OK
    dataset = folded(dataset, options)
    fit(options, dataset, workdir)
    if jax.process_count() > 1:
        if is_main():
            _log.info(f"python -m jmer.evaluate --workdir={workdir} scores the run, in one process")
        return cli.EXIT_OK
    run = calibrate(directory.load(workdir), dataset)
    for split in ("dev", "test"):
        if split in dataset.manifest["splits"]:
            score_run(run, dataset, split)
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
