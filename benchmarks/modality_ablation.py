"""What each modality alone is worth: trains on all and on each one, and prints a table.

    python benchmarks/modality_ablation.py [--config=FILE] [--config.dataset=DIR] [--workdir=runs/ablation]

With no dataset given it uses the embedded sample, which is synthetic: its table shows that fusion works, nothing more.
Runs that are there already are not trained again.
"""

import contextlib
import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from jmer import cli, evaluate, extract, pack, runs, train


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--workdir", type=Path, default=Path("runs/ablation"), help="holds a run for each row")
    parser.set_defaults(config="configs/gat_fusion.py")
    args = cli.parse(parser, argv, config=True)
    config = args.config
    if not config.dataset:
        config.dataset = str(extract.sample_dataset())
    dataset = pack.load(Path(config.dataset))
    rows = []
    for modalities in [",".join(dataset.dims), *dataset.dims]:
        start = time.perf_counter()
        config.modalities = modalities
        workdir = args.workdir / modalities.replace(",", "-")
        train.train(config, workdir)
        run = runs.load(workdir)
        results = {}
        for split in ("dev", "test"):
            if split in dataset.manifest["splits"]:
                with contextlib.redirect_stdout(io.StringIO()):  # the table below says it all
                    results[split] = evaluate.evaluate(run, dataset, split)
        rows.append((modalities, results, time.perf_counter() - start))
    splits = list(rows[0][1])
    print(
        f"\n{'modalities':<20}"
        + "".join(f"{s + ' weighted F1':>20}{s + ' macro-F1':>16}" for s in splits)
        + f"{'s':>8}"
    )
    for modalities, results, seconds in rows:
        figures = ""
        for split in splits:
            figures += f"{results[split]['weighted_f1']['mean']:>20.4f}{results[split]['macro_f1']['mean']:>16.4f}"
        print(f"{modalities:<20}{figures}{seconds:>8.1f}")
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
