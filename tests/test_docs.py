"""The README and the docs: their links, commands, paths, map and figures exist in the tree.

Nothing is trained. Commands are only read: their modules, arguments, configs and config fields must exist, and the
values of the fields must be allowed.
"""

import ast
import importlib.util
import json
import re
import shlex
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest

import jmer
from jmer.__main__ import COMMANDS
from jmer.base import cli, options, paths
from jmer.dataset.options import ExtractOptions
from jmer.training.options import TrainOptions
from jmer.tuning.options import TuneOptions

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", "data/sample/README.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]
CONFIGS = [str(file.relative_to(ROOT)) for file in sorted((ROOT / "configs").rglob("*.py"))]
OPTIONS = {"extract": ExtractOptions, "finetune": TuneOptions, "train": TrainOptions, "sweep": TrainOptions}
# A benchmark that takes a config takes this one by default.
BENCHMARK_CONFIGS = {"linear_probe": "extract/lite", "modality_ablation": "gat_fusion"}

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(r"(?<![\w/.])(?:configs|benchmarks|data/sample|docs|jmer|tests|\.ci)/[\w./-]*\w")
_FIELD = re.compile(r"--config\.([a-z_]+(?:\.[a-z_0-9]+)*)")
_SCORE = re.compile(r"\.\d{3}(?: ± \.\d{3})?")
_SECONDS = re.compile(r"[\d.]+ \([\d.]+ to [\d.]+\)")


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    """The text below a heading of the second level."""
    return read(page).split(f"\n## {heading}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every row of the tables in a text, without heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    heads = {i - 1 for i, line in enumerate(lines) if set(line) <= set("|- ")}
    kept = [line for i, line in enumerate(lines) if i not in heads and i - 1 not in heads]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in kept]


def commands(text: str) -> list[list[str]]:
    """The commands of Python and jmer among the lines of a text, each as words; `.venv/bin/python` is `python`."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        for part in line.split("&&"):
            words = shlex.split(part, comments=True) if re.match(r" *(\.venv/bin/)?(python|jmer) ", part) else []
            if words:
                found.append([words[0].removeprefix(".venv/bin/"), *words[1:]])
    return found


def complaint(words: list[str]) -> str:
    """What is wrong with a command; empty for a command that would run."""
    if words[:2] == ["python", "-c"]:
        compile(words[2], "docs", "exec")
        return ""
    if words[:2] in (["python", "-m"], ["jmer", "--help"]):
        words = words[1:]
    script = words[1]
    if script.endswith(".py"):
        source, name = ROOT / script, Path(script).stem
        if not source.is_file():
            return f"there is no {script}"
    elif script.removeprefix("jmer.") in COMMANDS or script in ("venv", "pytest", "COMMAND"):
        name = script.removeprefix("jmer.")
        source = ROOT / "jmer" / f"{name}.py"
    else:
        return f"jmer has no command {script}"
    if not source.is_file():  # another program's module
        return "" if importlib.util.find_spec(script) else f"there is no module {script}"
    return arguments_complaint(words[2:], source=source, name=name)


def arguments_complaint(arguments: list[str], *, source: Path, name: str) -> str:
    """What is wrong with the arguments of a command or benchmark whose code is in `source`."""
    config, overrides = BENCHMARK_CONFIGS.get(name), []
    for i, argument in enumerate(arguments):
        flag, _, value = argument.partition("=")
        if flag == "--config":
            config = value or arguments[i + 1]
        elif flag.startswith("--config."):
            overrides.append((flag.removeprefix("--config."), value))
        elif flag.startswith("--") and flag != "--help" and f'"{flag}"' not in source.read_text(encoding="utf-8"):
            return f"{source.name} takes no {flag}"
    if config is None:
        return "fields of a config are set, but the command names no config" if overrides else ""
    try:
        read_config = cli.load_config(paths.find_config(config))
        for field, value in overrides:
            cli.set_field(read_config, field, value)
        if name in OPTIONS:
            options.from_config(OPTIONS[name], read_config)
    except jmer.UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str):
    for link in _LINK.findall(read(page)):
        if "://" in link:
            continue
        path, _, heading = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page} links to {link}"
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE) if heading else []
        anchors = {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in headings}
        assert not heading or heading in anchors, f"{page} links to {link}"


@pytest.mark.parametrize("page", PAGES)
def test_paths_that_are_named_exist(page: str):
    prose = re.sub(r"\]\([^)]*\)", "]", read(page))  # without links, whose paths begin at the page
    for path in _PATH.findall(prose):
        assert (ROOT / path).exists(), f"{page} names {path}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_name_what_exists(page: str):
    for kind, block in _FENCE.findall(read(page)):
        if kind == "python":
            compile(block, page, "exec")
            continue
        for words in commands(block):
            assert not complaint(words), f"{page}: {shlex.join(words)}: {complaint(words)}"


@pytest.mark.parametrize("file", CONFIGS)
def test_commands_of_a_config_use_the_config(file: str):
    found = commands(ast.get_docstring(ast.parse(read(file))) or "")
    for words in found:
        assert not complaint(words), f"{file}: {shlex.join(words)}: {complaint(words)}"
    assert any(file in words for words in found), f"{file} shows no command with this config"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python -m jmer.train --config configs/gat_fusion.py --config.lr=0.01 --workdir=runs/x", ""),
        ("jmer train --config hybrid --config.seeds=5", ""),
        ("python benchmarks/linear_probe.py --dataset=data/packed/my --cv=speaker", ""),
        ("jmer trian --config hybrid", "jmer has no command trian"),
        ("python -m jmer.nothing", "jmer has no command jmer.nothing"),
        ("python benchmarks/nothing.py", "there is no benchmarks/nothing.py"),
        ("python benchmarks/step_time.py --mled=DIR", "step_time.py takes no --mled"),
        ("jmer train --config hybird", "did you mean 'hybrid'"),
        ("jmer train --config hybrid --config.drpout=0.1", "did you mean 'dropout'"),
        ("jmer train --config hybrid --config.fusion=mixed", "expected one of early, gated"),
        ("jmer extract --config extract/lite --config.text.poolng=mean", "did you mean 'text.pooling'"),
        ("jmer evaluate --workdirs=runs/x", "evaluate.py takes no --workdirs"),
        ("jmer train --config.lr=1", "names no config"),
    ],
)
def test_a_wrong_command_is_found(command: str, expected: str):
    (words,) = commands(command)
    found = complaint(words)
    assert expected in found
    assert bool(found) == bool(expected)


@pytest.mark.parametrize("page", PAGES)
def test_fields_named_in_the_text_exist(page: str):
    known = {name for cls in OPTIONS.values() for name, _ in cli.fields(options.to_config(cls()))}
    assert set(_FIELD.findall(read(page))) <= known


def test_map_is_that_of_the_tree():
    listed = rows(section("docs/house.md", "The map"))
    named = [re.sub(r"[`/]", "", row[0]) for row in listed]
    layers = re.findall(r"^    (\w+) {2,}", jmer.__doc__ or "", re.MULTILINE)
    assert named == [*layers, *COMMANDS]
    folders = {file.parent.name for file in (ROOT / "jmer").glob("*/__init__.py")}
    files = {file.stem for file in (ROOT / "jmer").glob("*.py")} - {"__init__", "__main__"}
    assert {row[0].strip("`") for row in listed} == {f"{folder}/" for folder in folders} | files


def test_readme_is_short_and_opens_the_quick_start_with_two_commands():
    assert len(read("README.md").splitlines()) <= 150
    block = _FENCE.search(section("README.md", "Quick start"))
    assert block is not None
    main, tests = block[2].splitlines()
    job = ["configs/gat_fusion.py", "benchmarks/modality_ablation.py", "--workdir=runs/gat_fusion"]
    assert [words[-1] for words in commands(main)] == job
    assert "'.[test]'" in tests
    assert commands(tests) == [["python", "-m", "pytest"]]


@pytest.mark.parametrize(
    ("heading", "table"), [("MELD, text alone", "ablation_meld"), ("RAVDESS, speech and faces", "ablation_ravdess")]
)
def test_scores_are_those_of_the_ablation(heading: str, table: str):
    measured = {tuple(_scores(row[2:4])) for row in rows(read(f"benchmarks/results/{table}.md"))}
    shown = rows(section("docs/accuracy.md", heading))
    assert shown
    for row in shown:
        assert tuple(row[1:3]) in measured, row


def test_scores_of_damaged_data_are_those_of_the_benchmark():
    shown = [row[2:] for row in rows(section("docs/accuracy.md", "Damaged data"))]
    assert shown == [row[3:] for row in rows(read("benchmarks/results/robustness.md"))]


@pytest.mark.parametrize("heading", ["MELD, text: the recipes", "The configs"])
def test_scores_of_recipes_and_configs_are_those_of_the_benchmark(heading: str):
    measured = {tuple(row[3:5]) for row in rows(read("benchmarks/results/accuracy.md"))}
    table = section("docs/accuracy.md", heading).split("```")[0]  # looks of one seed follow
    shown = rows(table)
    assert shown
    for row in shown:
        assert tuple(row[1:3]) in measured, row


def test_scores_of_configs_are_those_of_their_docstrings():
    shown = rows(section("docs/accuracy.md", "The configs"))
    assert {f"configs/{row[0].split('`')[1]}.py" for row in shown} <= set(CONFIGS)
    for row in shown:
        text = read(f"configs/{row[0].split('`')[1]}.py").replace("+-", "±")
        assert set(_SCORE.findall(" ".join(row[1:3]))) <= set(_SCORE.findall(text)), row


@pytest.mark.parametrize("page", ["README.md", "SECURITY.md"])
def test_promises_are_those_that_were_counted(page: str):
    kinds = json.loads(read("benchmarks/results/reliability.json"))["kinds"].values()
    held = [row["held"] for kind in kinds for row in kind["rows"]]
    assert f"{sum(held)} of {len(held)}" in read(page)


def test_seconds_are_those_of_the_benchmark():
    shown = [row for row in rows(section("docs/speed.md", "Training, beside PyTorch")) if _SECONDS.search(row[1])]
    assert len(shown) > 5
    for row in shown:
        for column, folder in ((1, "results"), (2, "results/xeon")):
            measured = {_plain(text) for text in _SECONDS.findall(read(f"benchmarks/{folder}/step_time.md"))}
            assert _plain(row[column]) in measured, row


def _scores(cells: list[str]) -> list[str]:
    """Scores of four digits, such as `0.5454 ± 0.0066 (-0.0014)`, as the docs show them."""
    kept = [re.findall(r"0\.\d+", cell.split("(")[0]) for cell in cells]
    return [" ± ".join(str(_rounded(number)).lstrip("0") for number in numbers) for numbers in kept]


def _rounded(number: str) -> Decimal:
    return Decimal(number).quantize(Decimal("0.001"), ROUND_HALF_UP)


def _plain(text: str) -> str:
    """Numbers without a zero before the point."""
    return re.sub(r"\b0\.", ".", text)
