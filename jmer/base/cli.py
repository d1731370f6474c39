"""What jmer's command lines share: config files with typed overrides, one-line errors, exit codes, progress bars.

    args = cli.parse(parser, argv, options=TrainOptions)  # args.config is a ConfigDict, args.options a TrainOptions
    sys.exit(cli.run(main))

Exit codes: 0 done; 2 bad arguments, config or input; 3 finished, but rows failed and --strict was given; 4 training
diverged; 5 a disk is full or a folder may not be written to; 75 interrupted and resumable.

jmer reads the overrides itself. The config flags of absl would do so too, but they always read `sys.argv`, so that a
command could not be called from Python.
"""

import argparse
import ast
import errno
import importlib.util
import logging
import os
import re
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ml_collections import ConfigDict
from tqdm import tqdm

from jmer.base import console, interrupts
from jmer.base import options as declared
from jmer.base.errors import StorageError, UserError, did_you_mean
from jmer.base.paths import config_names, find_config

EXIT_OK, EXIT_USER_ERROR, EXIT_FAILED_ROWS, EXIT_INTERRUPTED = 0, 2, 3, interrupts.EXIT_INTERRUPTED

_FREE = "free space and run the same command again; finished work is kept"
# What to do about an error of a disk or a folder, by its number.
_STORAGE = {
    errno.ENOSPC: _FREE,
    errno.EDQUOT: _FREE,
    errno.EFBIG: _FREE,
    errno.EROFS: "name a folder on a disk that can be written to",
    errno.EACCES: "change its permissions, or name another folder",
    errno.EPERM: "change its permissions, or name another folder",
}

_BOOLS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_HELP_WIDTH, _HELP_COLUMN = 100, 40


def run(main: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Calls `main(argv)`, shows its status lines, and returns the exit code.

    Ctrl-C and SIGTERM both count as an interruption. Without `argv`, the arguments are those of the process, which is
    to end with the exit code: if it does not within 8 s of an interruption, it is ended.
    """
    with interrupts.caught(ends_process=argv is None) as interruption:
        try:
            with console.shown():
                code, fault = _outcome(main, sys.argv[1:] if argv is None else argv)
            interruption.over()
        except BaseException as error:  # an interrupted import may end in any
            interruption.over()
            if not interruption.signalled and not isinstance(error, KeyboardInterrupt):
                raise
            code, fault = EXIT_INTERRUPTED, ""
        if interruption.signalled or code == EXIT_INTERRUPTED:
            print(interrupts.MESSAGE, file=sys.stderr)
            return EXIT_INTERRUPTED
        if fault:
            print(f"error: {fault}", file=sys.stderr)
        if code == StorageError.exit_code and argv is None:
            # Threads and hooks of libraries, such as TensorBoard's, try to write what is left, and fail as well.
            sys.unraisablehook = threading.excepthook = lambda _: None
        return code


def _outcome(main: Callable[[Sequence[str]], int | None], argv: Sequence[str]) -> tuple[int, str]:
    """Calls `main(argv)`; returns the exit code, and what to tell the user where an error ended the command."""
    try:
        return main(argv) or EXIT_OK, ""
    except UserError as error:
        return error.exit_code, " ".join(str(error).split())
    except Exception as error:
        if not (fault := _storage_fault(error)):
            raise
        logging.getLogger("asyncio").disabled = True  # it would report every other write that failed as well
        return StorageError.exit_code, fault


def _storage_fault(error: Exception) -> str:
    """Returns what to tell the user of a full disk or a folder that may not be written to; empty for other errors.

    Libraries in C++ raise errors of other types, whose text holds that of the system's error.
    """
    if isinstance(error, OSError):
        if error.errno not in _STORAGE:
            return ""
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}; {_STORAGE[error.errno]}"
    text = " ".join(str(error).split())
    number = next((n for n in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) if os.strerror(n) in text), None)
    if number is None:
        return ""
    named = re.search(r"""["' ](/[^"' ;]+)""", text)  # the rest is for those who know the library
    return f"{named[1]}: {os.strerror(number)}; {_STORAGE[number]}" if named else f"{text}; {_STORAGE[number]}"


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Lays the flags of a command out in the same columns as the fields of its config."""

    def __init__(self, prog: str):
        super().__init__(prog, width=_HELP_WIDTH, max_help_position=_HELP_COLUMN)


class Parser(argparse.ArgumentParser):
    """An argparse parser that shows a module's docstring as help and raises errors as UserError.

    Flags cannot be abbreviated.
    """

    def __init__(self, doc: str | None, *, prog: str | None = None, status_apart: bool = False):
        """Makes a parser with the flag `--quiet`.

        Args:
          prog: the name of the command in the usage line, such as `jmer train`.
          status_apart: the command's status lines go to standard error, because standard output holds its answer alone.
        """
        self.status_apart = status_apart
        super().__init__(prog=prog, description=doc, formatter_class=_Formatter, allow_abbrev=False)
        self.add_argument("--quiet", action="store_true", help="no status lines and no progress bars")

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists the arguments")


def parse(
    parser: Parser, argv: Sequence[str], *, config: bool = False, options: type | None = None
) -> argparse.Namespace:
    """Returns the parsed arguments.

    Args:
      config: whether the command takes a config. Then `.config` is the config of the file that `--config` names, with
        the overrides applied, and `.config_name` is the file's name without `.py`.
      options: the options class of the command; implies `config`. Then the config is checked, `.options` is the
        instance that the config describes, and `--help` lists every option with its sentence of help.

    Raises:
      UserError: an argument or field is unknown, a value has the wrong type or is out of range, or the config file is
        missing or broken.
    """
    overrides = []
    if config or options:
        parser.add_argument(
            "--config",
            metavar="CONFIG",
            help="a config file, or the name of a config that comes with jmer; --config.FIELD=VALUE sets a field",
        )
        argv, overrides = _split_overrides(argv)
        if "-h" in argv or "--help" in argv:
            parser.epilog = _fields_help(argv, options)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        name = unknown[0].split("=")[0]
        flags = [flag for action in parser._actions for flag in action.option_strings]
        hint = did_you_mean(name, flags) or "; --help lists the arguments"
        raise UserError(f"unknown argument '{unknown[0]}'{hint}")
    console.configure(quiet=args.quiet, apart=parser.status_apart)
    if config or options:
        if args.config is None:
            raise UserError(
                "no config was given; name a file or a config that comes with jmer, such as --config "
                f"{config_names()[0]} (there are {', '.join(config_names())})"
            )
        file = find_config(args.config)
        args.config_name = file.stem
        args.config = load_config(file)
        for field, text in overrides:
            set_field(args.config, field, text)
    if options:
        args.options = declared.from_config(options, args.config)
    return args


def load_config(name: str | Path) -> ConfigDict:
    """Returns what `get_config()` of a config file returns, locked against new fields.

    Args:
      name: a path, or the name of a config that comes with jmer.

    Raises:
      UserError: there is no such file, the file has no `get_config`, or running the file fails.
    """
    file = find_config(name)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise UserError(f"config file {file} is not a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config()
    except Exception as error:  # whatever the user's file raises, the user has to correct the file
        raise UserError(f"config file {file}: {type(error).__name__}: {error}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"config file {file}: get_config() returned {type(config).__name__}, expected a ConfigDict")
    return config.lock()


def fields(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted name, value) of every field, sorted by name."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def set_field(config: ConfigDict, field: str, text: str) -> None:
    """Sets the field of a dotted name to the value that `text` spells, read as the type that the field has.

    Raises:
      UserError: there is no such field, or the text does not spell a value of the field's type.
    """
    known = dict(fields(config))
    if field not in known:
        if any(name.startswith(f"{field}.") for name in known):
            inner = ", ".join(name for name in known if name.startswith(f"{field}."))
            raise UserError(f"config field '{field}' is a group; set one of its fields ({inner})")
        hint = did_you_mean(field, known) or f" (fields: {', '.join(known)})"
        raise UserError(f"config has no field '{field}'{hint}")
    *path, name = field.split(".")
    group: Any = config
    for inner in path:
        group = group[inner]
    kind = group.get_type(name)
    try:
        value = _read(text, kind, known[field])
    except (ValueError, SyntaxError, KeyError) as error:
        raise UserError(f"config field '{field}': '{text}' does not read as {kind.__name__}") from error
    group[name] = value


def _read(text: str, kind: type, current: Any) -> Any:
    """Returns the value of type `kind` that `text` spells; `current` shows the type of a tuple's elements."""
    if kind is bool:
        return _BOOLS[text.lower()]
    if kind in (int, float, str):
        return kind(text)
    if kind in (tuple, list):  # ('a', 'b') as in Python, or a,b
        element = type(current[0]) if current else str
        if text[:1] not in ("(", "["):
            return kind(_read(item.strip(), element, None) for item in text.split(",") if item.strip())
        value = ast.literal_eval(text)
        items = value if isinstance(value, tuple | list) else (value,)  # ('a') is a single element in parentheses
        if any(type(item) is not element for item in items):
            raise ValueError(f"expected elements of type {element.__name__}")
        return kind(items)
    return ast.literal_eval(text)


def _split_overrides(argv: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Separates the overrides from the other arguments.

    An override is `--config.a.b=value` or `--config.a.b value`. A `--config.a.b` that stands alone sets the field to
    true.
    """
    rest, overrides, words = [], [], list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("--config."):
            rest.append(word)
            continue
        field, equals, text = word.removeprefix("--config.").partition("=")
        if not equals:
            text = words.pop(0) if words and not words[0].startswith("--") else "true"
        overrides.append((field, text))
    return rest, overrides


def _fields_help(argv: Sequence[str], options: type | None) -> str:
    """Returns the help on the fields of the config that `argv` names, with the config's values.

    If `argv` names no config, the help shows the defaults of the options class, if there is one.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config")
    named = finder.parse_known_args([word for word in argv if word not in ("-h", "--help")])[0].config
    if named is not None:
        config, source = load_config(named), f"the values of {find_config(named)}"
    elif options is not None:
        config, source = declared.to_config(options()), "the defaults; --config CONFIG --help shows a config's values"
    else:
        return f"--config CONFIG --help shows the fields of a config (there are {', '.join(config_names())})."
    values = dict(fields(config))
    lines = [f"fields of the config, with {source}:"]
    if options is None:
        return "\n".join([*lines, *(f"  --config.{name}={value}" for name, value in values.items())])
    for heading, listed in declared.groups(options):
        lines += ["", f"{heading}:"]
        for name, default, field in listed:
            lines += _field_help(f"--config.{name}={values.get(name, default)}", field.describe())
    return "\n".join(lines)


def _field_help(flag: str, text: str) -> list[str]:
    """Returns the lines that show a flag on the left and its help on the right, as argparse lays them out."""
    start = f"  {flag}"
    lines = textwrap.wrap(text, _HELP_WIDTH - _HELP_COLUMN)
    if len(start) + 2 > _HELP_COLUMN:
        return [start, *(" " * _HELP_COLUMN + line for line in lines)]
    return [start.ljust(_HELP_COLUMN) + lines[0], *(" " * _HELP_COLUMN + line for line in lines[1:])]


def progress_bar(
    items: Iterable = (), *, total: int | None, desc: str, unit: str, initial: int = 0, unit_scale: bool = False
) -> tqdm:
    """Returns a progress bar on standard error. A log file gets a line every half minute.

    A total of 0 shows no bar, and neither does a command with --quiet.
    """
    every = 0.1 if sys.stderr.isatty() else 30.0  # seconds
    return tqdm(
        items,
        total=total,
        desc=desc,
        unit=unit,
        initial=initial,
        unit_scale=unit_scale,
        mininterval=every,
        disable=total == 0 or console.is_quiet(),
    )
