"""The embedded sample corpus. The corpus is synthetic, has MELD's layout, and is for trying the pipeline."""

from dataclasses import replace
from pathlib import Path

from jmer.base.errors import UserError
from jmer.base.paths import sample_folder
from jmer.base.types import Corpus
from jmer.corpora import meld


def load(root: Path | None = None) -> Corpus:
    """Reads the sample corpus from `root`, or by default from the folder that comes with jmer.

    Raises:
      UserError: the folder does not hold the corpus.
    """
    folder = root or sample_folder()
    if not (folder / "train_sent_emo.csv").is_file():
        raise UserError(
            f"no sample corpus in {folder}; name the data/sample folder of a clone of jmer with --config.root, or "
            "leave --config.root out to take the corpus that comes with jmer"
        )
    return replace(meld.load(folder), name="sample")
