"""Extracts features from clips and transcripts and packs them as a dataset directory that jmer.train reads.

    python -m jmer.extract --config configs/extract/lite.py --config.source=sample
    python -m jmer.extract --config configs/extract/hf.py --config.source=meld --config.root=data/MELD.Raw
    python -m jmer.extract --config configs/extract/lite.py --config.source=table --config.root=my.csv

`--config.views=2` adds two views of every dialogue of train, its texts and sounds augmented: splits `train_view1` and
`train_view2`, alike in everything but the features. The texts stored with a view, and the rows, are the originals'.

What was extracted once is in a cache (`$JMER_CACHE`, else ~/.cache/jmer), so that an interrupted run goes on where it
was when the same command is run again. Ends with a table of ok, degraded and failed rows. Exit codes: 0 done; 2 bad
arguments or input; 3 rows failed and --strict was given; 75 interrupted.
"""

import sys
from collections.abc import Sequence

from jmer.base import cli
from jmer.dataset import store
from jmer.dataset.build import default_config, extract_dataset

__all__ = ["default_config"]  # config files begin with it


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--strict", action="store_true", help="exit with status 3 if any row failed")
    args = cli.parse(parser, argv, config=True)
    manifest = store.read_manifest(extract_dataset(args.config))
    failed = any(row["status"] == "failed" for row in manifest["rows"])
    return cli.EXIT_FAILED_ROWS if args.strict and failed else cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
