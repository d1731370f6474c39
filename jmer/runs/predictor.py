"""Prediction with trained runs, from Python: `jmer.load(run).predict(dialogue)`."""

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jmer.base.errors import UserError
from jmer.base.types import MODALITIES, Dialogue, Features, Prediction, Utterance
from jmer.dataset.flat import flatten, gather, longest
from jmer.dataset.plan import evaluation_plan, round_up
from jmer.features import engine, registry
from jmer.features.extractor import Extractor
from jmer.runs import directory
from jmer.runs.directory import Calibration, Run
from jmer.training import steps
from jmer.training.calibration import scaled

_KEYS = ("id", "speaker", "text", "clip", "features")
_log = logging.getLogger(__name__)


def load(path: str | Path, *others: str | Path, vote: bool | None = None) -> "Predictor":
    """Opens a run directory for prediction, with the parameters of its best epochs.

    Args:
      path: the run directory.
      others: more runs. Then all seeds of all runs vote, as in `jmer.evaluate --with`.
      vote: whether the seeds of a run vote (the mean of their probabilities). By default they do where the run was
        trained with `config.vote`; otherwise the first seed predicts, and a warning is logged where there are others.

    Raises:
      UserError: there is no run, it has no checkpoint yet, a file of it is damaged, the runs do not fit together, or
        `vote` is False for several runs.
    """
    members = [directory.load(Path(p)) for p in (path, *others)]
    if others and vote is False:
        raise UserError("vote is False, but several runs can only predict by a vote; load one run, or leave vote out")
    if vote is None:
        vote = bool(others) or members[0].options.vote
        if not vote and members[0].options.seeds > 1:
            _log.warning(
                "%s holds %d seeds, and the first one (%d) predicts; jmer.load(..., vote=True) lets all of them vote",
                path, members[0].options.seeds, members[0].options.seed,
            )  # fmt: skip
    return Predictor(members, vote=vote)


class Predictor:
    """Trained runs, with the extractors that they recorded.

    labels: the label names, in the model's order.
    modalities: the modalities that the models read.
    """

    def __init__(self, members: Sequence[Run], *, vote: bool):
        """Makes a predictor.

        Args:
          vote: all seeds of all members vote; otherwise the first seed predicts, and there is one member.

        Raises:
          UserError: the members do not fit together.
        """
        check_members(members)
        self._members = members
        if not vote:
            (member,) = members
            self._members = [replace(member, params=jax.tree.map(lambda x: x[:1], member.params))]
        self._temperature = joint_calibration(members).of(vote=vote)[0]
        self._extractors: dict[str, Extractor] = {}
        self._inputs = {name: modality for m in members for name, modality in m.inputs.modalities.items()}
        self._sequences = {name for m in members for name in m.inputs.sequence_dims}
        self.labels = members[0].inputs.labels
        self.modalities = tuple(self._inputs)

    def predict(self, dialogue: Dialogue | Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """Returns a prediction for each utterance.

        Args:
          dialogue: of any length; a `jmer.Dialogue`, or mappings with `speaker`, any of `text`, `clip` (path) and
            `features` (modality -> `[D]`), and optionally `id`. Ready features are used instead of text and clip. A
            modality whose sequence a model reads must be given as text or clip. Labels, and features of a modality that
            no model reads, are ignored.

        Raises:
          UserError: an utterance has an unknown field or lacks its speaker, its clip cannot be read, or its features do
            not have the dim that the model reads or lack the sequence that the model also reads.
        """
        given = dialogue if isinstance(dialogue, Dialogue) else _dialogue(dialogue)
        if not given.utterances:
            return []
        readable = replace(given, utterances=tuple(self._readable(given.id, u) for u in given.utterances))
        dims = {name: modality.dim for name, modality in self._inputs.items()}
        features = engine.extract_dialogue(readable, self._needed(readable), dims=dims)
        each = [predict_features(member, [features])[0] for member in self._members]
        probs = scaled(np.concatenate([p for p, _ in each]).mean(axis=0), self._temperature)
        # The gates of the members, by name: a modality that only some members read has the mean over those members.
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
            for i, (utterance, p) in enumerate(zip(readable.utterances, probs, strict=True))
        ]

    def _readable(self, where: str, utterance: Utterance) -> Utterance:
        """Returns an utterance without its targets and without features of a modality that no model reads."""
        for m in utterance.features:
            if m not in MODALITIES:
                raise UserError(f"{where} {utterance.id}: features of '{m}'; expected {', '.join(MODALITIES)}")
            if m in self._sequences:
                raw = "text" if m == "text" else "clip"
                raise UserError(
                    f"{where} {utterance.id}: ready {m} features, but the model reads the frames too, which only the "
                    f"{raw} gives; give that instead, or leave {m} out"
                )
        features = {m: x for m, x in utterance.features.items() if m in self._inputs}
        return replace(utterance, features=features, label=None, sentiment=None)

    def _needed(self, dialogue: Dialogue) -> dict[str, Extractor]:
        """Returns the extractors built so far, and those of modalities that an utterance gives as text or clip."""
        for name, modality in self._inputs.items():
            raw = [u.text if name == "text" else u.clip for u in dialogue.utterances if name not in u.features]
            if any(raw) and name not in self._extractors:
                self._extractors[name] = registry.build(modality.extractor)
        return self._extractors


def predict_features(run: Run, dialogues: Sequence[Features]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns for each dialogue the class probabilities `[S, U, C]` and the gates `[S, U, G]` of every seed.

    Where a seed keeps several epochs, its probabilities and gates are the means over them.
    """
    seeds = len(jax.tree.leaves(run.params)[0])
    # The number of frames is rounded up to one of a few, so that few programs are compiled.
    sequences = {m: (round_up(t), d) for m, (t, d) in longest(dialogues, run.inputs.sequence_dims).items()}
    lengths = [len(d) for d in dialogues]
    flat = flatten(
        dialogues,
        utterances=sum(lengths),
        dims=run.inputs.dims,
        sequences=sequences,
        dtype=run.options.data_dtype,
    )
    widths = (len(run.inputs.labels), len(run.model.gate_names))
    results = [np.zeros((seeds, len(flat.mask), n), np.float32) for n in widths]
    for index in itertools.chain(*evaluation_plan(lengths)):
        found = jax.device_get(steps.predict(run.model, run.params, run.stats, gather(flat, index)))
        for result, x in zip(results, found, strict=True):
            result[:, index] = x
    ends = np.cumsum(lengths)
    return list(zip(*(np.split(result[:, : ends[-1]], ends[:-1], axis=1) for result in results), strict=True))


def joint_calibration(members: Sequence[Run]) -> Calibration:
    """Returns the calibration of one run, or of the vote of several: the geometric mean of their temperatures."""
    if len(members) == 1:
        return members[0].calibration
    logarithms = [np.log(member.calibration.vote) for member in members]
    return Calibration(seeds=(), vote=float(np.exp(np.mean(logarithms))))


def check_members(members: Sequence[Run]) -> None:
    """Checks that runs can vote.

    Raises:
      UserError: they have different labels, or read the same modality from different extractors.
    """
    first = members[0]
    for member in members[1:]:
        paths = f"{member.directory.path} and {first.directory.path}"
        if member.inputs.labels != first.inputs.labels:
            raise UserError(
                f"{paths} have different labels ({', '.join(member.inputs.labels)} and "
                f"{', '.join(first.inputs.labels)}); only runs of one label set can vote"
            )
        for name in member.inputs.modalities.keys() & first.inputs.modalities.keys():
            if member.inputs.modalities[name].fingerprint != first.inputs.modalities[name].fingerprint:
                raise UserError(
                    f"{paths} read {name} from different extractors; only runs trained on the same features can vote"
                )


def _dialogue(utterances: Sequence[Mapping[str, Any]]) -> Dialogue:
    checked = []
    for i, given in enumerate(utterances):
        name = str(given.get("id", f"utt{i}"))
        for key in given:
            if key not in _KEYS:
                raise UserError(f"utterance {name}: unknown field '{key}'; it may have {', '.join(_KEYS)}")
        if "speaker" not in given:
            raise UserError(f"utterance {name}: no speaker; give any name, the same one for all utterances of a person")
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
