import jax
import jax.numpy as jnp
import numpy as np
import optax

from jmer.training.optim import make_optimizer
from jmer.training.options import OptimizerOptions


def test_joined_it_is_plain_adamw_of_each_parameter():
    rng = np.random.default_rng(0)
    shapes = {"a": (3, 4), "b": (4,), "c": {"d": (2, 3, 2), "e": (), "bias": (3, 2), "b_in": (2, 5)}}
    is_shape = {"is_leaf": lambda x: isinstance(x, tuple)}
    draw = lambda scale: jax.tree.map(  # noqa: E731
        lambda s: jnp.array(rng.normal(size=s) * scale, jnp.float32), shapes, **is_shape
    )
    params, grads = draw(1.0), [draw(scale) for scale in (0.1, 10.0, 1.0)]
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
        options = OptimizerOptions(lr=0.1, epochs=5, warmup=0.2, weight_decay=0.3, clip_norm=2.0)
        ours = make_optimizer(options, steps_per_epoch=2)
        schedule = optax.warmup_cosine_decay_schedule(0.0, 0.1, 2, 10)
        mask = {"a": True, "b": False, "c": {"d": True, "e": False, "bias": False, "b_in": False}}
        plain = optax.chain(optax.clip_by_global_norm(2.0), optax.adamw(schedule, weight_decay=0.3, mask=mask))
        results = []
        for optimizer in (ours, plain):
            p, state = params, optimizer.init(params)
            for g in grads:
                updates, state = jax.jit(optimizer.update)(g, state, p)
                p = optax.apply_updates(p, updates)
            results.append(p)
    for a, b, start in zip(*map(jax.tree.leaves, (*results, params)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
        assert np.abs(a - start).max() > 0.01
