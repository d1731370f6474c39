"""Extracts features from clips and transcripts and packs them as a dataset directory that jmer.train reads.

    python -m jmer.extract --config configs/extract/lite.py --config.source=sample
    python -m jmer.extract --config configs/extract/hf.py --config.source=meld --config.root=data/MELD.Raw
    python -m jmer.extract --config configs/extract/lite.py --config.source=table --config.root=my.csv

`--config.views=2` adds two views of every train dialogue with changed texts and sounds, as the splits `train_view1` and
`train_view2`. A view differs from train only in its features: its texts and its rows are those of train.

Extracted features are kept in a cache (`$JMER_CACHE`, else ~/.cache/jmer), so that the same command continues an
interrupted extraction. The command ends with a table of ok, degraded and failed rows. Exit codes: 0 done; 2 bad
arguments or input; 3 rows failed and --strict was given; 75 interrupted.
"""

import sys
from collections.abc import Sequence

from jmer.base import cli, jaxsetup
from jmer.dataset.options import ExtractOptions, default_config

__all__ = ["default_config"]  # config files begin with it


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__, prog="jmer extract")
    parser.add_argument("--strict", action="store_true", help="exit with status 3 if any row failed")
    args = cli.parse(parser, argv, options=ExtractOptions)
    jaxsetup.keep_freed_memory()

    from jmer.dataset import manifest  # what does the work is loaded once the arguments are known to be right
    from jmer.dataset.build import extract_dataset

    rows = manifest.read(extract_dataset(args.options))["rows"]
    failed = any(row["status"] == "failed" for row in rows)
    return cli.EXIT_FAILED_ROWS if args.strict and failed else cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
