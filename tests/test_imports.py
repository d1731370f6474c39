"""Data flows one way: a module imports only from the layers before its own."""

import ast
from pathlib import Path

import pytest

# Layers, lowest first; modules within one may import one another where that makes no circle.
LAYERS = (
    ("base",),
    ("media",),
    ("corpora",),
    ("encoders",),
    ("features",),
    ("dataset",),
    ("graph",),
    ("nn",),
    ("training",),
    ("config",),
    ("runs",),
    ("evaluate", "extract", "download"),
    ("train",),
)
LEVEL = {name: i for i, layer in enumerate(LAYERS) for name in layer}


def imported(file: Path) -> set[str]:
    """The dotted names that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def packages(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(file)}


def layers(file: Path) -> set[str]:
    """The top-level names below `jmer` that a file imports."""
    return {name.split(".")[1] for name in imported(file) if name.startswith("jmer.")}


def test_every_module_has_a_layer_and_imports_only_lower_ones(root):
    found = []
    for file in sorted((root / "jmer").rglob("*.py")):
        module = file.relative_to(root / "jmer").with_suffix("").parts[0]
        if module == "__init__":  # the package's face; it imports `predict` when asked for it
            continue
        assert module in LEVEL, f"{file}: give the new module a layer"
        found += [(module, name) for name in layers(file) if name != module and LEVEL[name] >= LEVEL[module]]
    assert not [pair for pair in found if LEVEL[pair[0]] != LEVEL[pair[1]]], found
    within = {pair for pair in found if LEVEL[pair[0]] == LEVEL[pair[1]]}
    assert not {(b, a) for a, b in within} & within, within


def test_data_and_worker_code_do_not_import_jax(root):
    files = [
        *(root / "jmer/corpora").rglob("*.py"),
        *(root / "jmer/media").rglob("*.py"),
        root / "jmer/features/worker.py",
    ]
    for file in files:
        assert not packages(file) & {"jax", "flax", "transformers"}, file


@pytest.mark.parametrize(
    ("package", "module"),
    [("transformers", "huggingface.py"), ("librosa", "sound.py")],  # librosa: where a lock is on what is compiled of it
)
def test_only_one_module_imports(root, package, module):
    assert [file.name for file in (root / "jmer").rglob("*.py") if package in packages(file)] == [module]
