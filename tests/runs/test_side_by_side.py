"""Settings that train side by side in one program end as each alone does."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import tiny

import jmer
from jmer.base.options import fields, from_config, replaced
from jmer.dataset import store
from jmer.runs import directory
from jmer.runs.prepared import prepare, run_epoch
from jmer.runs.side_by_side import SideBySide
from jmer.training import steps
from jmer.training.devices import put
from jmer.training.options import TrainOptions

pytestmark = pytest.mark.usefixtures("optax_promotion")

# Two values of every traced option.
VALUES = {
    "branch_loss": (0.3, 0.5), "clip_norm": (1.0, 0.5), "consistency.confidence": (0.1, 0.2),
    "consistency.temperature": (0.5, 0.6), "consistency.weight": (0.5, 1.0), "contrastive.temperature": (0.1, 0.2),
    "contrastive.weight": (0.1, 0.2), "drop_edge": (0.1, 0.2), "drop_node": (0.1, 0.3), "dropout": (0.4, 0.2),
    "feature_noise": (0.1, 0.2), "focal_gamma": (1.0, 2.0), "l2": (0.01, 0.1), "label_smoothing": (0.1, 0.2),
    "logit_adjustment": (0.5, 1.0), "lr": (1e-3, 3e-3), "mixup": (0.2, 0.4), "modality_dropout": (0.1, 0.2),
    "sentiment": (0.1, 0.2), "weight_decay": (0.01, 0.1),
}  # fmt: skip


@pytest.fixture
def options(tiny_dataset) -> TrainOptions:
    made = from_config(TrainOptions, tiny.config(tiny_dataset, seeds=1, fusion="hybrid", encoder="none", graph="rgcn"))
    return replaced(made, {"consistency.passes": 2})


def test_every_traced_option_is_tried_here():
    assert {name for name, _, field in fields(TrainOptions()) if field.traced} == set(VALUES)


def test_all_traced_options_mean_what_they_mean_as_constants(options: TrainOptions, tiny_dataset, tmp_path):
    """Their values differ between the two settings, and the parameters of the second become those of it alone."""
    dataset = store.load(tiny_dataset)
    settings = [replaced(options, {name: pair[i] for name, pair in VALUES.items()}) for i in (0, 1)]

    def parameters(trained, seeds, data, train_epoch):
        state = put(steps.init_state(trained.model, trained.optimizer, seeds=seeds), data.placement.state)
        for number in (1, 2, 3):
            state, found = run_epoch(data, train_epoch, trained.model, state, number=number, seeds=seeds)
        return jax.device_get(state.params), found.loss

    both = prepare(options, dataset, seeds=2, folder=tmp_path)
    values = put({name: np.array(pair, np.float32) for name, pair in VALUES.items()}, both.placement.state)
    swept = steps.make_sweep_epoch(lambda own: both.trained(replaced(options, own)), both.placement)
    found, losses = parameters(
        both.trained(settings[0]), [0, 0], both, lambda state, *rest: swept(state, values, *rest)
    )
    assert losses[0] != losses[1]
    alone = prepare(options, dataset, seeds=1, folder=tmp_path)
    trained = alone.trained(settings[1])
    expected, loss = parameters(trained, [0], alone, steps.make_train_epoch(*trained, alone.placement))
    np.testing.assert_allclose(losses[1], loss[0], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b[0], atol=2e-5), found, expected)


def test_scores_and_epochs_are_those_of_a_run(options: TrainOptions, tiny_dataset, tmp_path):
    base = replace(options, seeds=2, epochs=6, patience=2, graph="none", fusion="late")
    settings = [replace(base, lr=lr, dropout=dropout) for lr, dropout in ((1e-3, 0.2), (0.1, 0.5), (0.03, 0.1))]
    beside = SideBySide(store.load(tiny_dataset), traced=("lr", "dropout"), width=2, folder=tmp_path)
    outcomes = [*beside.train(settings[:2]), *beside.train(settings[2:])]
    for i, (setting, outcome) in enumerate(zip(settings, outcomes, strict=True)):
        given = {name: value for name, value, _ in fields(setting) if name != "dataset"}
        tiny.train(tiny_dataset, tmp_path / f"{i}", **given)
        run = directory.load(tmp_path / f"{i}")
        assert outcome.epochs == tuple(epoch for (epoch,) in run.progress.best_epoch)
        assert outcome.weighted_f1 == pytest.approx([score for (score,) in run.progress.best_score])
        assert not outcome.diverged
    assert len({outcome.epochs for outcome in outcomes}) > 1


def test_a_setting_that_diverges_does_not_touch_the_others(options: TrainOptions, tiny_dataset, tmp_path):
    beside = SideBySide(store.load(tiny_dataset), traced=("lr",), width=3, folder=tmp_path)
    good, bad = replace(options, lr=0.01), replace(options, lr=3e38)
    first, diverged, last = beside.train([good, bad, good])
    assert diverged.diverged
    assert first == last == beside.train([good])[0]
    assert not first.diverged


def test_settings_of_two_shapes_are_refused(options: TrainOptions, tiny_dataset, tmp_path):
    beside = SideBySide(store.load(tiny_dataset), traced=("lr",), width=2, folder=tmp_path)
    with pytest.raises(ValueError, match="more than one shape"):
        beside.train([options, replace(options, hidden=16)])
    with pytest.raises(jmer.UserError, match="joins modalities with each other"):
        beside.train([replace(options, modalities="text", co_attention=True)])
