"""What must hold for the model as a whole."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jmer.batches import collate
from jmer.losses import cross_entropy
from jmer.nn.model import Model
from jmer.types import Batch

DIALOGUES = tiny.dialogues([6, 3, 5])


@pytest.fixture(scope="module")
def variables():
    init = jax.jit(lambda key, data: tiny.model().init(key, data, train=False))
    variables = init(jax.random.key(0), batch(DIALOGUES))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda p: p + jnp.array(rng.normal(size=p.shape) * 0.1, jnp.float32), variables)


def batch(dialogues, *, length=8, rows=None) -> Batch:
    return jax.tree.map(jnp.asarray, collate(dialogues, dims=tiny.DIMS, length=length, rows=rows))


apply = jax.jit(lambda variables, batch: tiny.apply(tiny.model(), variables, batch, train=False))


def logits_of(variables, batch, dialogue=0, length=6):
    return np.asarray(apply(variables, batch).logits[dialogue, :length])


def test_other_dialogues_their_order_and_more_padding_change_nothing(variables):
    alone = logits_of(variables, batch(DIALOGUES[:1]))
    for others in (batch(DIALOGUES), batch(DIALOGUES, length=12), batch(DIALOGUES, rows=5)):
        np.testing.assert_allclose(logits_of(variables, others), alone, atol=1e-5)
    turned = batch(DIALOGUES[::-1])
    np.testing.assert_allclose(logits_of(variables, turned, dialogue=2), alone, atol=1e-5)


def test_what_is_masked_reaches_nothing_not_even_nan(variables):
    clean = batch(DIALOGUES)
    dirty = {m: jnp.where(clean.present[m][..., None], x, jnp.nan) for m, x in clean.features.items()}
    a, b = apply(variables, clean), apply(variables, clean._replace(features=dirty))
    np.testing.assert_array_equal(a.logits, b.logits)  # bit for bit
    np.testing.assert_array_equal(a.gates, b.gates)

    def loss(params, data):
        output = tiny.apply(tiny.model(), variables | {"params": params}, data, train=False)
        return cross_entropy(output.logits, data.label)

    grads = jax.jit(jax.grad(loss))(variables["params"], clean._replace(features=dirty))
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_renaming_speakers_changes_nothing(variables):
    names = {"speaker 0": "Zoe", "speaker 1": "Adam", "speaker 2": "Mia"}
    renamed = [replace(d, speakers=tuple(names[s] for s in d.speakers)) for d in DIALOGUES]
    np.testing.assert_array_equal(apply(variables, batch(renamed)).logits, apply(variables, batch(DIALOGUES)).logits)


def test_who_speaks_matters(variables):
    merged = [replace(d, speakers=("one",) * len(d)) for d in DIALOGUES]
    assert np.abs(logits_of(variables, batch(merged)) - logits_of(variables, batch(DIALOGUES))).max() > 1e-4


@pytest.mark.parametrize("kept", [c for n in range(4) for c in itertools.combinations(tiny.DIMS, n)])
def test_any_subset_of_modalities_gives_finite_outputs(variables, kept):
    full = batch(DIALOGUES)
    present = {m: x if m in kept else jnp.zeros_like(x) for m, x in full.present.items()}
    output = apply(variables, full._replace(present=present))
    assert np.isfinite(output.logits).all()
    absent = [i for i, m in enumerate(tiny.DIMS) if m not in kept]
    assert (np.asarray(output.gates)[..., absent] == 0).all()


def test_every_parameter_learns_and_dropout_is_off_in_evaluation(variables):
    data = batch(DIALOGUES)

    def loss(params, train):
        rngs = {"dropout": jax.random.key(1)} if train else None
        output = tiny.apply(tiny.model(), variables | {"params": params}, data, train=train, rngs=rngs)
        return cross_entropy(output.logits, data.label)

    params = variables["params"]
    value_and_grad = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    (evaluated, grads), (trained, _) = value_and_grad(params, False), value_and_grad(params, True)
    assert evaluated == value_and_grad(params, False)[0] != trained
    for path, g in jax.tree_util.tree_leaves_with_path(grads):
        assert np.abs(g).max() > 0, jax.tree_util.keystr(path)


def test_a_dialogue_of_any_length(variables):
    long = tiny.dialogues([200])
    output = apply(variables, batch(long, length=256))
    assert np.isfinite(output.logits).all()
    np.testing.assert_allclose(output.logits[0, :200], apply(variables, batch(long, length=200)).logits[0], atol=1e-5)


def test_without_graph_weight_utterances_only_meet_in_the_encoder():
    model: Model = tiny.model(graph_weight=0.0)
    data = batch(DIALOGUES)
    variables = jax.jit(lambda key: model.init(key, data, train=False))(jax.random.key(0))
    evaluate = jax.jit(lambda data: tiny.apply(model, variables, data, train=False))
    a, b = evaluate(data), evaluate(data._replace(speaker=jnp.zeros_like(data.speaker)))
    np.testing.assert_array_equal(a.logits, b.logits)
