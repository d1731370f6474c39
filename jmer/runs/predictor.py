"""Prediction with a trained run, from Python: `jmer.load(run).predict(dialogue)`."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jmer.base.errors import UserError
from jmer.base.types import Dialogue, Features, Prediction, Utterance
from jmer.dataset.flat import flatten, gather, longest
from jmer.dataset.plan import evaluation_plan, round_up
from jmer.features import engine, registry
from jmer.features.extractor import Extractor
from jmer.runs import directory
from jmer.runs.directory import Run
from jmer.training import steps

BATCH_UTTERANCES = 256  # padded utterances of a batch that only predicts; one number, to share what is compiled
_KEYS = ("id", "speaker", "text", "clip", "features")


def load(path: str | Path, *others: str | Path) -> "Predictor":
    """Opens a run directory for prediction, at its best checkpoint; with others, several runs that vote.

    Raises:
      UserError: there is no run there, it has no checkpoint yet, a file of it is damaged, or the runs do not fit
        together.
    """
    return Predictor([directory.load(Path(p)) for p in (path, *others)])


class Predictor:
    """Trained runs, with the extractors that they recorded.

    Of a run that was trained with `config.vote`, all seeds vote, as all runs do where there are several; otherwise the
    first seed speaks.

    labels: the label names, in the model's order.
    modalities: the modalities the models read.
    """

    def __init__(self, members: Sequence[Run]):
        check_members(members)
        self._members = [
            m if m.config.vote else replace(m, params=jax.tree.map(lambda x: x[:1], m.params)) for m in members
        ]
        self._extractors: dict[str, Extractor] = {}
        self._described = {name: described for m in members for name, described in m.modalities.items()}
        self._dims = {name: described["dim"] for name, described in self._described.items()}
        self._sequences = {name for m in members for name, _ in m.model.sequence_dims}
        self.labels = members[0].labels
        self.modalities = tuple(self._described)

    def predict(self, dialogue: Dialogue | Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """Returns a prediction an utterance.

        Args:
          dialogue: of any length; a `jmer.Dialogue`, or mappings with `speaker`, any of `text`, `clip` (path) and
            `features` (modality -> `[D]`), and `id` if wanted. Ready features come before text and clip; a modality
            whose sequence a model reads too must be given raw. What an utterance lacks, or the model does not read, is
            left out.

        Raises:
          UserError: an utterance has an unknown or lacks a needed field, its clip cannot be read, or features do not
            have the dims that the model reads or lack the sequence that it reads too.
        """
        if not isinstance(dialogue, Dialogue):
            dialogue = _dialogue(dialogue)
        if not dialogue.utterances:
            return []
        for utterance in dialogue.utterances:
            for m in utterance.features.keys() & self._sequences:
                raw = "text" if m == "text" else "clip"
                raise UserError(
                    f"{dialogue.id} {utterance.id}: ready {m} features, but the model reads the frames too, which "
                    f"only the {raw} gives; give that instead, or leave {m} out"
                )
        features = engine.extract_dialogue(dialogue, self._needed(dialogue), dims=self._dims)
        each = [predict_features(member, [features])[0] for member in self._members]
        probs = np.concatenate([p for p, _ in each]).mean(axis=0)
        # The members' gates, each by name: a modality that only some read has the mean over those.
        gates: dict[str, list[np.ndarray]] = {}
        for member, (_, g) in zip(self._members, each, strict=True):
            for i, name in enumerate(member.model.gate_names):
                gates.setdefault(name, []).extend(g[..., i])
        return [
            Prediction(
                utterance_id=utterance.id,
                label=self.labels[p.argmax()],
                probs=dict(zip(self.labels, p.tolist(), strict=True)),
                gates={name: float(np.mean([g[i] for g in shares])) for name, shares in gates.items()},
            )
            for i, (utterance, p) in enumerate(zip(dialogue.utterances, probs, strict=True))
        ]

    def _needed(self, dialogue: Dialogue) -> dict[str, Extractor]:
        """The extractors of the modalities that some utterance gives raw, built when first needed."""
        for modality, described in self._described.items():
            raw = [u.text if modality == "text" else u.clip for u in dialogue.utterances if modality not in u.features]
            if any(raw) and modality not in self._extractors:
                self._extractors[modality] = registry.build(described["extractor"])
        return self._extractors


def predict_features(run: Run, dialogues: Sequence[Features]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns for each dialogue the class probabilities `[S, U, C]` and the gates `[S, U, G]` of every seed.

    Where a seed has several members (its best epochs), they vote: the means of theirs.
    """
    seeds = len(jax.tree.leaves(run.params)[0])
    # As dialogues, sequences are padded to one of a few lengths.
    sequences = {m: (round_up(t), d) for m, (t, d) in longest(dialogues, dict(run.model.sequence_dims)).items()}
    lengths = [len(d) for d in dialogues]
    flat = flatten(
        dialogues, utterances=sum(lengths), dims=dict(run.model.dims), sequences=sequences, dtype=run.config.data_dtype
    )
    results = [np.zeros((seeds, len(flat.mask), n), np.float32) for n in (len(run.labels), len(run.model.gate_names))]
    for index in itertools.chain(*evaluation_plan(lengths, batch_utterances=BATCH_UTTERANCES)):
        found = jax.device_get(steps.predict(run.model, run.params, run.stats, gather(flat, index)))
        for result, x in zip(results, found, strict=True):
            result[:, index] = x
    ends = np.cumsum(lengths)
    return list(zip(*(np.split(result[:, : ends[-1]], ends[:-1], axis=1) for result in results), strict=True))


def check_members(members: Sequence[Run]) -> None:
    """Checks that runs can vote.

    Raises:
      UserError: they have other labels, or read the same modality from other extractors.
    """
    first = members[0]
    for member in members[1:]:
        if member.labels != first.labels:
            raise UserError(
                f"{member.workdir} has the labels {', '.join(member.labels)}, {first.workdir} has "
                f"{', '.join(first.labels)}; only runs of one label set can vote"
            )
        for name in member.modalities.keys() & first.modalities.keys():
            if member.modalities[name]["fingerprint"] != first.modalities[name]["fingerprint"]:
                raise UserError(
                    f"{member.workdir} and {first.workdir} read {name} from different extractors; only runs trained on "
                    "the same features can vote"
                )


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
