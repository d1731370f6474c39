"""Checks of the imports within a package: the order of its layers, cycles, and what nothing may import.

Only source code is read, so that a package with planted mistakes can be checked without being installed.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

TOP = "__main__"  # the module that may import the commands


def modules(package: Path) -> dict[str, Path]:
    """The dotted names of a package's modules, nested packages included, and their files."""
    found = {}
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def names_imported(file: Path, module: str) -> Iterator[str]:
    """The dotted names that a file imports, anywhere in the file; relative imports are made absolute."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            levels_up = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*levels_up, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def import_graph(package: Path) -> dict[str, set[str]]:
    """The modules of the package that each module imports by name."""
    known = modules(package)
    graph: dict[str, set[str]] = {}
    for module, file in known.items():
        graph[module] = set()
        for name in names_imported(file, module):
            while name and name not in known:  # a name within a module belongs to the module
                name = name.rpartition(".")[0]
            if name:
                graph[module].add(name)
    return graph


def layers(package: Path) -> tuple[str, ...]:
    """The layers from lowest to highest, as the docstring of the package lists them."""
    doc = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""
    return tuple(re.findall(r"^ {4}(\w+) {2,}\S", doc, flags=re.MULTILINE))


def violations(package: Path) -> list[str]:
    """What is wrong with the imports of a package, one sentence each.

    A module may import only from its own layer and from lower layers. Modules at the top that are no layers are
    commands: they may import every layer, and only `__main__` may import them. No modules may form a cycle. The
    package's own `__init__` is left out: it loads parts of every layer when they are first asked for.
    """
    order = layers(package)
    level = {name: number for number, name in enumerate(order)}
    graph = {m: found - {package.name} for m, found in import_graph(package).items() if m != package.name}
    missing = [name for name in order if f"{package.name}.{name}" not in graph]
    wrong = [f"{name} is listed as a layer and does not exist" for name in missing]
    for module in graph:
        own = module.split(".")[1]
        if own not in level and (package / own).is_dir():
            wrong.append(f"the folder {own} is not listed as a layer")
    for module, imported in graph.items():
        own = module.split(".")[1]
        for name in sorted(imported):
            other = name.split(".")[1]
            if other not in level and own not in (TOP, other):
                wrong.append(f"{module} imports the command {name}")
            elif other in level and own in level and level[other] > level[own]:
                wrong.append(f"{module} imports {name} from a higher layer")
    return wrong + [f"{' and '.join(sorted(cycle))} import each other" for cycle in cycles(graph)]


def cycles(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """The strongly connected components of two or more modules, and modules that import themselves (Tarjan, 1972)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        number[node] = lowest[node] = len(number)
        path.append(node)
        for other in sorted(graph[node]):
            if other not in number:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in path:
                lowest[node] = min(lowest[node], number[other])
        if lowest[node] == number[node]:
            component = set(path[path.index(node) :])
            del path[path.index(node) :]
            if len(component) > 1 or node in graph[node]:
                found.append(component)

    for node in graph:
        if node not in number:
            visit(node)
    return found
