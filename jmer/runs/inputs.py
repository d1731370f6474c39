"""What the model of a run reads and which labels it predicts, as `features.json` of the run records both."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jmer.base import forms
from jmer.base.errors import UserError
from jmer.base.forms import at_least
from jmer.base.options import names_in
from jmer.base.types import MODALITIES
from jmer.dataset import store
from jmer.nn.model import Model
from jmer.nn.options import ModelOptions


@dataclass(frozen=True, kw_only=True)
class Modality:
    """One modality that the model reads.

    dim: D of its features.
    extractor: the description from which `jmer.features.registry.build` makes the extractor.
    fingerprint: identifies the extractor and its weights; features of equal fingerprints are interchangeable.
    states: how many hidden states of an encoder the features hold, each D / states wide.
    """

    dim: int
    extractor: Mapping[str, Any]
    fingerprint: str
    states: int = 1

    @classmethod
    def from_json(cls, described: Mapping[str, Any]) -> "Modality":
        """Returns the modality that features.json of a run, or the manifest of a dataset, describes."""
        names = ("dim", "extractor", "fingerprint")
        return cls(**{name: described[name] for name in names}, states=described.get("states", 1))


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The inputs and labels of a run.

    labels: the label names; a class is its label's position.
    dataset_fingerprint: identifies the data that the run was trained on.
    modalities: the modalities that the model reads, in the standard order.
    sequence_dims: modality -> D', for the modalities whose sequences the model also reads.
    """

    labels: tuple[str, ...]
    dataset_fingerprint: str
    modalities: Mapping[str, Modality]
    sequence_dims: Mapping[str, int]

    @property
    def dims(self) -> dict[str, int]:
        """Modality -> D, for the modalities that the model reads."""
        return {name: modality.dim for name, modality in self.modalities.items()}

    def to_json(self) -> dict[str, Any]:
        """Returns the inputs as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, described: Mapping[str, Any]) -> "Inputs":
        """Returns the inputs that `to_json`, of this version of jmer or an earlier one, described.

        Raises:
          UserError: the description has another form.
        """
        if fault := forms.fault(described, _FORM) or _disagreement(described):
            raise UserError(fault)
        return cls(
            labels=tuple(described["labels"]),
            dataset_fingerprint=described["dataset_fingerprint"],
            modalities={name: Modality.from_json(each) for name, each in described["modalities"].items()},
            sequence_dims=described["sequence_dims"],
        )

    def changes_from(self, old: "Inputs") -> tuple[str, ...]:
        """Compares these inputs of a call with those of the run; every difference is to be refused.

        An extractor's description may differ where its fingerprint is the same, because an encoder's directory may
        move.
        """
        found = []
        was, now = old.dataset_fingerprint, self.dataset_fingerprint
        if was != now:
            found.append(f"the dataset's fingerprint was {was[:12]}, is {now[:12]}")
        if old.labels != self.labels:
            found.append(f"the labels were {', '.join(old.labels)}, are {', '.join(self.labels)}")
        if list(old.modalities) != list(self.modalities):
            found.append(f"config.modalities was {','.join(old.modalities)}, is {','.join(self.modalities)}")
        for name in [m for m in old.modalities if m in self.modalities]:
            was, now = old.modalities[name], self.modalities[name]
            if (was.dim, was.fingerprint) != (now.dim, now.fingerprint):
                found.append(
                    f"the {name} extractor was {was.fingerprint[:12]} of {was.dim} features, is {now.fingerprint[:12]} "
                    f"of {now.dim}"
                )
        if dict(old.sequence_dims) != dict(self.sequence_dims):
            found.append(f"the sequences had dims {dict(old.sequence_dims)}, have {dict(self.sequence_dims)}")
        return tuple(found)


_NUMBER = at_least(1, 1 << 24)
_FORM = {
    "labels": [str],
    "dataset_fingerprint": str,
    "modalities": {str: {"dim": _NUMBER, "extractor": dict, "fingerprint": str, "states?": _NUMBER}},
    "sequence_dims": {str: _NUMBER},
}


def _disagreement(described: Mapping[str, Any]) -> str:
    """Returns which entries of a description contradict each other; empty if none do."""
    labels, modalities = described["labels"], described["modalities"]
    if not labels or len(set(labels)) < len(labels):
        return f"labels are {forms.shown(labels)}, and no set of names"
    if not modalities or not set(MODALITIES).issuperset(modalities):
        return f"modalities are {forms.shown(list(modalities))}; expected some of {', '.join(MODALITIES)}"
    if not set(modalities).issuperset(described["sequence_dims"]):
        return f"sequence_dims has {forms.shown(list(described['sequence_dims']))}"
    if wrong := [name for name, each in modalities.items() if each["dim"] % each.get("states", 1)]:
        return f"modalities.{wrong[0]} has {modalities[wrong[0]]['states']} states in {modalities[wrong[0]]['dim']}"
    return ""


def model_of(options: ModelOptions, inputs: Inputs) -> Model:
    """Returns the model that the options describe, for these inputs and labels."""
    return Model(
        options=options,
        dims=tuple(inputs.dims.items()),
        sequence_dims=tuple(inputs.sequence_dims.items()),
        labels=inputs.labels,
        states=tuple((name, modality.states) for name, modality in inputs.modalities.items() if modality.states > 1),
    )


def inputs_of(dataset: store.Dataset, *, modalities: str, sequences: str) -> Inputs:
    """Returns what a model reads of a dataset.

    Args:
      modalities: the option `modalities`: comma-separated names, empty for every modality of the dataset.
      sequences: the option `sequences`: comma-separated names of the modalities whose sequences are also read.

    Raises:
      UserError: the dataset lacks one of the modalities, or holds no modality at all.
    """
    asked = _modalities(dataset, names_in(modalities))
    return Inputs(
        labels=dataset.labels,
        dataset_fingerprint=dataset.fingerprint,
        modalities={m: Modality.from_json(dataset.manifest["modalities"][m]) for m in asked},
        sequence_dims={m: dim for m, dim in dataset.sequence_dims.items() if m in names_in(sequences)},
    )


def _modalities(dataset: store.Dataset, asked: Sequence[str]) -> list[str]:
    """Returns the modalities to train on, in the standard order."""
    for m in asked:
        if m not in dataset.dims:
            reason = dataset.manifest["modalities"][m]["reason"]
            raise UserError(
                f"config.modalities: {dataset.path} has no {m} ({reason}); it has {', '.join(dataset.dims)}"
            )
    if not dataset.dims:
        raise UserError(f"{dataset.path} holds no modality at all; its {store.MANIFEST} says why, row by row")
    return [m for m in MODALITIES if m in (asked or dataset.dims)]
