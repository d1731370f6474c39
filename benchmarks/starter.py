"""Trains the experts of the model that jmer ships, scores them, and writes `jmer/runs/starter_files`.

    python -m jmer.finetune --config configs/meld/tuned.py --config.root=data/MELD.Raw --config.rank=8 \\
        --config.lr=2e-3 --config.seeds=1 --workdir=runs/starter-text
    python -m jmer.extract --config configs/extract/hf.py --config.source=ravdess --config.root=data/RAVDESS \\
        --config.text.model=none --config.audio.model=openai/whisper-tiny.en --config.audio.layers=all \\
        --config.audio.pooling=mean,std --config.video.model=none --config.views=3 \\
        --config.out=data/packed/ravdess-views
    python benchmarks/starter.py --meld=data/MELD.Raw --text-run=runs/starter-text --ravdess=data/packed/ravdess-views

    text    the adapters and the head that fine-tuning left, scaled by the temperature that fits MELD's dev split
    audio   ridge regression on all hidden states of Whisper's encoder, one target a class, trained on augmented views
            too; its values are scaled to logits by the temperature that fits the folds of actors
    video   the probabilities of the face-expression network, as logits from 0 to 3; no labelled faces were at hand that
            could say how far they may be trusted

The weights of the experts in the pool, 2 for text and sound and 1 for faces, are a choice, since no data at hand has
labels for all three. Where `JMER_ENCODERS` names a folder with the encoders, they are read from there.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.special import softmax
from sklearn.linear_model import Ridge
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jmer.base import files
from jmer.base.types import UNLABELLED
from jmer.corpora import meld
from jmer.dataset import store
from jmer.dataset.folds import fold_of
from jmer.encoders import adapters
from jmer.encoders.face_expression import EXPRESSIONS, FEATURE_DIM
from jmer.features import engine
from jmer.features.audio.encoder import HFAudio
from jmer.features.text.tuned import TunedText
from jmer.runs.starter import FOLDER
from jmer.training.calibration import cross_scaled, fit_temperature
from jmer.training.metrics import expected_calibration_error

LABELS = ("neutral", "joy", "anger", "disgust", "sadness", "fear", "surprise")
RAVDESS = {
    "neutral": "neutral", "calm": "neutral", "happy": "joy", "sad": "sadness", "angry": "anger", "fearful": "fear",
    "disgust": "disgust", "surprised": "surprise",
}  # fmt: skip
FACES = dict(zip(EXPRESSIONS, ("neutral", "joy", "sadness", "anger", "fear", "disgust", "surprise"), strict=True))
TEXT_ENCODER, SPEECH_ENCODER = "sentence-transformers/all-MiniLM-L6-v2", "openai/whisper-tiny.en"
FOLDS, PENALTY, FACE_LOGIT = 6, 0.3, 3.0  # the penalty is that of a feature, for standardised features


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meld", type=Path, required=True, help="folder of MELD's CSV files")
    parser.add_argument("--text-run", type=Path, required=True, help="run of jmer.finetune")
    parser.add_argument("--ravdess", type=Path, required=True, help="packed dataset of RAVDESS's speech")
    parser.add_argument("--out", type=Path, default=FOLDER)
    args = parser.parse_args(argv)
    args.out.mkdir(exist_ok=True)
    arrays, experts = {}, {}
    for modality, (described, found, scores) in {
        "text": text(args.meld, args.text_run, args.out),
        "audio": audio(args.ravdess),
        "video": video(),
    }.items():
        experts[modality] = described
        arrays |= {f"{modality}.{name}": np.ascontiguousarray(x, np.float32) for name, x in found.items()}
        print(f"{modality}: {scores}")
    save_file(arrays, args.out / "starter.safetensors")
    files.save_json(args.out / "starter.json", {"labels": LABELS, "experts": experts})
    return 0


def text(root: Path, run: Path, out: Path) -> tuple[dict[str, Any], dict[str, np.ndarray], str]:
    """Takes over what fine-tuning left; returns the expert, its arrays, and its scores on dev."""
    shutil.rmtree(out / "text", ignore_errors=True)
    shutil.copytree(run / "model", out / "text", ignore=shutil.ignore_patterns("head.safetensors", "README.md"))
    config = json.loads((out / "text" / adapters.CONFIG).read_text())
    files.save_json(out / "text" / adapters.CONFIG, config | {"base_model_name_or_path": TEXT_ENCODER})
    options = {"model": "./text", "layers": "all", "pooling": "mean"}
    extractor = TunedText(model=str(out / "text"), layers="all", pooling="mean")
    corpus = meld.load(root)
    found = [engine.extract_dialogue(d, {"text": extractor}, labels=corpus.labels) for d in corpus.splits["dev"]]
    x, y = np.concatenate([d.values["text"] for d in found]), np.concatenate([d.labels for d in found])
    head = load_file(run / "model/head.safetensors")
    kernel = head["linear_head.kernel"].copy()
    kernel[-len(head["head.kernel"]) :] += head["head.kernel"]
    probs = softmax(x @ kernel + head["head.bias"], axis=1)
    temperature = fit_temperature(probs, y)
    half = np.repeat(np.arange(len(found)) % 2, [len(d) for d in found])
    scaled = cross_scaled(probs, y, half)
    score = weighted_f1(y, probs)
    train = [u.label for d in corpus.splits["train"] for u in d.utterances if u.label]
    chosen = json.loads((run / "eval/dev/metrics.json").read_text())["weighted_f1"]["values"]
    scores = (
        f"weighted F1 {score:.4f} on dev (the seeds of the run: {', '.join(f'{v:.4f}' for v in chosen)}), macro "
        f"{f1_score(y, probs.argmax(axis=1), average='macro'):.4f}, ECE {expected_calibration_error(y, scaled):.3f}, "
        f"temperature {temperature:.2f}"
    )
    described = {"classes": corpus.labels, "weight": 2.0, "options": options}
    prior = np.array([train.count(name) / len(train) for name in corpus.labels])
    return described, {"kernel": kernel / temperature, "bias": head["head.bias"] / temperature, "prior": prior}, scores


def audio(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray], str]:
    """Trains the expert of speech; returns it, its arrays, and its scores on the folds."""
    dataset = store.load(path)
    values = np.zeros((0, len(dataset.labels)))
    truth, fold = np.zeros(0, int), np.zeros(0, int)
    for number in range(FOLDS):
        part = fold_of(dataset, number, by="speaker", count=FOLDS, dev=False)
        x, y = examples(part, "test")
        values = np.concatenate([values, fitted(part).predict(x)])
        truth, fold = np.concatenate([truth, y]), np.concatenate([fold, np.full(len(y), number)])
    probs = softmax(values, axis=1)
    temperature = fit_temperature(probs, truth)
    scaled = cross_scaled(probs, truth, fold)
    scores = (
        f"weighted F1 {weighted_f1(truth, probs):.4f} on {FOLDS} folds of actors, ECE "
        f"{expected_calibration_error(truth, scaled):.3f}, temperature {temperature:.3f}"
    )
    scaler, ridge = fitted(dataset)
    y = examples(dataset, "train")[1]
    kernel = (ridge.coef_ / scaler.scale_).T
    bias = ridge.intercept_ - scaler.mean_ @ kernel
    model = dataset.manifest["modalities"]["audio"]["extractor"]["options"]
    described = {
        "classes": [RAVDESS[name] for name in dataset.labels],
        "weight": 2.0,
        "options": {"model": SPEECH_ENCODER, "layers": model["layers"], "pooling": model["pooling"]},
        "sha256_of_halves": HFAudio(model=model["model"], layers=model["layers"]).sha256_of_halves,
    }
    prior = np.bincount(y, minlength=len(dataset.labels)) / len(y)
    return described, {"kernel": kernel / temperature, "bias": bias / temperature, "prior": prior}, scores


def video() -> tuple[dict[str, Any], dict[str, np.ndarray], str]:
    """Returns the expert of faces, which is not trained."""
    kernel = np.zeros((2 * (FEATURE_DIM + len(EXPRESSIONS)), len(EXPRESSIONS)))
    kernel[FEATURE_DIM : FEATURE_DIM + len(EXPRESSIONS)] = FACE_LOGIT * np.eye(len(EXPRESSIONS))
    prior = np.full(len(EXPRESSIONS), 1 / len(EXPRESSIONS))
    described = {"classes": list(FACES.values()), "weight": 1.0, "options": {"model": "lite"}}
    return described, {"kernel": kernel, "bias": np.zeros(len(EXPRESSIONS)), "prior": prior}, "not trained"


def fitted(dataset: store.Dataset) -> Any:
    """Returns the regression on the split train of a dataset and its views."""
    parts = [examples(dataset, split) for split in ("train", *dataset.views)]
    x, y = (np.concatenate(part) for part in zip(*parts, strict=True))
    views, classes = len(parts), len(dataset.labels)
    model = make_pipeline(StandardScaler(), Ridge(PENALTY * x.shape[1] * views))
    return model.fit(x, np.eye(classes)[y])


def examples(dataset: store.Dataset, split: str) -> tuple[np.ndarray, np.ndarray]:
    dialogues = dataset.split(split)
    x, y = (np.concatenate(part) for part in zip(*((d.values["audio"], d.labels) for d in dialogues), strict=True))
    return x[y != UNLABELLED], y[y != UNLABELLED]


def weighted_f1(y: np.ndarray, probs: np.ndarray) -> float:
    return float(f1_score(y, probs.argmax(axis=1), average="weighted"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
