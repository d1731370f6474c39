"""What a linear probe reads off frozen features: a check of the extractors, without any model of jmer's.

    python benchmarks/linear_probe.py --dataset=data/packed/meld-minilm                     # train to dev
    python benchmarks/linear_probe.py --ravdess=DIR_OF_FLAC --config.audio.model=DIR ...    # actors held out, 6 folds

The probe is scikit-learn's logistic regression on standardised features, C chosen on the training part by grouped
cross-validation. RAVDESS's clips are extracted first, by `jmer.extract` with configs/extract/lite.py and what
`--config.FIELD=VALUE` changes in it.
"""

import csv
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jmer.base import cli
from jmer.base.options import from_config
from jmer.base.types import MODALITIES
from jmer.dataset import store
from jmer.dataset.build import extract_dataset
from jmer.dataset.options import ExtractOptions

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
FOLDS = 6


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--dataset", type=Path, help="dataset directory; the probe is trained on train, scored on dev")
    parser.add_argument("--ravdess", type=Path, help="folder of RAVDESS's clips; one dialogue each, actors held out")
    parser.add_argument("--modalities", default="", help="those used, comma-separated; all by default")
    parser.set_defaults(config="configs/extract/lite.py")
    args = cli.parse(parser, argv, config=True)
    if args.ravdess:
        dataset = store.load(extract_ravdess(args.ravdess, args.config))
        chosen = tuple(args.modalities.split(",")) if args.modalities else tuple(dataset.dims)
        x, y, groups = arrays(dataset, ("train",), chosen)
        predicted = np.zeros_like(y)
        for train, test in GroupKFold(FOLDS).split(x, y, groups):
            predicted[test] = probe(x[train], y[train], groups[train]).predict(x[test])
    else:
        dataset = store.load(args.dataset)
        chosen = tuple(args.modalities.split(",")) if args.modalities else tuple(dataset.dims)
        x, labels, groups = arrays(dataset, ("train",), chosen)
        fitted = probe(x, labels, groups)
        x, y, _ = arrays(dataset, ("dev",), chosen)
        predicted = fitted.predict(x)
    weighted, macro = (f1_score(y, predicted, average=average) for average in ("weighted", "macro"))
    print(f"{dataset.path}, {', '.join(chosen)}, {x.shape[1]}-d: weighted F1 {weighted:.3f}, macro-F1 {macro:.3f}")
    return 0


def extract_ravdess(folder: Path, config) -> Path:
    """Extracts the clips of speech in a folder, named as RAVDESS names them, as one split."""
    with tempfile.TemporaryDirectory() as temporary:
        table = Path(temporary) / "ravdess.csv"
        with table.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("dialogue", "utterance", "speaker", "text", "label", "split", "clip"))
            for clip in sorted(folder.iterdir()):
                _, _, emotion, _, _, _, actor = clip.stem.split("-")
                writer.writerow((clip.stem, clip.stem, actor, "", EMOTIONS[int(emotion) - 1], "train", clip.resolve()))
        config.source, config.root = "table", str(table)
        return extract_dataset(from_config(ExtractOptions, config))


def arrays(
    dataset: store.Dataset, splits: Sequence[str], modalities: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features `[N, D]`, labels and groups `[N]`: the speaker of a dialogue of one utterance, else the dialogue."""
    dialogues = [d for split in splits for d in dataset.split(split)]
    used = [m for m in MODALITIES if m in modalities]
    x = np.concatenate([np.concatenate([d.values[m] for m in used], axis=1) for d in dialogues])
    groups = [d.speakers if len(d) == 1 else (d.dialogue_id,) * len(d) for d in dialogues]
    return x, np.concatenate([d.labels for d in dialogues]), np.concatenate(groups)


def probe(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> GridSearchCV:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    grid = {"logisticregression__C": [1e-3, 1e-2, 1e-1]}
    return GridSearchCV(model, grid, scoring="f1_weighted", cv=GroupKFold(4)).fit(x, y, groups=groups)


if __name__ == "__main__":
    sys.exit(cli.run(main))
