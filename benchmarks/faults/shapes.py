"""Dialogues and corpora of unusual shapes: trained on, evaluated and predicted.

    python benchmarks/faults/shapes.py

Dialogues of 0, 1, 2, 33 and 2,000 utterances; 1 and 50 speakers; one class; a class absent from train; no labels in
test; utterances and dialogues without any modality. The promise: every utterance gets an answer whose probabilities sum
to 1, every labelled one is counted in the scores, and these are defined; or one line says why not. Nothing is cut in
silence. Exits with 1 if a promise was not kept.
"""

import csv
import json
import logging
import math
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import tiny  # pyright: ignore[reportMissingImports] (of the tests)

import jmer
from benchmarks.faults.outcomes import Row, show
from jmer.base.types import UNLABELLED, Features
from jmer.dataset import store
from jmer.runs import directory, scoring

Splits = Mapping[str, Sequence[Features]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A corpus.

    splits: made of the length of its longest dialogue.
    refused: what the refusal says, by what is done: train, evaluate or predict.
    silent: how many utterances of test have no modality, and therefore no answer from Python.
    """

    name: str
    splits: Callable[[int], Splits]
    refused: Mapping[str, str] = field(default_factory=dict)
    silent: int = 0


def dialogues(*lengths: int, seed: int = 0, speakers: int = 3) -> list[Features]:
    rng = np.random.default_rng(seed)
    return [tiny.dialogue(n, rng, name=f"d{i}", speakers=speakers) for i, n in enumerate(lengths)]


def corpus(**changed: Sequence[Features]) -> Splits:
    return {"train": dialogues(5, 7, 6, 4), "dev": dialogues(5, 4, seed=1), "test": dialogues(6, 3, seed=2)} | changed


def lengths(*given: int) -> Callable[[int], Splits]:
    def made(longest: int) -> Splits:
        each = [longest if n == LONG else n for n in given]
        return {split: dialogues(*each, seed=i) for i, split in enumerate(("train", "dev", "test"))}

    return made


def labelled(dialogue: Features, labels: Any) -> Features:
    return replace(dialogue, labels=np.broadcast_to(np.asarray(labels, np.int32), (len(dialogue),)).copy())


def without(dialogue: Features, where: slice) -> Features:
    """Returns a dialogue in which some utterances have no modality."""
    present = {m: x.copy() for m, x in dialogue.present.items()}
    for x in present.values():
        x[where] = False
    values = {m: np.where(present[m][:, None], x, 0) for m, x in dialogue.values.items()}
    sequences = {
        m: tuple(x if here else x[:0] for x, here in zip(frames, present[m], strict=True))
        for m, frames in dialogue.sequences.items()
    }
    return replace(dialogue, present=present, values=values, sequences=sequences)


def each(splits: Splits, change: Callable[[Features], Features], *names: str) -> Splits:
    return {s: [change(d) if s in names else d for d in ds] for s, ds in splits.items()}


LONG = -1  # stands for 2,000 utterances
SPLITS = ("train", "dev", "test")
NO_LABEL = "no utterance of split 'test' has a label"
CASES = (
    Case(name="dialogues of 1 utterance", splits=lengths(1, 1, 1, 1)),
    Case(name="dialogues of 2 utterances", splits=lengths(2, 2, 2, 2)),
    Case(name="dialogues of 33 utterances", splits=lengths(33, 33)),
    Case(name="a dialogue of 2,000 utterances beside short ones", splits=lengths(LONG, 1, 5)),
    Case(name="dialogues of 0 utterances among others", splits=lengths(0, 5, 0, 7, 0)),
    Case(name="1 speaker", splits=lambda _: {s: dialogues(6, 5, seed=i, speakers=1) for i, s in enumerate(SPLITS)}),
    Case(
        name="50 speakers",
        splits=lambda _: {s: dialogues(60, 55, seed=i, speakers=50) for i, s in enumerate(SPLITS)},
    ),
    Case(name="one class", splits=lambda _: each(corpus(), lambda d: labelled(d, 1), *SPLITS)),
    Case(
        name="a class absent from train",
        splits=lambda _: each(corpus(), lambda d: labelled(d, np.minimum(d.labels, 1)), "train"),
    ),
    Case(
        name="no labels in test",
        splits=lambda _: each(corpus(), lambda d: labelled(d, UNLABELLED), "test"),
        refused={"evaluate": NO_LABEL},
    ),
    Case(
        name="no labels in dev",
        splits=lambda _: each(corpus(), lambda d: labelled(d, UNLABELLED), "dev"),
        refused={"train": "no utterance of the dev split has a label"},
    ),
    Case(name="no test split", splits=lambda _: {s: d for s, d in corpus().items() if s != "test"},
         refused={"evaluate": "no split 'test'", "predict": "no split 'test'"}),
    Case(name="a test split without dialogues", splits=lambda _: corpus(test=[]), refused={"evaluate": NO_LABEL}),
    Case(
        name="a train split without dialogues",
        splits=lambda _: corpus(train=[]),
        refused={"train": "no utterance of the train split"},
    ),
    Case(
        name="utterances without any modality",
        splits=lambda _: each(corpus(), lambda d: without(d, slice(0, 2)), *SPLITS),
        silent=4,
    ),
    Case(name="a dialogue without any modality",
         splits=lambda _: {s: [without(ds[0], slice(None)), *ds[1:]] for s, ds in corpus().items()}, silent=6),
    Case(name="a train split without any modality",
         splits=lambda _: each(corpus(), lambda d: without(d, slice(None)), "train"),
         refused={"train": "no utterance of the train split has text"}),
)  # fmt: skip


def rows(*, longest: int = 2000, options: Mapping[str, Any] | None = None, cases: Sequence[Case] = CASES) -> list[Row]:
    """Plays every case. longest: utterances of the long dialogue. options: of the model."""
    logging.getLogger("jmer").setLevel(logging.ERROR)
    found = []
    for case in cases:
        with tempfile.TemporaryDirectory(prefix="jmer-shapes-") as folder:
            found.append(attempt(case, Path(folder), longest=longest, options=options or {}))
    return found


def attempt(case: Case, folder: Path, *, longest: int, options: Mapping[str, Any]) -> Row:
    """Trains on a corpus, evaluates on its test split, and predicts that split by both ways."""
    splits, expected = case.splits(longest), case.refused
    data, run, outcomes = tiny.write_dataset(folder / "data", splits=splits), folder / "run", []
    steps: dict[str, Callable[[], str]] = {
        "train": lambda: train(data, run, options),
        "evaluate": lambda: evaluate(data, run, splits.get("test", ())),
        "predict": lambda: predict(data, run, splits.get("test", ()), silent=case.silent),
    }
    held = True
    for name, step in steps.items():
        try:
            outcome = step()
            held &= not outcome and name not in expected
            outcomes.append(f"{name}: {outcome or 'done'}")
        except jmer.UserError as error:
            held &= name in expected and expected[name] in str(error)
            outcomes.append(f"{name}: {str(error).replace(str(folder), '')}")
            if name == "train":
                break
        except Exception as error:
            held = False
            outcomes.append(f"{name}: traceback: {type(error).__name__}: {str(error)[:200]}")
            if name == "train":
                break
    promise = "; ".join(f"{name} refused" for name in expected) or "every utterance answered and counted"
    return Row(case=case.name, promise=promise, outcome="; ".join(outcomes), held=held)


def train(data: Path, run: Path, options: Mapping[str, Any]) -> str:
    tiny.train(data, run, epochs=1, **options)
    finite = all(np.isfinite(x).all() for x in jax.tree.leaves(directory.load(run).params))
    return "" if finite else "parameters are not finite"


def evaluate(data: Path, run: Path, test: Sequence[Features]) -> str:
    """Returns what is wrong with the scores of the test split."""
    opened = scoring.calibrate(directory.load(run), store.load(data))
    scoring.score([opened], store.load(data), "test", vote=False)
    found = json.loads((run / "eval/test/metrics.json").read_text())
    total, known = sum(map(len, test)), sum(int((d.labels != UNLABELLED).sum()) for d in test)
    with (run / "eval/test/predictions.csv").open() as file:
        written = list(csv.DictReader(file))
    sums = [sum(float(row[label]) for label in tiny.LABELS) for row in written]
    scores = [found[name]["mean"] for name in ("accuracy", "weighted_f1", "macro_f1")]
    wrong = [f"n is {found['n']} of {known}"] * (found["n"] != known)
    wrong += [f"{len(written)} of {total} rows"] * (len(written) != total)
    wrong += ["probabilities do not sum to 1"] * (not np.allclose(sums, 1, atol=1e-4))
    wrong += [f"scores are {scores}"] * (not all(math.isfinite(x) and 0 <= x <= 1 for x in scores))
    return ", ".join(wrong)


def predict(data: Path, run: Path, test: Sequence[Features], *, silent: int) -> str:
    """Returns what is wrong with the answers for the test split, and for the same features given from Python."""
    loaded = jmer.load(run)
    given = [
        [
            {
                "id": name,
                "speaker": d.speakers[i],
                "features": {m: d.values[m][i] for m in tiny.DIMS if d.present[m][i]},
            }
            for i, name in enumerate(d.utterance_ids)
        ]
        for d in test
    ]
    for found in (loaded.predict_split(data, "test"), loaded.predict_all(given)):
        if [[p.utterance_id for p in each] for each in found] != [list(d.utterance_ids) for d in test]:
            return "other utterances than those that were given"
        flat = [p for each in found for p in each]
        failed = [p for p in flat if p.status == "failed"]
        if len(failed) != silent or not all("nothing to go on" in p.reason for p in failed):
            return f"{len(failed)} utterances without an answer instead of {silent}"
        if not all(math.isclose(sum(p.probs.values()), 1, abs_tol=1e-4) for p in flat if p.status != "failed"):
            return "probabilities do not sum to 1"
    return ""


if __name__ == "__main__":
    with jax.numpy_dtype_promotion("standard"):
        sys.exit(show("unusual shapes", rows()))
