"""What the project declares about itself, and what its wheels hold."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

import jmer
from jmer.base import paths

# jmer uses an interface of these that is internal, experimental or known to change.
BOUNDED = {
    "jax", "jaxlib", "flax", "transformers", "opencv-python", "orbax-checkpoint", "tensorflow-datasets", "grain",
    "numba", "jaxtyping", "librosa", "huggingface_hub",
}  # fmt: skip


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def normal(requirement: str) -> str:
    """The normalised name of a requirement's package."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~;\[ ]", requirement)[0]).lower()


@pytest.fixture(scope="module")
def clone(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the wheel is built from, in a folder called `jmer`."""
    folder = tmp_path_factory.mktemp("parent") / "jmer"
    for name in ("jmer", "configs", "data"):
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "packed", "MELD.Raw*"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(root / name, folder / name)
    return folder


def build(clone: Path, target: Path, *, editable: bool = False) -> Path:
    """Builds a wheel of the clone and returns the folder into which the wheel is unpacked, as pip unpacks it."""
    function = "build_editable" if editable else "build_wheel"
    code = f"import hatchling.build; hatchling.build.{function}({str(target)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=clone, check=True, capture_output=True)
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target / "site")
    return target / "site"


@pytest.fixture(scope="module")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(clone, tmp_path_factory.mktemp("wheel"))


def python(site: Path, cwd: Path, code: str) -> str:
    """What code prints that runs in `cwd` where the wheel's folder is a site folder."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    # The folder comes before those of the environment, which may hold an editable jmer of its own.
    first = (
        "import site, sys\nbefore = list(sys.path)\n"
        f"site.addsitedir({str(site)!r})\n"
        "sys.path[1:] = [p for p in sys.path if p not in before] + before[1:]\n"
    )
    code = first + code
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_holds_configs_sample_data_files_and_licences_and_nothing_else(root: Path, wheel: Path):
    held = {str(path.relative_to(wheel)) for path in wheel.rglob("*") if path.is_file()}
    code = {str(file.relative_to(root)) for file in (root / "jmer").rglob("*") if file.is_file()}
    configs = {f"jmer/configs/{name}.py" for name in paths.config_names()}
    sample = {
        f"jmer/sample/{file.relative_to(root / 'data/sample')}"
        for file in (root / "data/sample").rglob("*")
        if file.suffix in (".mp4", ".csv", ".md")
    }
    assert len(sample) == 312 + 3 + 1
    package = {name for name in held if not name.startswith("jmer-")}
    assert package == {name for name in code if "__pycache__" not in name} | configs | sample
    licences = {name.partition("licenses/")[2] for name in held if "licenses/" in name}
    assert licences == {"LICENSE", "jmer/encoders/weights/LICENSE.face_api"}


def test_wheel_finds_its_configs_and_its_sample_from_any_folder(wheel: Path, tmp_path: Path):
    code = """
import jmer
from jmer.base import cli, paths
from jmer.corpora import sample
cli.load_config("configs/gat_fusion.py")
corpus = sample.load()
clip = corpus.splits["train"][0].utterances[0].clip
print(jmer.__file__, paths.find_config("gat_fusion"), clip.is_file(), clip, sep="\\n")
"""
    *where, is_file, clip = python(wheel, tmp_path, code).splitlines()
    assert where == [str(wheel / "jmer/__init__.py"), str(wheel / "jmer/configs/gat_fusion.py")]
    assert (is_file, clip) == ("True", f"{wheel}/jmer/sample/train_splits/dia0_utt0.mp4")


def test_a_clone_called_jmer_does_not_shadow_the_editable_package(clone: Path, tmp_path: Path):
    site = build(clone, tmp_path, editable=True)
    assert not (site / "jmer").exists()  # a folder without code that Python would have to look past
    assert [file.read_text().strip() for file in site.glob("*.pth")] == [str(clone)]
    assert python(site, clone.parent, "import jmer; print(jmer.__file__)").strip() == str(clone / "jmer/__init__.py")


def test_console_command_is_the_main_of_the_package(project: dict[str, Any]):
    assert project["scripts"] == {"jmer": "jmer.__main__:console"}


def test_every_import_is_declared(root: Path, project: dict[str, Any]):
    declared = {normal(requirement) for requirement in project["dependencies"]}
    for extra in ("beam", "demo", "onnx", "sweep"):
        declared |= {normal(requirement) for requirement in project["optional-dependencies"][extra]}
    distributions = packages_distributions()
    imported: dict[str, str] = {}
    for file in (root / "jmer").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0]: file.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported[node.module.split(".")[0]] = file.name
    for name in imported.keys() - sys.stdlib_module_names - {"jmer"}:
        providers = {normal(distribution) for distribution in distributions.get(name, [name.replace("_", "-")])}
        assert providers & declared, f"{imported[name]} imports {name}, which pyproject.toml does not declare"


def test_what_may_change_under_jmer_has_an_upper_bound(project: dict[str, Any]):
    unbounded = {normal(requirement) for requirement in project["dependencies"] if "<" not in requirement}
    assert not unbounded & {normal(name) for name in BOUNDED}


def test_version_is_the_same_everywhere(root: Path, project: dict[str, Any]):
    assert project["dynamic"] == ["version"]
    citation = (root / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {jmer.__version__}\n" in citation
    changes = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\]", changes, flags=re.MULTILINE)
    assert headings[:2] == ["Unreleased", jmer.__version__]
