"""Builds the site of the documentation from the README, docs/ and docstrings, and fails on a link that leads nowhere.

    pip install -e '.[docs]'
    python docs/build.py [--out=build/docs]

The pages keep the places that they have in the repository, so that their links hold on the site as well. A file that is
linked to and is no page, such as a config, is copied beside them. The notebook is run, in a minute or two, and what it
printed becomes its page; a cell that fails ends the build.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import ExecutePreprocessor

ROOT = Path(__file__).resolve().parent.parent
HOME = "README.md"
NOTEBOOK = "docs/notebook.ipynb"
REFERENCE = "reference.md"
# What a program of a user's own calls; the commands describe themselves by --help.
PUBLIC = ("jmer.runs.predictor.load", "jmer.runs.predictor.Predictor", "jmer.base.types.Dialogue",
          "jmer.base.types.Utterance", "jmer.base.types.Prediction", "jmer.base.errors.UserError")  # fmt: skip
_MOST_SECONDS = 600  # of a cell of the notebook
_LINK = re.compile(r"(?<=\]\()(?!\w+://|#)([^)\s#]+)")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build/docs", help="folder, which is emptied first")
    out = parser.parse_args(argv).out
    shutil.rmtree(out, ignore_errors=True)
    stage(out / "pages")
    settings = (ROOT / "docs/zensical.toml").read_text(encoding="utf-8")
    (out / "zensical.toml").write_text(settings.replace("@ROOT@", str(ROOT)), encoding="utf-8")
    code = subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=out, check=False).returncode
    if code == 0:
        print(f"open {out / 'site/index.html'} in a browser")
    return code


def stage(pages: Path) -> None:
    """Copies the pages, and what they link to, into a folder of the same shape, and runs the notebook into its page."""
    sources = [HOME, "CHANGELOG.md", "SECURITY.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")), NOTEBOOK]
    waiting, seen = sources, set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        place = pages / ("index.md" if name == HOME else name)
        place.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith((".md", ".ipynb")):
            text = run_notebook(name, place.parent) if name == NOTEBOOK else (ROOT / name).read_text(encoding="utf-8")
            waiting += [str(target) for target in _targets(name, text)]
            text = re.sub(r"(?<=\]\()((?:\.\./)*)README\.md(?=[)#])", r"\1index.md", text) if _at_root(name) else text
            place.with_suffix(".md").write_text(text, encoding="utf-8")
        else:
            shutil.copy(ROOT / name, place)
    (pages / REFERENCE).write_text("# From Python\n\n" + "\n\n".join(f"::: {name}" for name in PUBLIC) + "\n")


def run_notebook(name: str, folder: Path) -> str:
    """Runs a notebook where nothing but the sample is; returns its page, and puts its pictures into a folder."""
    notebook = nbformat.read(ROOT / name, as_version=4)
    with tempfile.TemporaryDirectory() as place:
        Path(place, "data").mkdir()
        Path(place, "data/sample").symlink_to(ROOT / "data/sample")
        ExecutePreprocessor(timeout=_MOST_SECONDS).preprocess(notebook, {"metadata": {"path": place}})
    for cell in notebook.cells:  # warnings of libraries are no part of the page
        cell["outputs"] = [output for output in cell.get("outputs", []) if output.get("name") != "stderr"]
    text, resources = MarkdownExporter().from_notebook_node(notebook)
    for picture, content in resources["outputs"].items():
        (folder / picture).write_bytes(content)
    return text


def _targets(page: str, text: str) -> Iterator[Path]:
    """Yields the files that a page links to, from the root of the repository."""
    for link in _LINK.findall(text):
        target = (ROOT / page).parent.joinpath(link).resolve().relative_to(ROOT)
        if (ROOT / target).is_file():
            yield target


def _at_root(page: str) -> bool:
    """Returns whether `README.md` in the links of a page is that of the repository, and not one of its own folder."""
    return page.count("/") <= 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
