"""What jmer's command lines share: config files with typed overrides, one-line errors, exit codes.

    args = cli.parse(parser(), argv, config=True)    # argparse's own parser; args.config is a ConfigDict
    sys.exit(cli.run(main))

Exit codes: 0 done; 2 bad arguments, config or input; 3 finished, but rows failed and --strict was given; 75 interrupted
and resumable. Overrides are read here rather than by absl's config flags, which look at `sys.argv` whatever arguments
they are given, so that they could not be called from Python.
"""

import argparse
import ast
import importlib.util
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from ml_collections import ConfigDict
from tqdm import tqdm

from jmer.base.errors import UserError

EXIT_OK, EXIT_USER_ERROR, EXIT_FAILED_ROWS, EXIT_INTERRUPTED = 0, 2, 3, 75

_BOOLS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def run(main: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Calls `main(argv)` and returns the exit code; Ctrl-C and SIGTERM alike end it as an interruption."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        return main(sys.argv[1:] if argv is None else argv) or EXIT_OK
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted; what is done is kept: run the same command again to go on", file=sys.stderr)
        return EXIT_INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, previous)


class Parser(argparse.ArgumentParser):
    """argparse, with a module's docstring as its help, no abbreviated flags, and errors raised as UserError."""

    def __init__(self, doc: str | None):
        super().__init__(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists the arguments")


def parse(parser: Parser, argv: Sequence[str], *, config: bool = False) -> argparse.Namespace:
    """Returns the parsed arguments; with `config`, `.config` is the file of `--config` with the overrides applied
    and `.config_name` that file's name without `.py`.

    Raises:
      UserError: an argument or field is unknown, a value is of the wrong type, the config file is missing or broken.
    """
    overrides = []
    if config:
        parser.add_argument("--config", metavar="FILE.py", help="config file; --config.FIELD=VALUE sets a field of it")
        argv, overrides = _split_overrides(argv)
        if "-h" in argv or "--help" in argv:
            parser.epilog = _fields_help(argv)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        name = unknown[0].split("=")[0]
        flags = [flag for action in parser._actions for flag in action.option_strings]
        raise UserError(f"unknown argument '{unknown[0]}'{_hint(name, flags)}; --help lists the arguments")
    if config:
        if args.config is None:
            raise UserError("no config file was given (--config=FILE.py); configs/ holds those that come with jmer")
        args.config_name = Path(args.config).stem
        args.config = load_config(args.config)
        for field, text in overrides:
            set_field(args.config, field, text)
    return args


def load_config(file: str | Path) -> ConfigDict:
    """Returns what `get_config()` of a Python file returns.

    Raises:
      UserError: there is no such file, it has no `get_config`, or running it fails.
    """
    file = Path(file)
    if not file.is_file():
        raise UserError(f"config file {file} does not exist; configs/ holds those that come with jmer")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise UserError(f"config file {file} is not a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config()
    except Exception as error:  # whatever a user's file raises, it is the file that needs mending
        raise UserError(f"config file {file}: {type(error).__name__}: {error}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"config file {file}: get_config() returned {type(config).__name__}, expected a ConfigDict")
    return config.lock()


def fields(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted name, value) of every field, by name."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def set_field(config: ConfigDict, field: str, text: str) -> None:
    """Sets the field of a dotted name to `text`, read as the type that the field has.

    Raises:
      UserError: there is no such field, or the text does not read as its type.
    """
    known = dict(fields(config))
    if field not in known:
        if any(name.startswith(f"{field}.") for name in known):
            inner = ", ".join(name for name in known if name.startswith(f"{field}."))
            raise UserError(f"config field '{field}' is a group; set one of its fields ({inner})")
        raise UserError(f"config has no field '{field}'{_hint(field, known)} (fields: {', '.join(known)})")
    *groups, name = field.split(".")
    group: Any = config
    for inner in groups:
        group = group[inner]
    kind = group.get_type(name)
    try:
        value = _read(text, kind, known[field])
    except (ValueError, SyntaxError, KeyError) as error:
        raise UserError(f"config field '{field}': '{text}' does not read as {kind.__name__}") from error
    group[name] = value


def _read(text: str, kind: type, current: Any) -> Any:
    if kind is bool:
        return _BOOLS[text.lower()]
    if kind in (int, float, str):
        return kind(text)
    if kind in (tuple, list):  # ('a', 'b') as in Python, or just a,b
        if text[:1] in ("(", "["):
            return kind(ast.literal_eval(text))
        items = [item.strip() for item in text.split(",") if item.strip()]
        element = type(current[0]) if current else str
        return kind(_read(item, element, None) for item in items)
    return ast.literal_eval(text)


def _split_overrides(argv: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Takes `--config.a.b=value`, `--config.a.b value` and, for true, a last or bare `--config.a.b` out of `argv`."""
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


def _fields_help(argv: Sequence[str]) -> str:
    """Lists the fields of the config file that `argv` names."""
    known, _ = _config_only().parse_known_args([word for word in argv if word not in ("-h", "--help")])
    if known.config is None:
        return "Give --config=FILE.py with --help to see the config's fields and their values."
    lines = [f"  --config.{name}={value}" for name, value in fields(load_config(known.config))]
    return "\n".join([f"fields of {known.config}:", *lines])


def _config_only() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    return parser


def _hint(name: str, names: Any) -> str:
    near = get_close_matches(name, list(names), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def progress_bar(
    items: Iterable = (), *, total: int | None, desc: str, unit: str, initial: int = 0, unit_scale: bool = False
) -> tqdm:
    """A bar on standard error, none where there is nothing to do; a log file gets a line every half minute."""
    every = 0.1 if sys.stderr.isatty() else 30.0  # seconds
    return tqdm(
        items,
        total=total,
        desc=desc,
        unit=unit,
        initial=initial,
        unit_scale=unit_scale,
        mininterval=every,
        disable=total == 0,
    )
