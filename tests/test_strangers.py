"""Models, runs and data of strangers: each is refused by name or does no harm, and the source has nothing that would.

`benchmarks/faults/strangers.py` opens the same files in their full size.
"""

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.faults.stranger_scene import CASES, Case
from benchmarks.faults.strangers import MODULES, attempt, made

pytestmark = pytest.mark.usefixtures("unchecked", "optax_promotion")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("good"))


MANY = ("a run", "a manifest whose", "weights with", "adapters with")  # of these, every fourth is enough here


def short() -> list[Case]:
    return [case for i, case in enumerate(CASES) if i % 4 == 0 or not case.name.startswith(MANY)]


@pytest.mark.parametrize("case", short(), ids=lambda case: case.name)
def test_a_file_of_a_stranger(case: Case, tmp_path: Path, good: Path):
    row = attempt(case, tmp_path, good=good, size=300 << 20)
    assert row.held, row.outcome


def test_there_are_cases_of_both_kinds():
    assert len(MODULES) == 2
    assert len(CASES) > 150


# ---- the source ------------------------------------------------------------------------------------------------------

# What reads values that may be code. `leash` and `limits` use two of them for what jmer itself makes.
MODULES_OF_CODE = {
    "pickle",
    "cPickle",
    "_pickle",
    "cloudpickle",
    "dill",
    "joblib",
    "shelve",
    "marshal",
    "torch",
    "yaml",
}
ALLOWED = {
    ("features/leash.py", "pickle"),  # between jmer's own processes
    ("base/limits.py", "joblib"),  # counts cores
}
CALLS_OF_CODE = {"eval", "exec", "compile", "__import__", "input", "system", "popen", "from_pickle"}
ALLOWED_CALLS = {("tuning/steps.py", "compile"), ("training/steps.py", "compile")}
ARGUMENTS = {"allow_pickle": False, "trust_remote_code": False, "shell": False}


def dangers(folder: Path) -> Iterator[str]:
    """Yields what a file of a package has that could run the code of a stranger."""
    for file in sorted(folder.rglob("*.py")):
        place = file.relative_to(folder).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                tops = {name.split(".")[0] for name in names}
                yield from (f"{place} imports {x}" for x in tops & MODULES_OF_CODE if (place, x) not in ALLOWED)
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            name, given = called.rpartition(".")[2], {keyword.arg: keyword.value for keyword in node.keywords}
            bare = called in CALLS_OF_CODE or (called.startswith("os.") and name in CALLS_OF_CODE)
            if bare and (place, name) not in ALLOWED_CALLS:
                yield f"{place} calls {called}"
            for argument, safe in ARGUMENTS.items():
                value = given.get(argument)
                if value is not None and not (isinstance(value, ast.Constant) and value.value is safe):
                    yield f"{place} calls {called} with {argument}={ast.unparse(value)}"
            reads_arrays = name in ("load", "read_array") and called.startswith(("np.", "numpy."))
            if reads_arrays and "allow_pickle" not in given:
                yield f"{place} calls {called} without allow_pickle=False"
            if name == "from_pretrained" and "trust_remote_code" not in given:
                yield f"{place} calls {called} without trust_remote_code=False"
            if name == "builder_from_directory":  # imports the classes that the folder names
                yield f"{place} calls {called}"


def test_the_source_runs_no_code_of_a_stranger(root: Path):
    assert list(dangers(root / "jmer")) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "import cloudpickle",
        "from joblib import load",
        "import torch.serialization",
        "import yaml",
        "x = np.load(file)",
        "x = np.load(file, allow_pickle=True)",
        "x = np.load(file, allow_pickle=flag)",
        "x = np.lib.format.read_array(stream)",
        "x = AutoTokenizer.from_pretrained(folder)",
        "x = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)",
        "subprocess.run(command, shell=True)",
        "os.system(command)",
        "x = eval(text)",
        "exec(text)",
        "x = input('trust it?')",
        "x = tfds.builder_from_directory(path)",
    ],
)
def test_a_planted_danger_is_found(root: Path, tmp_path: Path, line: str):
    shutil.copytree(
        root / "jmer/encoders", tmp_path / "encoders", ignore=shutil.ignore_patterns("__pycache__", "weights")
    )
    file = tmp_path / "encoders/hub.py"
    file.write_text(f"{file.read_text()}\n\ndef planted():\n    {line}\n")
    (found,) = dangers(tmp_path)
    assert found.startswith("encoders/hub.py ")
