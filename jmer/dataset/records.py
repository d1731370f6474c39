"""A dialogue as a record of TFDS: its layout, and both ways between `Features` and a record's example."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jmer.base.errors import UserError
from jmer.base.labels import SENTIMENTS
from jmer.base.types import UNLABELLED, Features


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
        example["sequences"] = {
            m: np.concatenate([np.zeros((0, d), np.float16), *dialogue.sequences[m]]) for m, d in sequence_dims.items()
        }
        example["sequence_lengths"] = {
            m: np.array([len(sequence) for sequence in dialogue.sequences[m]], np.int32) for m in sequence_dims
        }
    return example


def from_example(example: Mapping[str, Any], dims: Mapping[str, int], sequence_dims: Mapping[str, int]) -> Features:
    """Returns the dialogue of an example; arguments as for `layout`, or fewer modalities to leave the others out."""

    def strings(key: str) -> tuple[str, ...]:
        return tuple(s.decode() for s in example[key])

    def parts(modality: str) -> tuple[np.ndarray, ...]:
        frames, lengths = example["sequences"][modality], example["sequence_lengths"][modality]
        if lengths.min(initial=0) < 0 or lengths.sum() != len(frames):
            raise ValueError(f"the lengths of the sequences of {modality} are not those of its {len(frames)} frames")
        return tuple(np.split(frames, np.cumsum(lengths)[:-1])) if len(lengths) else ()

    return Features(
        dialogue_id=example["dialogue_id"].decode(),
        utterance_ids=strings("utterance_ids"),
        speakers=strings("speakers"),
        texts=strings("texts"),
        labels=example["labels"],
        sentiments=example["sentiments"],
        values={m: example["values"][m] for m in dims},
        present={m: example["present"][m] for m in dims},
        sequences={m: parts(m) for m in sequence_dims},
    )


class Shard:
    """The records of one split, which a stranger may have written."""

    def __init__(
        self,
        file: Path,
        *,
        dims: Mapping[str, int],
        sequence_dims: Mapping[str, int],
        wanted: tuple[Mapping[str, int], Mapping[str, int]],
        classes: int,
    ):
        """Opens a file.

        Args:
          dims, sequence_dims: those of the layout.
          wanted: those of them that are read.
          classes: C, the number of labels.

        Raises:
          UserError: the file holds no records.
        """
        from array_record.python.array_record_module import ArrayRecordReader

        self._file, self._wanted, self._classes = file, wanted, classes
        self._layout = layout(dims, sequence_dims)
        try:
            # Without these options, the reader would fill a buffer of 16 MB and start threads.
            options = "readahead_buffer_size:0,max_parallelism:0"
            self._reader = ArrayRecordReader(str(file), options, file_reader_buffer_size=32_768)
            self._size = self._reader.num_records()
        except Exception as error:  # the reader in C++ raises exceptions of several kinds
            raise self._damage("", str(error)) from error

    def __getitem__(self, number: int) -> Features:
        """Returns a dialogue, checked."""
        try:
            (record,) = self._reader.read([number])
            found = from_example(self._layout.deserialize_example_np(record), *self._wanted)
        except Exception as error:  # the reader and TFDS raise exceptions of many kinds
            raise self._damage(f" {number}", str(error) or type(error).__name__) from error
        if fault := disagreement(found, classes=self._classes):
            raise self._damage(f" {number}", fault)
        return found

    def all(self, *, dialogues: int, utterances: int) -> Iterator[Features]:
        """Yields all dialogues, of which there must be as many as the manifest says."""
        if self._size != dialogues:
            raise self._damage("s", f"there are {self._size}, and the manifest says {dialogues}")
        count = 0
        for number in range(dialogues):
            dialogue = self[number]
            count += len(dialogue)
            if count > utterances:
                break
            yield dialogue
        if count != utterances:
            raise self._damage("s", f"they do not hold the {utterances} utterances that the manifest says")

    def _damage(self, which: str, fault: str) -> UserError:
        line = next(iter(fault.strip().splitlines()), "it is empty")[:200]
        return UserError(
            f"{self._file}: the record{which} cannot be used ({line}); run jmer.extract again, or get the dataset anew"
        )


def disagreement(dialogue: Features, *, classes: int) -> str:
    """Returns which parts of a dialogue do not fit together; empty if all do."""
    count = len(dialogue)
    parts = {"speakers": dialogue.speakers, "texts": dialogue.texts, "labels": dialogue.labels}
    parts |= {"sentiments": dialogue.sentiments}
    for kind, of in (("values", dialogue.values), ("present", dialogue.present), ("sequences", dialogue.sequences)):
        parts |= {f"{kind} of {m}": x for m, x in of.items()}
    if wrong := [name for name, part in parts.items() if len(part) != count]:
        return f"it has {count} utterances and {len(parts[wrong[0]])} {wrong[0]}"
    for name, numbers, most in (
        ("label", dialogue.labels, classes),
        ("sentiment", dialogue.sentiments, len(SENTIMENTS)),
    ):
        if count and not (numbers.min() >= UNLABELLED and numbers.max() < most):
            return f"it has the {name}s {numbers.min()} to {numbers.max()}, and there are {most}"
    return ""
