"""Fine-tunes an encoder of text on dialogues: all of its weights, or adapters beside them.

    python -m jmer.finetune --config configs/finetune/text.py --config.source=meld --config.root=data/MELD.Raw

Whole dialogues are rows of tokens, so that one pass encodes every utterance in its context. The same command again goes
on after the last epoch that was saved. The best epoch of each seed, and then the best seed, is chosen on dev by
weighted F1. `jmer.extract --config.text.model=WORKDIR/model` then reads the encoder, and a model for several modalities
is trained on its features.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from jmer.base import cli, jaxsetup
from jmer.tuning.options import TuneOptions, default_config

__all__ = ["default_config"]  # config files begin with it


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__, prog="jmer finetune")
    parser.add_argument("--workdir", type=Path, help="run directory (default runs/CONFIG)")
    args = cli.parse(parser, argv, options=TuneOptions)

    # These modules import JAX, which takes seconds. A mistake in the arguments is reported before.
    from jmer.runs.environment import keep_compiled
    from jmer.tuning.fit import fit

    jaxsetup.keep_freed_memory()
    keep_compiled()
    fit(args.options, args.workdir or Path("runs") / args.config_name)
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
