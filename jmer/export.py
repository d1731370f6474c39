"""Writes a trained run as a folder to hand on: parameters, config, labels, extractors, calibration, hashes, a card.

    python -m jmer.export --workdir=runs/x --out=DIR [--format=orbax] [--stablehlo] [--onnx=100] [--vote]

jmer.load(DIR) and the option --workdir of jmer.predict and jmer.evaluate open the folder as they open the run, with the
same answers. The parameters are those of the best epochs, in one safetensors file, or with --format=orbax in an Orbax
checkpoint. With --stablehlo the folder also holds the model as one program, model.stablehlo, which JAX runs without
jmer, and with --onnx=100 also an ONNX file for dialogues of up to 100 utterances, which needs jmer[onnx]; with --vote,
or where the run was trained with config.vote, all seeds vote in both. README.md, the card, has fields for licences that
whoever publishes the model fills in.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from jmer.base import cli
from jmer.base.errors import UserError

_log = logging.getLogger("jmer.export")


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__, prog="jmer export")
    parser.add_argument("--workdir", type=Path, required=True, help="run directory that jmer.train wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model; an earlier export is replaced")
    parser.add_argument(
        "--format", choices=("safetensors", "orbax"), default="safetensors", help="how parameters are stored"
    )
    parser.add_argument("--stablehlo", action="store_true", help="also write the model as one program")
    parser.add_argument("--onnx", type=int, default=0, help="also write an ONNX file for so many utterances")
    parser.add_argument("--vote", action="store_true", help="all seeds vote in the program")
    args = cli.parse(parser, argv)
    if args.onnx < 0:
        raise UserError(f"--onnx is {args.onnx}; expected how many utterances a dialogue may have, such as 100")
    if args.vote and not (args.stablehlo or args.onnx):
        raise UserError("--vote says how a program answers; give --stablehlo or --onnx too, or leave --vote out")

    # These modules import JAX, which takes seconds. A mistake in the arguments is reported before.
    from jmer.runs import directory
    from jmer.runs.export import export

    run = directory.load(args.workdir)
    size = export(run, args.out, form=args.format, stablehlo=args.stablehlo, onnx=args.onnx, vote=args.vote)
    seeds = "1 seed" if run.options.seeds == 1 else f"each of {run.options.seeds} seeds"
    _log.info(f"wrote {args.out}: {size:,} parameters of {seeds}; jmer.load('{args.out}') opens it")
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
