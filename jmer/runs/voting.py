"""Trained runs that answer for dialogues of features, alone or by a vote."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np
from jaxtyping import Float

from jmer.base.errors import UserError
from jmer.base.types import Features, FlatSplit
from jmer.dataset import store
from jmer.dataset.flat import flatten, gather, longest
from jmer.dataset.plan import evaluation_plan, round_up
from jmer.encoders import hub
from jmer.features import registry
from jmer.features.extractor import Extractor
from jmer.runs.directory import Calibration, Run
from jmer.runs.inputs import Modality
from jmer.runs.streaming import Listener
from jmer.training import steps
from jmer.training.calibration import scaled


@dataclass(frozen=True)
class Opinion:
    """What a model says of a dialogue.

    probs: `[U, C]`, the probability of each label.
    shares: modality -> `[U]`, its share in the answer.
    """

    probs: Float[np.ndarray, "U C"]
    shares: Mapping[str, Float[np.ndarray, " U"]]


class Voters:
    """Runs whose seeds vote, or the first seed of one run.

    labels: the label names, in the order of the classes.
    inputs: what is read, by modality.
    sequences: the modalities of which the frames are read too.
    """

    def __init__(self, members: Sequence[Run], *, vote: bool):
        """Makes a model of runs.

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
        self.labels = members[0].inputs.labels
        self.inputs: dict[str, Modality] = {n: m for member in members for n, m in member.inputs.modalities.items()}
        self.sequences = {name for member in members for name in member.inputs.sequence_dims}

    def build(self, modality: str) -> Extractor:
        """Returns the extractor of a modality. Raises UserError where it cannot be made as it was recorded."""
        file = next(m.directory.features for m in self._members if m.inputs.modalities.get(modality))
        with hub.named_by(file):
            try:
                return registry.build(self.inputs[modality].extractor)
            except UserError as error:
                raise UserError(f"{file}: {error}") from error

    def check(self, dataset: store.Dataset) -> None:
        """Checks that a dataset holds the features that each run reads, by `check_features`."""
        for member in self._members:
            check_features(member, dataset)

    def answer(self, dialogues: Sequence[Features]) -> list[Opinion]:
        """Returns the opinion on each dialogue."""
        if not dialogues:
            return []
        each = [predict_features(member, dialogues) for member in self._members]
        return [self._joined([of[i] for of in each]) for i in range(len(dialogues))]

    def attention(self, dialogue: Features) -> Float[np.ndarray, "U U"] | None:
        """Returns how much each utterance attends to each one in the graphs of the runs; None if no run has a GAT."""
        found = [attention_of(member, dialogue) for member in self._members if "gat" in member.options.graph_layers]
        return np.mean(found, axis=0) if found else None

    def begin(self) -> Callable[[Features, int], Opinion]:
        """Returns a function that is called with each utterance of one dialogue and the number of its speaker there.

        Raises:
          UserError: a member looks at later utterances, or at all earlier ones.
        """
        listeners = [(member, Listener(member)) for member in self._members]

        def answer(utterance: Features, speaker: int) -> Opinion:
            found = []
            for member, listener in listeners:
                batch = gather(_flat(member, [utterance]), np.zeros((1, 1), np.int32))
                found.append(listener.answer(batch._replace(speaker=np.full((1, 1), speaker, np.int32))))
            return self._joined(found)

        return answer

    def _joined(self, found: Sequence[tuple[np.ndarray, np.ndarray]]) -> Opinion:
        """Returns the vote, of the probabilities and the gates of each member."""
        # A modality that only some members read has the mean share over those members.
        gates: dict[str, list[np.ndarray]] = {}
        for member, (_, gate) in zip(self._members, found, strict=True):
            for i, name in enumerate(member.model.gate_names):
                gates.setdefault(name, []).extend(gate[..., i])
        return Opinion(
            probs=scaled(np.concatenate([probs for probs, _ in found]).mean(axis=0), self._temperature),
            shares={name: np.mean(shares, axis=0) for name, shares in gates.items()},
        )


def predict_features(run: Run, dialogues: Sequence[Features]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns for each dialogue the class probabilities `[S, U, C]` and the gates `[S, U, G]` of every seed.

    Where a seed keeps several epochs, its probabilities and gates are the means over them.
    """
    seeds = len(jax.tree.leaves(run.params)[0])
    lengths, flat = [len(d) for d in dialogues], _flat(run, dialogues)
    widths = (len(run.inputs.labels), len(run.model.gate_names))
    results = [np.zeros((seeds, len(flat.mask), n), np.float32) for n in widths]
    for index in itertools.chain(*evaluation_plan(lengths)):
        found = jax.device_get(steps.predict(run.model, run.params, run.stats, gather(flat, index)))
        for result, x in zip(results, found, strict=True):
            result[:, index] = x
    ends = np.cumsum(lengths)
    return list(zip(*(np.split(result[:, : ends[-1]], ends[:-1], axis=1) for result in results), strict=True))


def _flat(run: Run, dialogues: Sequence[Features]) -> FlatSplit:
    """Returns the dialogues as a run reads them."""
    # The number of frames is rounded up to one of a few, so that few programs are compiled.
    sequences = {m: (round_up(t), d) for m, (t, d) in longest(dialogues, run.inputs.sequence_dims).items()}
    return flatten(
        dialogues,
        utterances=sum(map(len, dialogues)),
        dims=run.inputs.dims,
        sequences=sequences,
        dtype=run.options.data_dtype,
    )


def attention_of(run: Run, dialogue: Features) -> Float[np.ndarray, "U U"]:
    """Returns how much each utterance of a dialogue attends to each one, by `jmer.training.steps.attention`."""
    count = len(dialogue)
    ((index,),) = evaluation_plan([count])
    batch = gather(_flat(run, [dialogue]), index)
    return np.asarray(steps.attention(run.model, run.params, run.stats, batch))[0, :count, :count]


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


def check_features(run: Run, dataset: store.Dataset) -> None:
    """Checks that a dataset holds features of the extractors that a run reads, unless a modality is absent.

    Raises:
      UserError: the features of a modality come from another extractor.
    """
    for name, expected in run.inputs.modalities.items():
        found = dataset.manifest["modalities"][name]
        if found["dim"] and found["fingerprint"] != expected.fingerprint:
            raise UserError(
                f"{dataset.path}: its {name} features come from another extractor ({found['extractor']}) than "
                f"those of {run.directory.path} ({expected.extractor}); extract again with the run's extractor"
            )
