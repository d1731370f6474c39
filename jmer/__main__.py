"""All commands of jmer under one name: `jmer COMMAND ...` does the same as `python -m jmer.COMMAND ...`.

jmer --help
jmer train --config gat_fusion --config.epochs=5
"""

import ast
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import jmer
from jmer.base import cli
from jmer.base.errors import UserError, did_you_mean

# As data flows.
COMMANDS = ("download", "finetune", "extract", "train", "sweep", "evaluate", "predict", "demo", "export")


def main(argv: Sequence[str]) -> int | None:
    """Runs the command that the first argument names with the other arguments.

    Raises:
      UserError: there is no such command, or the command refuses its arguments.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return cli.EXIT_OK
    if argv[0] == "--version":
        print(jmer.__version__)
        return cli.EXIT_OK
    name, *rest = argv
    if name not in COMMANDS:
        raise UserError(f"jmer has no command '{name}' ({', '.join(COMMANDS)}){did_you_mean(name, COMMANDS)}")
    return importlib.import_module(f"jmer.{name}").main(rest)


def console() -> int:
    """Runs jmer on the arguments of the command line and returns the exit code."""
    return cli.run(main)


def _help() -> str:
    """Returns the usage and the first sentence of each command's docstring, read without importing the command."""
    lines = ["usage: jmer [--help] [--version] COMMAND ...", "", (jmer.__doc__ or "").splitlines()[0], ""]
    for name in COMMANDS:
        source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
        lines.append(f"  {name:10}{(ast.get_docstring(ast.parse(source)) or '').splitlines()[0]}")
    return "\n".join([*lines, "", "jmer COMMAND --help describes a command."])


if __name__ == "__main__":
    sys.exit(console())
