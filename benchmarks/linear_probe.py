"""What a linear probe reads off frozen features: a check of the extractors, without any model of jmer's.

    python benchmarks/linear_probe.py --dataset=data/packed/meld-minilm                  # train to dev
    python benchmarks/linear_probe.py --dataset=data/packed/ravdess --cv=speaker         # the folds of jmer.train

The probe is scikit-learn's logistic regression on standardised features, C chosen on the training part by grouped
cross-validation. A modality that an utterance lacks has zeros.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jmer.base.types import MODALITIES, UNLABELLED
from jmer.dataset import store
from jmer.dataset.folds import fold_of


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="dataset directory")
    parser.add_argument("--modalities", default="", help="those used, comma-separated; all by default")
    parser.add_argument("--cv", choices=("speaker", "dialogue"), help="folds instead of train and dev")
    parser.add_argument("--folds", type=int, default=6)
    args = parser.parse_args(argv)
    dataset = store.load(args.dataset)
    chosen = tuple(args.modalities.split(",")) if args.modalities else tuple(dataset.dims)
    pairs = [(dataset, "dev")]
    if args.cv:
        folds = range(args.folds)
        pairs = [(fold_of(dataset, n, by=args.cv, count=args.folds, dev=False), "test") for n in folds]
    labels, predicted, width = [], [], 0
    for part, split in pairs:
        fitted = probe(*arrays(part, "train", chosen))
        x, y, _ = arrays(part, split, chosen)
        width = x.shape[1]
        labels.append(y)
        predicted.append(fitted.predict(x))
    each = np.concatenate(labels), np.concatenate(predicted)
    weighted, macro = (f1_score(*each, average=average) for average in ("weighted", "macro"))
    print(f"{dataset.path}, {', '.join(chosen)}, {width}-d: weighted F1 {weighted:.3f}, macro-F1 {macro:.3f}")
    return 0


def arrays(dataset: store.Dataset, split: str, modalities: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features `[N, D]`, labels and groups `[N]`: the speaker of a dialogue of one utterance, else the dialogue."""
    dialogues = dataset.split(split)
    used = [m for m in MODALITIES if m in modalities]
    x = np.concatenate([np.concatenate([d.values[m] for m in used], axis=1) for d in dialogues])
    groups = np.concatenate([d.speakers if len(d) == 1 else (d.dialogue_id,) * len(d) for d in dialogues])
    labels = np.concatenate([d.labels for d in dialogues])
    known = labels != UNLABELLED
    return x[known], labels[known], groups[known]


def probe(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> GridSearchCV:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    grid = {"logisticregression__C": [1e-3, 1e-2, 1e-1]}
    return GridSearchCV(model, grid, scoring="f1_weighted", cv=GroupKFold(4)).fit(x, y, groups=groups)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
