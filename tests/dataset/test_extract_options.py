"""The config of an extraction: the fields and defaults that users know, and how quickly they are read."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jmer.base import options
from jmer.base.errors import UserError
from jmer.dataset.options import ExtractOptions, default_config

# The config at revision fe4febb, when it was written by hand, and `precision`, which came later.
DEFAULTS = {
    "source": "sample",
    "root": "",
    "out": "",
    "columns": dict.fromkeys(
        ("dialogue", "utterance", "speaker", "label", "split", "text", "clip", "sentiment", "start", "end"),
        "",
    ),
    "labels": (),
    "text": {
        "model": "lite",
        "pooling": "mean",
        "layers": "-1",
        "precision": "float32",
        "max_tokens": 128,
        "context": 0,
        "speakers": True,
    },
    "audio": {"model": "lite", "pooling": "mean", "layers": "-1", "precision": "float32", "window": 0},
    "video": {
        "model": "lite",
        "frames": 8,
        "crop": "face",
        "pooling": "mean",
        "layers": "-1",
        "precision": "float32",
        "detector": "",
        "detector_sha256": "",
        "sha256": "",
        "size": 112,
        "order": "rgb",
        "mean": "0",
        "scale": "1",
        "layout": "chw",
        "output": "",
        "align": False,
    },
    "sequence_frames": 0,
    "views": 0,
    "views_seed": 0,
    "lexicon": "",
    "workers": 0,
    "beam": "",
    "cache": "",
}


def test_fields_and_defaults_stay():
    assert default_config().to_dict() == DEFAULTS
    assert default_config().is_locked


def test_a_config_and_its_options_are_equal():
    given: Any = default_config()
    assert options.from_config(ExtractOptions, given) == ExtractOptions()
    config: Any = default_config()
    config.video.crop, config.labels, config.columns.text = "frame", ("a", "b"), "Said"
    config.source, config.root = "table", "x.csv"
    wanted = options.from_config(ExtractOptions, config)
    assert (wanted.video.crop, wanted.labels, wanted.renamed_columns) == ("frame", ("a", "b"), {"text": "Said"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"source": "table"}, "config.source=table needs the CSV"),
        ({"labels": ("a",)}, "config.columns and config.labels are for --config.source=table"),
        ({"lexicon": "x"}, "config.lexicon is for augmented views, and config.views is 0"),
    ],
)
def test_options_that_contradict_each_other(given: dict, message: str):
    with pytest.raises(UserError, match=message):
        options.check(ExtractOptions(**given))


LOADED = """
import sys
from jmer import extract
from jmer.base import cli

try:
    cli.run(extract.main, ["--help", "--config", sys.argv[1]])
except SystemExit:
    pass
heavy = ("jax", "flax", "scipy", "sklearn", "librosa", "numba", "transformers", "tensorflow_datasets", "matplotlib")
print("loaded:", *[name for name in heavy if name in sys.modules])
"""


def test_reading_arguments_loads_no_heavy_library(root: Path):
    """Help and mistakes come at once; SciPy alone would take a second."""
    config = str(root / "configs" / "extract" / "lite.py")
    done = subprocess.run([sys.executable, "-c", LOADED, config], cwd=root, capture_output=True, text=True, check=True)
    assert "--config.video.crop=face" in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded:"
