"""A dialogue as a record of TFDS: its layout, and both ways between `Features` and a record's example."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jmer.base.types import Features


def layout(dims: Mapping[str, int], sequence_dims: Mapping[str, int]) -> Any:
    """Returns the `tfds.features.FeaturesDict` of a record.

    TFDS has no ragged arrays. The sequences of a dialogue's utterances therefore lie end to end, beside their lengths.

    Args:
      dims: modality -> D.
      sequence_dims: modality -> D', of the modalities whose sequences are kept.
    """
    import tensorflow_datasets as tfds

    strings = tfds.features.Tensor(shape=(None,), dtype=np.object_)
    spec: dict[str, Any] = {
        "dialogue_id": tfds.features.Text(),
        "utterance_ids": strings,
        "speakers": strings,
        "texts": strings,
        "labels": tfds.features.Tensor(shape=(None,), dtype=np.int32),
        "sentiments": tfds.features.Tensor(shape=(None,), dtype=np.int32),
        "values": {m: tfds.features.Tensor(shape=(None, d), dtype=np.float32) for m, d in dims.items()},
        "present": {m: tfds.features.Tensor(shape=(None,), dtype=np.bool_) for m in dims},
    }
    if sequence_dims:
        spec["sequences"] = {
            m: tfds.features.Tensor(shape=(None, d), dtype=np.float16) for m, d in sequence_dims.items()
        }
        spec["sequence_lengths"] = {m: tfds.features.Tensor(shape=(None,), dtype=np.int32) for m in sequence_dims}
    return tfds.features.FeaturesDict(spec)


def to_example(dialogue: Features, dims: Mapping[str, int], sequence_dims: Mapping[str, int]) -> dict[str, Any]:
    """Returns a dialogue's example; arguments as for `layout`."""
    example: dict[str, Any] = {
        "dialogue_id": dialogue.dialogue_id,
        "utterance_ids": np.array(dialogue.utterance_ids, np.object_),
        "speakers": np.array(dialogue.speakers, np.object_),
        "texts": np.array(dialogue.texts, np.object_),
        "labels": np.asarray(dialogue.labels, np.int32),
        "sentiments": np.asarray(dialogue.sentiments, np.int32),
        "values": {m: np.asarray(dialogue.values[m], np.float32) for m in dims},
        "present": {m: np.asarray(dialogue.present[m], np.bool_) for m in dims},
    }
    if sequence_dims:
        example["sequences"] = {m: np.concatenate(dialogue.sequences[m]) for m in sequence_dims}
        example["sequence_lengths"] = {
            m: np.array([len(sequence) for sequence in dialogue.sequences[m]], np.int32) for m in sequence_dims
        }
    return example


def from_example(example: Mapping[str, Any], dims: Mapping[str, int], sequence_dims: Mapping[str, int]) -> Features:
    """Returns the dialogue of an example; arguments as for `layout`, or fewer modalities to leave the others out."""

    def strings(key: str) -> tuple[str, ...]:
        return tuple(s.decode() for s in example[key])

    return Features(
        dialogue_id=example["dialogue_id"].decode(),
        utterance_ids=strings("utterance_ids"),
        speakers=strings("speakers"),
        texts=strings("texts"),
        labels=example["labels"],
        sentiments=example["sentiments"],
        values={m: example["values"][m] for m in dims},
        present={m: example["present"][m] for m in dims},
        sequences={
            m: tuple(np.split(example["sequences"][m], np.cumsum(example["sequence_lengths"][m])[:-1]))
            for m in sequence_dims
        },
    )
