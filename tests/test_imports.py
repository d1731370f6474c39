"""Data flows one way, commands start without JAX, and decoding workers never load it.

Each checker is also run on a copy of the package in which the mistake that it looks for is planted.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from import_rules import cycles, import_graph, layers, modules, names_imported, violations

# Each takes a large part of a second to import, and some take seconds.
HEAVY = {
    "chex", "flax", "jax", "librosa", "matplotlib", "numba", "optax", "orbax", "scipy", "sklearn",
    "tensorflow_datasets", "transformers",
}  # fmt: skip


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """A copy of the package, to plant mistakes in."""
    return Path(shutil.copytree(root / "jmer", tmp_path / "jmer", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture(scope="module")
def before(root: Path) -> set[str]:
    """What is found where nothing is planted: nothing, unless the package itself breaks a rule."""
    return set(violations(root / "jmer"))


def plant(file: Path, line: str) -> None:
    """Adds a line to the end of a file, which is made where there is none."""
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"{file.read_text() if file.exists() else ''}\n{line}\n")


def test_the_package_keeps_the_rules(before: set[str]):
    assert before == set()


def test_the_order_of_the_layers_is_that_of_the_package(root: Path):
    folders = {file.parent.name for file in (root / "jmer").glob("*/__init__.py")}
    assert layers(root / "jmer")[0] == "base"
    assert set(layers(root / "jmer")) == folders | {"config"}


@pytest.mark.parametrize(
    ("file", "line", "expected"),
    [
        ("base/files.py", "from jmer.media import sound", "jmer.base.files imports jmer.media.sound from"),
        ("corpora/meld.py", "import jmer.nn.model", "jmer.corpora.meld imports jmer.nn.model from a higher layer"),
        ("nn/model.py", "from ..runs import fit", "jmer.nn.model imports jmer.runs.fit from a higher layer"),
        ("nn/model.py", "def f():\n    from jmer.runs import fit", "jmer.nn.model imports jmer.runs.fit from a higher"),
        ("features/text/lite.py", "import jmer.graph", "jmer.features.text.lite imports jmer.graph from"),
        ("runs/fit.py", "from jmer import train", "jmer.runs.fit imports the command jmer.train"),
        ("train.py", "from jmer.evaluate import main", "jmer.train imports the command jmer.evaluate"),
        ("sounds/__init__.py", "", "the folder sounds is not listed as a layer"),
    ],
)  # fmt: skip
def test_a_planted_wrong_import_is_found(copy: Path, before: set[str], file: str, line: str, expected: str):
    plant(copy / file, line)
    found = set(violations(copy)) - before
    assert any(sentence.startswith(expected) for sentence in found), found


def test_a_listed_layer_has_to_exist(copy: Path):
    shutil.rmtree(copy / "graph")
    assert "graph is listed as a layer and does not exist" in violations(copy)


@pytest.mark.parametrize(
    "planted",
    [
        {"base/errors.py": "from jmer.base import files", "base/files.py": "import jmer.base.errors"},
        {"nn/a.py": "from jmer.nn import b", "nn/b.py": "from .c import x", "nn/c.py": "import jmer.nn.a"},
        {"media/vision/a.py": "from jmer.media import z", "media/z.py": "def f():\n    from .vision import a"},
        {"graph/speaker.py": "from jmer.graph import Graph"},  # through the folder's own __init__
    ],
)  # fmt: skip
def test_a_planted_cycle_within_a_layer_is_found(copy: Path, before: set[str], planted: dict[str, str]):
    for file, line in planted.items():
        plant(copy / file, line)
    (found,) = set(violations(copy)) - before
    assert found.endswith(" import each other")
    assert all(f"jmer.{file[:-3].replace('/', '.')}" in found for file in planted)


def test_cycles_are_the_strongly_connected_components():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a", "e"}, "e": {"e"}, "f": {"d"}}
    assert sorted(map(sorted, cycles(graph))) == [["a", "b", "c"], ["e"]]


def test_the_graph_has_every_module_and_finds_imports_of_every_form(copy: Path):
    plant(copy / "media/vision/a.py", "from .. import sound\nfrom .tracks import Track\nimport jmer.base.types as t")
    assert import_graph(copy)["jmer.media.vision.a"] == {
        "jmer.media.sound", "jmer.media.vision.tracks", "jmer.base.types"
    }  # fmt: skip
    assert len(import_graph(copy)) == sum(1 for _ in copy.rglob("*.py"))


def test_data_and_worker_code_do_not_import_jax(root: Path):
    for module, file in modules(root / "jmer").items():
        if module.startswith(("jmer.corpora", "jmer.media", "jmer.features.worker")):
            packages = {name.split(".")[0] for name in names_imported(file, module)}
            assert not packages & {"jax", "flax", "transformers"}, module


@pytest.mark.parametrize(
    ("package", "module"),
    [
        ("transformers", "jmer.encoders.tokenizer"),
        ("librosa", "jmer.media.sound"),  # the module that locks the cache of librosa's compiled functions
    ],
)
def test_only_one_module_imports(root: Path, package: str, module: str):
    found = modules(root / "jmer").items()
    importing = [m for m, file in found if package in {name.split(".")[0] for name in names_imported(file, m)}]
    assert importing == [module]


def run(folder: Path, *command: str) -> str:
    """What a Python process prints last that imports jmer from a folder."""
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, *command], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def modules_of_a_worker(root: Path, folder: Path, tmp_path: Path) -> set[str]:
    clip = root / "data/sample/train_splits/dia0_utt0.mp4"
    (tmp_path / "models").mkdir()
    return set(json.loads(run(folder, str(root / "tests/worker_modules.py"), str(clip), str(tmp_path / "models"))))


def test_a_worker_that_prepares_a_clip_has_not_loaded_jax(root: Path, tmp_path: Path):
    loaded = modules_of_a_worker(root, root, tmp_path)
    assert {"av", "cv2", "librosa", "jmer.features.audio.encoder"} <= loaded
    assert not loaded & {"jax", "flax", "transformers"}


def test_jax_planted_in_a_worker_is_found(root: Path, copy: Path, tmp_path: Path):
    file = copy / "features/audio/encoder.py"  # not at the top, where the main process would load JAX too
    source = file.read_text()
    planted = re.sub(r"(    def prepare\(.*\n)( +\"\"\".*\n)", r"\1\2        import jax\n", source, count=1)
    assert planted != source
    file.write_text(planted)
    assert "jax" in modules_of_a_worker(root, copy.parent, tmp_path)


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["train", "--help"],
        ["train", "--config", "gat_fusion", "--help"],
        ["train", "--config", "configs/gat_fusion.py", "--config.encodr=x"],
        ["train", "--config", "gat_fusion", "--config.encoder=lstm"],
        ["evaluate", "--help"],
        ["evaluate", "--wrkdir=x"],
        ["extract", "--help"],
        ["extract", "--config", "extract/lite", "--help"],
        ["extract", "--config", "extract/hf", "--config.sauce=meld"],
        ["download", "--help"],
    ],
    ids=" ".join,
)
def test_help_and_mistakes_come_before_heavy_imports(root: Path, argv: list[str]):
    code = f"""
import contextlib, json, sys
from jmer.__main__ import main
from jmer.base import cli
with contextlib.suppress(SystemExit):
    assert cli.run(main, {argv}) in (0, 2)
print(json.dumps(sorted({{name.split(".")[0] for name in sys.modules}})))
"""
    loaded = set(json.loads(run(root, "-c", code)))
    assert "jmer" in loaded
    assert not loaded & HEAVY
