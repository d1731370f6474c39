"""Features that are not finite never enter an array that other dialogues share."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
import tiny

from jmer.base.errors import UserError
from jmer.dataset.flat import flatten, head, pick


def flat_of(dialogues, *, sequences: Mapping[str, tuple[int, int]] = MappingProxyType({}), dtype: str = "float32"):
    utterances = sum(map(len, dialogues))
    return flatten(dialogues, utterances=utterances, dims=tiny.DIMS, sequences=sequences, dtype=dtype)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_feature_that_is_not_finite_is_refused_by_name(value):
    first, second = tiny.dialogues([3, 4])
    values = {m: x.copy() for m, x in second.values.items()}
    values["text"][2, 1] = value
    with pytest.raises(UserError, match=r"dialogue d1, utterance d1_utt2: the text features hold NaN or infinity"):
        flat_of([first, replace(second, values=values)])
    absent = {m: x.copy() for m, x in second.present.items()}
    absent["text"][2] = False  # nothing that stands where a modality is absent matters
    flat = flat_of([first, replace(second, values=values, present=absent)])
    assert np.isfinite(flat.features["text"]).all()


def test_a_feature_that_overflows_in_bfloat16_is_refused():
    (dialogue,) = tiny.dialogues([2])
    values = {**dialogue.values, "text": np.full((2, 6), 3.4e38, np.float32)}
    with pytest.raises(UserError, match="hold NaN or infinity"):
        flat_of([replace(dialogue, values=values)], dtype="bfloat16")


def test_a_frame_that_is_not_finite_is_refused():
    (dialogue,) = tiny.dialogues([4])
    spoken = int(np.flatnonzero(dialogue.present["audio"])[0])
    sequences = list(dialogue.sequences["audio"])
    sequences[spoken] = np.full((2, 3), np.nan, np.float16)
    with pytest.raises(UserError, match=f"d0_utt{spoken}: the audio features hold NaN"):
        flat_of([replace(dialogue, sequences={"audio": tuple(sequences)})], sequences={"audio": (6, 3)})


def test_parts_of_a_split_are_its_utterances():
    flat = flat_of(tiny.dialogues([3, 4]))
    np.testing.assert_array_equal(head(flat, 3).label, flat.label[:3])
    np.testing.assert_array_equal(pick(flat, np.array([5, 1])).features["text"], flat.features["text"][[5, 1]])
