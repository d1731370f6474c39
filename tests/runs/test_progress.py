"""Which epochs each seed keeps, and when training ends."""

import numpy as np

from jmer.runs.progress import Progress

SCORES = np.array([[0.1, 0.5], [0.3, 0.6], [0.3, 0.4], [0.2, 0.1], [0.4, 0.5], [0.35, 0.9]])  # epoch, seed


def after(scores, *, keep, patience) -> Progress:
    progress = Progress.start(seeds=scores.shape[1], keep=keep)
    for f1 in scores:
        chosen, progress = progress.after_epoch(f1, patience=patience)
        assert (chosen.sum(axis=1) <= 1).all()
        assert [epoch == progress.epoch for kept in progress.best_epoch for epoch in kept] == chosen.ravel().tolist()
    return progress


def test_the_best_epochs_are_kept_seed_by_seed():
    progress = after(SCORES, keep=2, patience=3)
    # Seed 0 keeps the later of equal epochs. Seed 1 last improved in epoch 2, so it stopped looking after epoch 5.
    assert [sorted(kept) for kept in progress.best_epoch] == [[5, 6], [2, 5]]
    assert [sorted(kept) for kept in progress.best_score] == [[0.35, 0.4], [0.5, 0.6]]
    assert progress.improved_epoch == (5, 2)


def test_it_ends_after_the_last_epoch_or_when_no_seed_is_patient():
    progress = after(SCORES[:4], keep=1, patience=9)
    assert progress.improved_epoch == (2, 2)
    for epochs, patience, finished in ((4, 9, True), (5, 9, False), (5, 3, False), (5, 2, True)):
        assert progress.finished(epochs=epochs, patience=patience) is finished
    assert not after(SCORES[:5], keep=1, patience=9).finished(epochs=6, patience=2)  # seed 0 improved in epoch 5


def test_it_is_the_same_after_json():
    progress = after(SCORES, keep=2, patience=3)
    assert Progress.from_json(progress.to_json()) == progress
