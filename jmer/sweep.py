"""Tries settings of training, several side by side in one compiled program, and compares them on dev.

    python -m jmer.sweep --config configs/gat_fusion.py --config.dataset=DIR --trials=64 \\
        --search lr=log:1e-4..1e-2 --search dropout=0.1..0.6 --search class_weights=none/sqrt/effective

The sweep needs `pip install 'jmer[sweep]'`. It leaves trials.csv, with a row for each setting, and best.py, a config of
the best one for jmer.train. Numbers such as rates, weights and decays share a program; each other choice compiles one.
If all options have values to choose from, and --trials allows, every combination is tried; otherwise Optuna draws the
settings and learns from their scores. The same command again goes on after the last setting, also with more --trials.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jmer.base import cli, jaxsetup
from jmer.base.errors import UserError
from jmer.training.options import TrainOptions


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__, prog="jmer sweep")
    parser.add_argument(
        "--search",
        action="append",
        default=[],
        metavar="NAME=SPACE",
        help="an option, and its range LOW..HIGH or log:LOW..HIGH, or its values VALUE/VALUE; repeatable",
    )
    parser.add_argument("--trials", type=int, default=32, help="settings that are tried (default 32)")
    parser.add_argument(
        "--width", type=int, default=0, help="settings side by side (default: one a CPU core, 16 on a GPU or TPU)"
    )
    parser.add_argument("--workdir", type=Path, help="directory of the sweep (default runs/CONFIG-sweep)")
    args = cli.parse(parser, argv, options=TrainOptions)
    options, workdir = args.options, args.workdir or Path("runs") / f"{args.config_name}-sweep"
    for name, value, least in (("trials", args.trials, 1), ("width", args.width, 0)):
        if value < least:
            raise UserError(f"--{name} is {value}; expected at least {least}")
    if options.cv != "none" and options.fold < 0:
        raise UserError("a sweep compares settings on dev; name one fold with --config.fold, or leave config.cv out")

    # These modules import JAX and Optuna, which takes seconds. A mistake in the arguments is reported before.
    from jmer.runs.space import read_space

    space = read_space(args.search, args.config)
    try:
        from jmer.runs.study import sweep
    except ModuleNotFoundError as error:
        raise UserError(f"a sweep needs {error.name}; install it with pip install 'jmer[sweep]'") from error
    import jax

    from jmer.dataset import store
    from jmer.dataset.build import sample_dataset
    from jmer.runs.environment import keep_compiled
    from jmer.runs.scoring import folded
    from jmer.training.devices import share_cores

    share_cores(args.width * options.seeds)  # a width of 0 fits all cores
    jaxsetup.keep_freed_memory()
    keep_compiled()
    width = args.width or (jax.device_count() if jax.default_backend() == "cpu" else 16)
    options = replace(options, dataset=options.dataset or str(sample_dataset()))
    dataset = folded(store.load(Path(options.dataset)), options)
    sweep(options, dataset, space, trials=args.trials, width=width, workdir=workdir)
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
