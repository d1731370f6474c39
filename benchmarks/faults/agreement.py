"""`jmer.predict` beside `jmer.evaluate`: one answer for one utterance, from clips and from text.

    python benchmarks/faults/agreement.py [--count=100]

The embedded sample is extracted by configs/extract/lite.py, a model is trained on it and calibrated on dev, and
`jmer.evaluate` writes predictions.csv for every split. The same utterances are then given to Python as raw clips with
their texts. For text alone, the same is done with a dataset of text. The promise: every probability is equal to 1e-6.
Exits with 1 if the promise was not kept.
"""

import csv
import logging
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

import jmer
from benchmarks.faults.outcomes import Row, parser, show
from jmer.base.options import from_config
from jmer.base.types import Corpus, Dialogue
from jmer.corpora import sample
from jmer.dataset import store
from jmer.dataset.build import extract_dataset
from jmer.dataset.options import ExtractOptions, default_config
from jmer.runs import directory, fit, scoring
from jmer.training.options import TrainOptions

WITHIN = 1e-6
MODEL = {"epochs": 12, "hidden": 32, "heads": 2, "lr": 5e-3}
KINDS: Mapping[str, Mapping[str, str]] = {"raw clips": {}, "text alone": {"audio.model": "none", "video.model": "none"}}


def main() -> int:
    args = parser(__doc__, count=100).parse_args()
    with jax.numpy_dtype_promotion("standard"):
        return show("answers of predict beside those of evaluate", rows(count=args.count))


def rows(
    *, count: int = 100, kinds: Mapping[str, Mapping[str, str]] = KINDS, options: Mapping[str, Any] = MODEL
) -> list[Row]:
    """Compares so many utterances and the rest of their dialogue, or all of the sample.

    Args:
      kinds: name -> options of the extraction.
      options: of the training.
    """
    logging.getLogger("jmer").setLevel(logging.ERROR)
    corpus = sample.load()
    found = []
    for kind, extraction in kinds.items():
        with tempfile.TemporaryDirectory(prefix="jmer-agreement-") as folder:
            found.append(compared(kind, extraction, corpus, count, Path(folder), options))
    return found


def compared(
    kind: str, extraction: Mapping[str, str], corpus: Corpus, count: int, folder: Path, options: Mapping[str, Any]
) -> Row:
    config = default_config()
    given: dict[str, Any] = {"out": str(folder / "data"), "workers": 1}
    config.update_from_flattened_dict(given | dict(extraction))
    dataset = store.load(extract_dataset(from_config(ExtractOptions, config)))
    run = trained(dataset, folder / "run", options)
    loaded, differences = jmer.load(folder / "run"), []
    for split, dialogues in corpus.splits.items():
        scoring.score([run], dataset, split, vote=False)
        shown = written(folder / f"run/eval/{split}/predictions.csv", dataset.labels)
        for dialogue in dialogues:
            if len(differences) >= count:
                break
            for p in loaded.predict(bare(dialogue, clips=not extraction)):
                expected = shown.pop((dialogue.id, p.utterance_id))
                differences.append(max(abs(p.probs[label] - expected[label]) for label in dataset.labels))
    temperature = run.calibration.seeds[0]
    held = len(differences) >= min(count, utterances(corpus)) and max(differences) <= WITHIN and temperature != 1
    return Row(
        case=f"{kind} ({len(differences)} utterances)",
        promise=f"equal to {WITHIN:g}, both calibrated",
        outcome=f"at most {max(differences):.1e} apart; temperature {temperature:.2f}",
        held=held,
    )


def trained(dataset: store.Dataset, workdir: Path, options: Mapping[str, Any]) -> directory.Run:
    """Trains a small model, and calibrates it."""
    fit.fit(TrainOptions(dataset=str(dataset.path), devices=1, **options), dataset, workdir)
    return scoring.calibrate(directory.load(workdir), dataset)


def written(file: Path, labels: tuple[str, ...]) -> dict[tuple[str, str], dict[str, float]]:
    """Returns the probabilities of each utterance in a predictions.csv."""
    with file.open(newline="") as stream:
        found = list(csv.DictReader(stream))
    return {(row["dialogue"], row["utterance"]): {label: float(row[label]) for label in labels} for row in found}


def bare(dialogue: Dialogue, *, clips: bool) -> Dialogue:
    """Returns a dialogue without its targets, and where asked without its clips."""

    def one(utterance: Any) -> Any:
        return replace(utterance, label=None, sentiment=None, **({} if clips else {"clip": None}))

    return replace(dialogue, utterances=tuple(map(one, dialogue.utterances)))


def utterances(corpus: Corpus) -> int:
    return sum(len(d.utterances) for ds in corpus.splits.values() for d in ds)


if __name__ == "__main__":
    sys.exit(main())
