"""Ready features from a CSV file: they reach the right utterances, and wrong files are named by row."""

from pathlib import Path

import numpy as np
import pytest

from jmer.base.errors import UserError
from jmer.base.options import from_config
from jmer.dataset import store
from jmer.dataset.build import extract_dataset
from jmer.dataset.options import ExtractOptions, default_config
from jmer.features import registry

TABLE = """dialogue,utterance,speaker,text,label,split
a,1,x,hello,glad,train
a,2,y,no,cross,train
a,1,x,what,glad,dev
"""


def extract(folder: Path, features: str, **options: str) -> store.Dataset:
    (folder / "table.csv").write_text(TABLE)
    (folder / "faces.csv").write_text(features)
    config = default_config()
    given = {"source": "table", "root": str(folder / "table.csv"), "audio.model": "none", "text.model": "none"}
    given |= {"video.model": str(folder / "faces.csv"), "out": str(folder / "out"), "cache": str(folder / "cache")}
    config.update_from_flattened_dict(given | options)
    return store.load(extract_dataset(from_config(ExtractOptions, config)))


def test_rows_reach_their_utterances(tmp_path: Path):
    features = "AU01,utterance,split,AU02\n1,a_1,train,2\n3,a_1,dev,4\n9,b_1,train,9\n"
    dataset = extract(tmp_path, features, **{"text.model": "lite"})
    (train,), (dev,) = dataset.split("train"), dataset.split("dev")
    np.testing.assert_array_equal(train.values["video"], [[1, 2], [0, 0]])
    np.testing.assert_array_equal(train.present["video"], [True, False])
    np.testing.assert_array_equal(dev.values["video"], [[3, 4]])
    assert train.present["text"].all()
    assert dataset.manifest["notes"][1:] == ["1 rows of faces.csv are of no utterance and are left out"]
    spec = dataset.manifest["modalities"]["video"]["extractor"]
    assert registry.build(spec).dim == 2
    (tmp_path / "faces.csv").write_text(features.replace("4", "5"))
    with pytest.raises(UserError, match="have changed since the features were made"):
        registry.build(spec)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("id,AU01\na_1,1\n", "utterance"),
        ("utterance\na_1\n", "one column of features beside the utterance"),
        ("utterance,AU01\na_1,1\na_1,2\n", "faces.csv:3: utterance a_1 has a row already"),
        ("utterance,AU01\na_1,nan\n", "faces.csv:2, column AU01: 'nan' is no finite number"),
        ("utterance,AU01\na_1,\n", "faces.csv:2, column AU01: '' is no finite number"),
        (
            "utterance,AU01\nz,1\n",
            "no row is of an utterance of table; the first row is of 'z', and ids there are like",
        ),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, features: str, message: str):
    with pytest.raises(UserError, match=message):
        extract(tmp_path, features)
