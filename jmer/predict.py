"""Prediction with a trained run, from Python: `jmer.load(run).predict(dialogue)`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jmer import runs, steps
from jmer.batches import evaluation_batches
from jmer.errors import UserError
from jmer.features import engine, registry
from jmer.features.extractor import Extractor
from jmer.runs import Run
from jmer.types import Dialogue, Features, Prediction, Utterance

BATCH_UTTERANCES = 256  # padded utterances of a batch that only predicts; one number, to share what is compiled
_KEYS = ("id", "speaker", "text", "clip", "features")


def load(path: str | Path) -> "Predictor":
    """Opens a run directory for prediction, at its best checkpoint.

    Raises:
      UserError: there is no run there, it has no checkpoint yet, or a file of it is damaged.
    """
    return Predictor(runs.load(Path(path)))


class Predictor:
    """A run's first seed, with the extractors that the run recorded.

    labels: the label names, in the model's order.
    modalities: the modalities the model reads.
    """

    def __init__(self, run: Run):
        self._run = replace(run, params=jax.tree.map(lambda x: x[:1], run.params))
        self._extractors: dict[str, Extractor] = {}
        self.labels = run.labels
        self.modalities = tuple(run.modalities)
        self._dims = dict(run.model.dims)

    def predict(self, dialogue: Dialogue | Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """Returns a prediction an utterance.

        Args:
          dialogue: of any length; a `jmer.Dialogue`, or mappings with `speaker`, any of `text`, `clip` (path) and
            `features` (modality -> `[D]`), and `id` if wanted. Ready features come before text and clip. What an
            utterance lacks, or the model does not read, is left out.

        Raises:
          UserError: an utterance has an unknown or lacks a needed field, its clip cannot be read, or features do not
            have the dims that the model reads.
        """
        if not isinstance(dialogue, Dialogue):
            dialogue = _dialogue(dialogue)
        if not dialogue.utterances:
            return []
        features = engine.extract_dialogue(dialogue, self._needed(dialogue), dims=self._dims)
        ((probs, gates),) = predict_features(self._run, [features])
        return [
            Prediction(
                utterance_id=utterance.id,
                label=self.labels[p.argmax()],
                probs=dict(zip(self.labels, p.tolist(), strict=True)),
                gates=dict(zip(self.modalities, g.tolist(), strict=True)),
            )
            for utterance, p, g in zip(dialogue.utterances, probs[0], gates[0], strict=True)
        ]

    def _needed(self, dialogue: Dialogue) -> dict[str, Extractor]:
        """The extractors of the modalities that some utterance gives raw, built when first needed."""
        for modality, described in self._run.modalities.items():
            raw = [u.text if modality == "text" else u.clip for u in dialogue.utterances if modality not in u.features]
            if any(raw) and modality not in self._extractors:
                self._extractors[modality] = registry.build(described["extractor"])
        return self._extractors


def predict_features(run: Run, dialogues: Sequence[Features]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns for each dialogue the class probabilities `[S, U, C]` and the gates `[S, U, M]` of every seed."""
    results: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for batch, positions in evaluation_batches(dialogues, dims=dict(run.model.dims), batch_utterances=BATCH_UTTERANCES):
        output, _ = steps.evaluate(run.model, run.params, run.stats, batch)
        probs, gates = jax.device_get((jax.nn.softmax(output.logits), output.gates))
        for b, position in enumerate(positions):
            n = len(dialogues[position])
            results[position] = probs[:, b, :n], gates[:, b, :n]
    return [results[i] for i in range(len(dialogues))]


def _dialogue(utterances: Sequence[Mapping[str, Any]]) -> Dialogue:
    checked = []
    for i, given in enumerate(utterances):
        name = str(given.get("id", f"utt{i}"))
        for key in given:
            if key not in _KEYS:
                raise UserError(f"utterance {name}: unknown field '{key}'; it may have {', '.join(_KEYS)}")
        if "speaker" not in given:
            raise UserError(f"utterance {name}: no speaker; any name will do, the same for the same person")
        checked.append(
            Utterance(
                id=name,
                speaker=str(given["speaker"]),
                text=given.get("text") or "",
                clip=Path(given["clip"]) if given.get("clip") else None,
                features=given.get("features") or {},
            )
        )
    return Dialogue(id="dialogue", utterances=tuple(checked))
