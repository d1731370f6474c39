from dataclasses import replace

import numpy as np
import pytest
import tiny

from jmer.batches import bucket_length, collate, evaluation_batches, make_buckets, steps_per_epoch, training_plan


def test_bucket_lengths_have_no_end_and_waste_little():
    lengths = [bucket_length(n) for n in range(1, 2001)]
    assert all(length >= n for n, length in enumerate(lengths, 1))
    assert lengths == sorted(lengths)
    assert sorted(set(lengths))[:9] == [4, 8, 12, 16, 24, 32, 48, 64, 96]
    assert len(set(lengths)) <= 20
    assert max(length / n for n, length in enumerate(lengths, 1) if n > 16) < 1.5


def test_collate_masks_padding_and_absent_modalities():
    first, second = tiny.dialogues([3, 5])
    batch = collate([first, second], dims=tiny.DIMS | {"other": 2}, length=8, rows=3)
    assert batch.mask.sum(axis=1).tolist() == [3, 5, 0]
    np.testing.assert_array_equal(batch.present["audio"][1, :5], second.present["audio"])
    np.testing.assert_array_equal(batch.features["text"][0, :3], first.values["text"])
    assert not batch.present["other"].any()
    assert (batch.label[~batch.mask] == -1).all()
    assert (batch.speaker[~batch.mask] == -1).all()


def test_sequences_are_carried_where_they_are_asked_for_at_the_length_of_the_longest():
    plain, mute = tiny.dialogues([3, 7, 5]), tiny.dialogues([4])[0]
    hidden = replace(mute, present=dict.fromkeys(tiny.DIMS, np.zeros(4, np.bool_)))  # it has frames all the same
    without = replace(mute, sequences={})
    longest = max(len(s) for d in plain for s in d.sequences["audio"])
    long = replace(plain[0], sequences={"audio": tuple(np.ones((longest + 1, 3), np.float16) for _ in range(3))})
    dialogues, options = [*plain, hidden, without], {"dims": tiny.DIMS, "batch_utterances": 32}
    for t, views in ((longest, []), (longest + 1, [[long, *dialogues[1:]]])):
        buckets = make_buckets(dialogues, sequence_dims=tiny.SEQUENCE_DIMS, views=views, **options)
        for bucket in buckets.values():
            data, n = bucket.data, len(bucket.positions)
            assert data.sequences["audio"].shape == (*data.mask.shape, t, 3)
            assert data.sequences["audio"].dtype == np.float16
            assert not data.sequences["audio"][~data.frames["audio"]].any()
            for row, i in zip(range(n), bucket.positions, strict=True):
                frames = data.frames["audio"][row]
                if dialogues[i] in plain:
                    for u, sequence in enumerate(dialogues[i].sequences["audio"]):
                        np.testing.assert_array_equal(data.sequences["audio"][row, u][frames[u]], sequence)
                        assert frames[u].tolist() == [k < len(sequence) for k in range(t)]
                else:
                    assert not frames.any()
    for batch, _ in evaluation_batches(dialogues, sequence_dims=tiny.SEQUENCE_DIMS, **options):
        assert batch.frames["audio"].shape[2] == bucket_length(longest)
    ((batch, _),) = evaluation_batches([without], sequence_dims=tiny.SEQUENCE_DIMS, **options)
    assert not batch.frames["audio"].any()
    plain_buckets = make_buckets(dialogues, **options)
    assert all(b.data.sequences == b.data.frames == {} for b in plain_buckets.values())


def test_speakers_are_numbered_by_who_spoke_first():
    d = tiny.dialogues([6])[0]
    batch = collate([d], dims={}, length=8)
    same = np.array(d.speakers)[:, None] == np.array(d.speakers)
    numbers = batch.speaker[0, :6]
    np.testing.assert_array_equal(numbers[:, None] == numbers, same)
    assert numbers[0] == 0


@pytest.mark.parametrize("budget", [1, 16, 64, 1000])
def test_every_dialogue_comes_once_an_epoch(budget):
    lengths = [3, 9, 4, 30, 8, 1, 2, 9, 9, 17]
    buckets = make_buckets(tiny.dialogues(lengths), dims=tiny.DIMS, batch_utterances=budget)
    plan = training_plan(buckets, seeds=[0, 1], epoch=3)
    assert len(plan) == steps_per_epoch(buckets)
    for seed in range(2):
        seen = []
        for length, rows in plan:
            positions = buckets[length].positions
            seen += [positions[r] for r in rows[seed] if r < len(positions)]
        assert sorted(seen) == list(range(len(lengths)))
    found = [
        p
        for _, positions in evaluation_batches(tiny.dialogues(lengths), dims={}, batch_utterances=budget)
        for p in positions
    ]
    assert sorted(found) == list(range(len(lengths)))


def test_a_seeds_order_does_not_depend_on_its_company_and_changes_with_the_epoch():
    buckets = make_buckets(tiny.dialogues([4] * 20), dims=tiny.DIMS, batch_utterances=8)
    alone = training_plan(buckets, seeds=[5], epoch=2)
    together = training_plan(buckets, seeds=[1, 5, 9], epoch=2)
    for (u, a), (v, b) in zip(alone, together, strict=True):
        assert u == v
        np.testing.assert_array_equal(a[0], b[1])
    other = training_plan(buckets, seeds=[5], epoch=3)
    assert any((a != b).any() for (_, a), (_, b) in zip(alone, other, strict=True))


def test_views_stand_in_for_their_dialogues():
    dialogues, views = tiny.dialogues([4] * 9), [tiny.dialogues([4] * 9, seed=s) for s in (1, 2)]
    bucket = make_buckets(dialogues, dims=tiny.DIMS, batch_utterances=16, views=views)[4]
    for v, source in enumerate([dialogues, *views]):
        for i, d in enumerate(source):
            np.testing.assert_array_equal(bucket.data.features["text"][9 * v + i], d.values["text"])
    assert not bucket.data.mask[-1].any()
    drawn = []
    for epoch in range(60):
        rows = np.concatenate([r[0] for _, r in training_plan({4: bucket}, seeds=[0], epoch=epoch)])
        rows = rows[rows < 27]
        assert sorted(rows % 9) == list(range(9))  # each dialogue once
        drawn += (rows // 9).tolist()
    np.testing.assert_allclose(np.bincount(drawn) / len(drawn), 1 / 3, atol=0.06)


def test_a_weighted_plan_has_whole_batches_and_a_fixed_length():
    dialogues = tiny.dialogues([4] * 13 + [11] * 2)
    weights = np.r_[np.ones(12), 0, 2, 0]
    buckets = make_buckets(dialogues, dims=tiny.DIMS, batch_utterances=16, weights=weights)
    for epoch in range(20):
        plan = training_plan(buckets, seeds=[0, 1], epoch=epoch)
        assert len(plan) == steps_per_epoch(buckets)
        for length, rows in plan:
            assert rows.max() < len(buckets[length].positions)  # no padding rows
            assert (weights[buckets[length].positions[rows]] > 0).all()
    assert min(b.draws for b in buckets.values()) > 0


def test_batches_of_one_bucket_have_one_shape():
    dialogues = tiny.dialogues([4] * 7)
    shapes = {b.mask.shape for b, _ in evaluation_batches(dialogues, dims={}, batch_utterances=16)}
    assert shapes == {(4, 4)}
    ((batch, _),) = evaluation_batches(dialogues[:1], dims={}, batch_utterances=256)
    assert batch.mask.shape == (1, 4)  # a single dialogue is not padded to a full batch
