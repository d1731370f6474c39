"""All options of an extraction, from which its config, its checks and its help are derived. Nothing here imports JAX.

The groups `text`, `audio` and `video` hold the options of the extractors, each declared beside the code that reads it
(`jmer.features.registry.options_of`).
"""

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ml_collections import ConfigDict

from jmer.base import options
from jmer.base.errors import UserError
from jmer.base.options import Field, option
from jmer.base.types import MODALITIES
from jmer.corpora.table import COLUMNS
from jmer.features import registry
from jmer.features.extractor import SequenceOptions

ColumnOptions = dataclasses.make_dataclass(
    "ColumnOptions",
    [
        (name, str, option("", f"Name of the column '{name}' in the table; empty for the same name, or a usual one."))
        for name in COLUMNS
    ],
    frozen=True,
    kw_only=True,
)


def _group(modality: str) -> Any:
    """Returns the group of a modality: the options of all its registered extractors, at their defaults."""
    return registry.options_of(modality)()


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Source of the dialogues."""

    source: str = option("sample", "Source of the dialogues; ravdess has one a clip, ravdess_actors one an actor.",
                         choices=("sample", "meld", "ravdess", "ravdess_actors", "table"))  # fmt: skip
    root: str = option("", "Folder of sample, meld or ravdess, or CSV file of a table; empty for data/sample, "
                       "data/MELD.Raw or data/RAVDESS.")  # fmt: skip
    columns: Any = option(ColumnOptions(), "Names of a table's columns.")
    labels: tuple[str, ...] = option((), "Label set of a table in its order; empty for the labels found, sorted.")

    @property
    def renamed_columns(self) -> dict[str, str]:
        """jmer's name of a table's column -> the name in the table, of the columns that are renamed."""
        return {name: column for name, column in dataclasses.asdict(self.columns).items() if column}

    def check(self) -> None:
        """Checks the options together.

        Raises:
          UserError: two of them contradict each other.
        """
        if self.source == "table" and not self.root:
            raise UserError("config.source=table needs the CSV: --config.root=FILE.csv")
        if self.source != "table" and (self.renamed_columns or self.labels):
            raise UserError("config.columns and config.labels are for --config.source=table; leave them out")


@dataclass(frozen=True, kw_only=True)
class ExtractOptions(SourceOptions, SequenceOptions):
    """All options of an extraction."""

    out: str = option("", "Dataset directory; empty for data/packed/NAME, named by the source and the extractors.")
    text: Any = field(default_factory=partial(_group, "text"), metadata={"option": Field(help="Features of text.")})
    audio: Any = field(default_factory=partial(_group, "audio"), metadata={"option": Field(help="Features of audio.")})
    video: Any = field(default_factory=partial(_group, "video"), metadata={"option": Field(help="Features of video.")})
    views: int = option(0, "Augmented views of the train split, with changed texts and sounds.", at_least=0)
    views_seed: int = option(0, "Seed of the augmented views.")
    lexicon: str = option("", "File of synonyms for the views, a group on each line; empty for jmer's own.")
    workers: int = option(0, "Processes that decode clips; 0 for one on each core.", at_least=0)
    beam: str = option("", "Options of Apache Beam, such as --runner=FlinkRunner, to extract with its workers.")
    cache: str = option("", "Folder of the cache; empty for $JMER_CACHE, else jmer in $XDG_CACHE_HOME or ~/.cache.")

    def check(self) -> None:
        """Checks the options together.

        Raises:
          UserError: two of them contradict each other, or nothing is to be extracted.
        """
        super().check()
        models = [getattr(self, modality).model for modality in MODALITIES]
        if set(models) == {registry.OFF}:
            raise UserError(
                "config.text.model, config.audio.model and config.video.model are all none, so there is nothing to "
                "extract; set one of them"
            )
        if self.lexicon and not self.views:
            raise UserError("config.lexicon is for augmented views, and config.views is 0; leave it out or set both")
        if self.views and self.text.model == self.audio.model == registry.OFF:
            raise UserError(
                f"config.views is {self.views}, but only text and audio are augmented, and both are none; set one of "
                "them, or leave the views out"
            )


def default_config() -> ConfigDict:
    """Returns a config of the `lite` extractors on the embedded sample corpus; config files begin with it."""
    return options.to_config(ExtractOptions())
