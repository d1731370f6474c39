"""Compiled steps: exact float32 everywhere, and numbers that are not finite are noticed."""

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jmer.dataset.flat import flatten
from jmer.dataset.plan import Plan, evaluation_plan
from jmer.training import steps
from jmer.training.devices import Placement
from jmer.training.objective import Objective
from jmer.training.optim import make_optimizer
from jmer.training.options import ConsistencyOptions, ObjectiveOptions, OptimizerOptions

EXACT = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)


def products(jaxpr: Any) -> Iterator[Any]:
    """The matrix products in a jaxpr and in all jaxprs inside of it."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, (list, tuple)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from products(inner)


@pytest.fixture(scope="module")
def programs():
    """The jaxprs of an epoch, of a prediction and of confusion counts, of a model with every kind of product."""
    options = {"encoder": "bigru_attention", "graph": "rgcn,gat,grnn,gfpush", "fusion": "hybrid", "co_attention": True}
    model = tiny.model(sequence_dims=tiny.SEQUENCE_DIMS, **options)
    dialogues = tiny.dialogues([5, 7, 4])
    flat = flatten(dialogues, utterances=16, dims=tiny.DIMS, sequences={"audio": (5, 3)})
    optimizer = make_optimizer(OptimizerOptions(), steps_per_epoch=2)
    objective = Objective(options=ObjectiveOptions(consistency=ConsistencyOptions(passes=2)), counts=(5, 5, 5))
    with jax.numpy_dtype_promotion("standard"):  # Optax raises a float to an integer power
        state = jax.eval_shape(lambda: steps.init_state(model, optimizer, seeds=[0]))
        stats = steps.feature_stats(flat)
        flat = jax.tree.map(jnp.asarray, flat)
        epoch = steps.make_train_epoch(model, optimizer, objective, Placement(seeds=1, devices=1))
        (index,) = Plan([5, 7, 4], batch_utterances=16).epoch(1, seeds=[0])
        (plan,) = evaluation_plan([5, 7, 4], batch_utterances=16)
        members = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, 1, *x.shape[1:]), x.dtype), state.params)
        batch = tiny.batch(dialogues, sequences={"audio": (5, 3)})
        return {
            "epoch": jax.make_jaxpr(epoch)(state, stats, flat, index),
            "predict": jax.make_jaxpr(lambda p: steps.predict(model, p, stats, batch))(members),
            "confusion": jax.make_jaxpr(lambda p: steps.confusion(model, p, stats, flat, plan))(state.params),
        }


@pytest.mark.parametrize("name", ["epoch", "predict", "confusion"])
def test_every_float32_product_is_exact_on_every_device(programs, name):
    """A GPU takes TF32 and a TPU bfloat16 for a product that does not ask for more."""
    found = list(products(programs[name].jaxpr))
    assert len(found) > 20
    assert {equation.params["precision"] for equation in found} == {EXACT}


def test_numbers_that_are_not_finite_are_found_by_seed():
    tree = {"a": jnp.zeros((3, 4)), "b": {"c": jnp.zeros((3,)).at[1].set(jnp.nan), "d": jnp.ones((3, 2, 2))}}
    assert steps.all_finite(tree).tolist() == [True, False, True]
    tree["b"]["d"] = tree["b"]["d"].at[2, 1, 0].set(-jnp.inf)
    assert steps.all_finite(tree).tolist() == [True, False, False]
    assert np.all(steps.all_finite({"a": jnp.full((2, 5), 1e38)}))


def test_statistics_take_little_memory_however_wide_the_features_are():
    """A run that streams its features has no room for a copy of them."""
    dialogues = [replace(d, values={"text": np.ones((len(d), 20_000), np.float32)}, present={"text": d.present["text"]})
                 for d in tiny.dialogues([20] * 40)]  # fmt: skip
    flat = flatten(dialogues, utterances=800, dims={"text": 20_000}, sequences={})
    tracemalloc.start()
    stats = steps.feature_stats(flat)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert stats["text_mean"].shape == (20_000,)
    assert peak < 130e6  # in float64, the features take 128 MB
