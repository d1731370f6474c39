from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
import tiny

from jmer.dataset.flat import flatten, gather, longest
from jmer.dataset.plan import Plan, evaluation_plan, layouts, round_up

# How many of MELD's 1,038 dialogues of train have 1, 2, ... 24 utterances.
MELD = (70, 60, 54, 48, 67, 61, 74, 67, 50, 57, 55, 54, 36, 41, 43, 51, 30, 28, 27, 20, 20, 13, 7, 5)
LENGTHS = [3, 9, 4, 30, 8, 1, 2, 9, 9, 17, 200, 33]


def dialogues_in(index: Iterable[np.ndarray], lengths: list[int], *, padding: int) -> list[int]:
    """Which dialogues the rows of `[B, U]` hold, each whole and in order; the rest of a row must be padding."""
    starts, found = {int(end - n): i for i, (n, end) in enumerate(zip(lengths, np.cumsum(lengths), strict=True))}, []
    for row in index:
        column = 0
        while column < len(row) and row[column] < padding:
            i = starts[int(row[column])]
            np.testing.assert_array_equal(row[column : column + lengths[i]], row[column] + np.arange(lengths[i]))
            found.append(i)
            column += lengths[i]
        assert (row[column:] == padding).all()
    return found


def test_widths_have_no_end_and_waste_little():
    widths = [round_up(n) for n in range(1, 2001)]
    assert all(width >= n for n, width in enumerate(widths, 1))
    assert widths == sorted(widths)
    assert sorted(set(widths))[:9] == [4, 8, 12, 16, 24, 32, 48, 64, 96]
    assert len(set(widths)) <= 20
    assert max(width / n for n, width in enumerate(widths, 1) if n > 16) < 1.5


@pytest.mark.parametrize("budget", [64, 256, 1024])
def test_melds_lengths_need_one_shape_and_little_padding(budget):
    lengths = np.repeat(np.arange(1, 25), MELD)
    (layout,) = layouts(lengths, batch_utterances=budget)
    assert layout.width == 24
    assert layout.steps * layout.rows * layout.width < 1.05 * lengths.sum()
    assert layout.rows * layout.width <= budget


def test_one_long_dialogue_does_not_make_all_rows_long():
    widths = [layout.width for layout in layouts([5, 30, 100, 9, 1000], batch_utterances=64)]
    assert widths == [32, 128, 1024]


def test_flat_arrays_hold_everything_and_mask_what_is_absent():
    first, second = tiny.dialogues([3, 5])
    flat = flatten([first, second], utterances=8, dims=tiny.DIMS | {"other": 2}, sequences={})
    assert flat.mask.tolist() == [True] * 8 + [False]
    assert np.flatnonzero(flat.first).tolist() == [0, 3]
    np.testing.assert_array_equal(flat.present["audio"][3:8], second.present["audio"])
    np.testing.assert_array_equal(flat.features["text"][:3], first.values["text"])
    assert not flat.present["other"].any()
    assert (flat.label[-1], flat.speaker[-1], flat.sentiment[-1]) == (-1, -1, -1)
    batch = gather(flat, np.array([[3, 4, 8], [0, 8, 8]]))
    assert batch.mask.tolist() == [[True, True, False], [True, False, False]]
    np.testing.assert_array_equal(batch.label[0, :2], second.labels[:2])


def test_sequences_are_carried_at_the_length_of_the_longest():
    plain, mute = tiny.dialogues([3, 7, 5]), tiny.dialogues([4])[0]
    hidden = replace(mute, present=dict.fromkeys(tiny.DIMS, np.zeros(4, np.bool_)))  # it has frames all the same
    without = replace(mute, sequences={})
    dialogues = [*plain, hidden, without]
    sequences = longest(dialogues, tiny.SEQUENCE_DIMS)
    t = max(len(s) for d in dialogues for s in d.sequences.get("audio", ()))
    assert sequences == {"audio": (t, 3)}
    assert longest([without], tiny.SEQUENCE_DIMS) == {"audio": (1, 3)}
    flat = flatten(dialogues, utterances=23, dims=tiny.DIMS, sequences=sequences)
    frames = flat.frame_mask["audio"]
    assert flat.sequences["audio"].shape == (len(flat.mask), t, 3)
    assert flat.sequences["audio"].dtype == np.float16
    assert not flat.sequences["audio"][~frames].any()
    for u, sequence in enumerate(s for d in plain for s in d.sequences["audio"]):
        np.testing.assert_array_equal(flat.sequences["audio"][u][frames[u]], sequence)
        assert frames[u].tolist() == [k < len(sequence) for k in range(t)]
    assert not frames[15:].any()
    plain_flat = flatten(dialogues, utterances=23, dims=tiny.DIMS, sequences={})
    assert plain_flat.sequences == plain_flat.frame_mask == {}


def test_speakers_are_numbered_by_who_spoke_first():
    d = tiny.dialogues([6])[0]
    same = np.array(d.speakers)[:, None] == np.array(d.speakers)
    numbers = flatten([d], utterances=6, dims={}, sequences={}).speaker[:6]
    np.testing.assert_array_equal(numbers[:, None] == numbers, same)
    assert numbers[0] == 0


@pytest.mark.parametrize("budget", [1, 16, 64, 1000])
def test_every_dialogue_comes_once(budget):
    plan, n = Plan(LENGTHS, batch_utterances=budget), sum(LENGTHS)
    pieces = plan.epoch(3, seeds=[0, 1])
    assert sum(map(len, pieces)) == plan.steps
    for seed in range(2):
        rows = [row for piece in pieces for step in piece for row in step[seed]]
        assert sorted(dialogues_in(rows, LENGTHS, padding=n)) == list(range(len(LENGTHS)))
    rows = [row for piece in evaluation_plan(LENGTHS, batch_utterances=budget) for step in piece for row in step]
    assert sorted(dialogues_in(rows, LENGTHS, padding=n)) == list(range(len(LENGTHS)))


def test_a_seeds_order_does_not_depend_on_its_company_and_changes_with_the_epoch():
    plan = Plan([4] * 20 + [40] * 3, batch_utterances=8)
    alone, together = plan.epoch(2, seeds=[5]), plan.epoch(2, seeds=[1, 5, 9])
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a[:, 0], b[:, 1])
    assert len({index.shape[-1] for index in alone[:7]}) == 2  # the widths come mixed
    other = Plan([4] * 20, batch_utterances=8)
    assert (other.epoch(2, seeds=[5])[0] != other.epoch(3, seeds=[5])[0]).any()


def test_views_stand_in_for_their_dialogues():
    plan, drawn = Plan([4] * 9, batch_utterances=16, views=2), []
    for epoch in range(60):
        (index,) = plan.epoch(epoch, seeds=[0])
        dialogues = dialogues_in(index.reshape(-1, 4), [4] * 27, padding=108)
        assert sorted(i % 9 for i in dialogues) == list(range(9))  # each dialogue once
        drawn += [i // 9 for i in dialogues]
    np.testing.assert_allclose(np.bincount(drawn) / len(drawn), 1 / 3, atol=0.06)


def test_a_weighted_plan_draws_by_the_weights():
    lengths, weights = [4] * 13 + [11] * 2, np.r_[np.ones(12), 0, 2, 0]
    plan, drawn, epochs = Plan(lengths, batch_utterances=16, weights=weights), np.zeros(15), 200
    for epoch in range(epochs):
        pieces = plan.epoch(epoch, seeds=[0, 1])
        assert sum(map(len, pieces)) == plan.steps
        rows = [row for piece in pieces for step in piece for row in step[1]]
        drawn += np.bincount(dialogues_in(rows, lengths, padding=74), minlength=15)
    assert (drawn[weights == 0] == 0).all()
    np.testing.assert_allclose(drawn / epochs, plan.expected_draws(), atol=0.3)
    np.testing.assert_allclose(plan.expected_draws() / 15, weights / weights.sum(), atol=0.02)


def test_a_single_dialogue_is_not_padded_to_a_full_batch():
    (index,) = evaluation_plan([4], batch_utterances=256)
    assert index.shape == (1, 1, 4)
    shapes = {i.shape for i in evaluation_plan([4] * 7, batch_utterances=16)}
    assert shapes == {(2, 4, 4)}


def test_dialogues_without_utterances_have_no_slot():
    for lengths in ([0, 3, 0, 2, 0], [0, 0]):
        index = np.concatenate([batch.reshape(-1) for batch in evaluation_plan(lengths)] or [np.zeros(0)])
        assert sorted(index[index < sum(lengths)]) == list(range(sum(lengths)))
