"""Measures what each modality alone is worth: trains on all modalities and on each one, and prints a table.

    python benchmarks/modality_ablation.py [--config=FILE] [--config.dataset=DIR] [--workdir=runs/NAME]

With no dataset given, the embedded sample is used. The sample is synthetic, so its table only shows that fusion works.
The row of all modalities is the run in WORKDIR, as `jmer.train` makes it; the run on text alone lies beside it in
WORKDIR-text, and so on. A run that is already finished is not trained again.
"""

import contextlib
import io
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jmer.base import cli
from jmer.base.options import from_config
from jmer.dataset import build, store
from jmer.runs import directory, fit, scoring
from jmer.training.options import TrainOptions


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "--workdir", type=Path, help="run of all modalities; default runs/NAME, NAME that of the config file"
    )
    parser.set_defaults(config="configs/gat_fusion.py")
    args = cli.parse(parser, argv, config=True)
    options = from_config(TrainOptions, args.config)
    if not options.dataset:
        with contextlib.redirect_stdout(io.StringIO()):
            options = replace(options, dataset=str(build.sample_dataset()))
    dataset = store.load(Path(options.dataset))
    whole = args.workdir or Path("runs") / args.config_name
    rows, choices = [], ("", *dataset.dims)
    for i, modality in enumerate(choices, 1):
        print(f"training on {modality or 'all modalities'}, {i} of {len(choices)}", flush=True)
        start = time.perf_counter()
        workdir = whole.with_name(f"{whole.name}-{modality}") if modality else whole
        with contextlib.redirect_stdout(io.StringIO()):  # one table at the end replaces the reports
            fit.fit(replace(options, modalities=modality), dataset, workdir)
            run = directory.load(workdir)
            splits = [split for split in ("dev", "test") if split in dataset.manifest["splits"]]
            results = {split: scoring.score([run], dataset, split, vote=False) for split in splits}
        rows.append((modality or "all", results, time.perf_counter() - start))
    splits = list(rows[0][1])
    print(
        f"\n{'modality':<12}" + "".join(f"{s + ' weighted F1':>20}{s + ' macro-F1':>16}" for s in splits) + f"{'s':>8}"
    )
    for modality, results, seconds in rows:
        figures = ""
        for split in splits:
            figures += f"{results[split]['weighted_f1']['mean']:>20.4f}{results[split]['macro_f1']['mean']:>16.4f}"
        print(f"{modality:<12}{figures}{seconds:>8.1f}")
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
