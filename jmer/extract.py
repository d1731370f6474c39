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

from ml_collections import ConfigDict

from jmer.base import cli


def default_config() -> ConfigDict:
    """Returns the config that config files of extraction begin with."""
    from jmer.dataset import build  # imports every extractor

    return build.default_config()


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__, prog="jmer extract")
    parser.add_argument("--strict", action="store_true", help="exit with status 3 if any row failed")
    args = cli.parse(parser, argv, config=True)

    # These modules import decoders and extractors, which take seconds. A mistake in the arguments is reported before.
    from jmer.dataset import store
    from jmer.dataset.build import extract_dataset

    manifest = store.read_manifest(extract_dataset(args.config))
    failed = any(row["status"] == "failed" for row in manifest["rows"])
    return cli.EXIT_FAILED_ROWS if args.strict and failed else cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
