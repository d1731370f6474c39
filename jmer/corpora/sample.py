"""Reads the sample corpus that comes with jmer. It is synthetic, has MELD's layout, and serves to try jmer out."""

from dataclasses import replace
from pathlib import Path

from jmer.base.errors import UserError
from jmer.base.types import Corpus
from jmer.corpora import meld

FOLDER = Path("data/sample")


def load(root: Path | None = None) -> Corpus:
    """Reads the sample corpus.

    root: the folder that holds it. Without one, the clone that this file is in is tried, then the current folder.

    Raises:
      UserError: none of these places has it.
    """
    clone = Path(__file__).resolve().parents[2]
    places = [root] if root else [clone / FOLDER, Path.cwd() / FOLDER]
    for place in places:
        if (place / "train_sent_emo.csv").is_file():
            return replace(meld.load(place), name="sample")
    raise UserError(
        f"no sample corpus in {' or '.join(map(str, places))}; it is part of jmer's repository: run from a clone, "
        "or give its data/sample folder as --config.root"
    )
