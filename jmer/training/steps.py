"""The compiled parts of training: initial state, update, evaluation. All seeds run in one program.

The leaves of a `State` carry a leading S axis. Data stays on the device; a call gets only the numbers of the utterances
that make its batches.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jmer.base.types import UNLABELLED, Batch
from jmer.dataset.flat import flatten, gather
from jmer.nn.model import Model, Output
from jmer.training.devices import Placement
from jmer.training.objective import Objective

Tree = Any  # a pytree of arrays

_STATS_ROWS = 4096  # utterances
STATS = ("mean", "scale")  # the model's `stats` variables of a modality, and of its sequences


class State(NamedTuple):
    """What training changes.

    params, opt_state: each leaf with a leading S axis.
    step: `[S]` int32, updates so far.
    seed: `[S]` int32; all of a step's randomness comes from it and the step, so that resuming repeats nothing.
    """

    params: Tree
    opt_state: Tree
    step: jax.Array
    seed: jax.Array


def feature_stats(flat: Batch) -> dict[str, np.ndarray]:
    """Returns the model's `stats` variables: mean and 1 / scale of every feature over the utterances that have it.

    Of sequences likewise, over all frames.

    A feature that hardly varies (a word seen once, say) would be blown up by its own deviation, so each scale is at
    least a tenth of the modality's typical one.

    Args:
      flat: of `batches.flatten`, the train split without its views.
    """
    arrays = {m: (x, flat.present[m]) for m, x in flat.features.items()}
    arrays |= {f"{m}_sequence": (x, flat.frames[m]) for m, x in flat.sequences.items()}
    stats = {}
    for name, (x, valid) in arrays.items():
        # Part by part: all at once, in float64, would be several times what the dataset takes.
        parts = [slice(i, i + _STATS_ROWS) for i in range(0, len(x), _STATS_ROWS)]
        count = valid.sum()
        mean = sum(x[part][valid[part]].astype(np.float64).sum(axis=0) for part in parts) / count
        std = np.sqrt(sum(np.square(x[part][valid[part]] - mean).sum(axis=0) for part in parts) / count)
        floor = 0.1 * np.sqrt(np.mean(std**2)) or 1.0
        stats[f"{name}_mean"] = mean.astype(np.float32)
        stats[f"{name}_scale"] = (1 / np.maximum(std, floor)).astype(np.float32)
    return stats


def init_params(model: Model, *, seeds: Sequence[int]) -> Tree:
    """Returns fresh parameters; a seed's do not depend on the other seeds."""
    sequences = {m: (1, dim) for m, dim in model.sequence_dims}
    flat = flatten([], utterances=0, dims=dict(model.dims), sequences=sequences)
    blank = jax.tree.map(jnp.asarray, gather(flat, np.zeros((1, 4), np.int32)))
    init = jax.vmap(lambda seed: model.init(_key(seed, 0), blank, train=False)["params"])
    return jax.jit(init)(jnp.array(seeds, jnp.int32))


def init_state(model: Model, optimizer: optax.GradientTransformation, *, seeds: Sequence[int]) -> State:
    """Returns the state before the first update."""
    params = init_params(model, seeds=seeds)
    steps = jnp.zeros((len(seeds),), jnp.int32)
    return State(params, jax.jit(jax.vmap(optimizer.init))(params), steps, jnp.array(seeds, jnp.int32))


def make_train_epoch(
    model: Model, optimizer: optax.GradientTransformation, objective: Objective, placement: Placement
) -> Callable[[State, Tree, Batch, jax.Array], tuple[State, jax.Array]]:
    """Returns the jitted `(state, stats, flat, index) -> (state, loss [S])`: J updates of S seeds in one program.

    flat: of `batches.flatten`; index: `[J, S, B, U]` int32, of `batches.Plan.epoch`; loss: the mean of the updates'.
    One trace a shape of these; the old state is donated.
    """

    def update(state: State, stats: Tree, flat: Batch, index: jax.Array) -> tuple[State, jax.Array]:
        batch = gather(flat, index)
        keys = jax.random.split(_key(state.seed, state.step + 1), objective.augmentations)

        def loss_fn(params: Tree) -> jax.Array:
            def forward(key: jax.Array) -> Output:
                output = model.apply({"params": params, "stats": stats}, batch, train=True, rngs={"dropout": key})
                assert isinstance(output, Output)
                return output

            return objective(jax.vmap(forward)(keys), batch)

        loss, grads = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        return State(optax.apply_updates(state.params, updates), opt_state, state.step + 1, state.seed), loss

    def epoch(state: State, stats: Tree, flat: Batch, index: jax.Array) -> tuple[State, jax.Array]:
        state, losses = jax.lax.scan(lambda state, index: update(state, stats, flat, index), state, index)
        return state, losses.mean()

    shardings = (placement.state, placement.everywhere)
    return jax.jit(placement.over_seeds(epoch), donate_argnums=0, out_shardings=shardings)


@functools.partial(jax.jit, static_argnums=0)
def predict(model: Model, params: Tree, stats: Tree, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Returns every seed's class probabilities `[S, B, U, C]` and gates `[S, B, U, G]`.

    params: leaves `[S, K, ...]`; a seed's K members vote: the means of theirs.
    """
    output = jax.vmap(jax.vmap(lambda p: _apply(model, p, stats, batch)))(params)
    return jax.nn.softmax(output.logits).mean(axis=1), output.gates.mean(axis=1)


@functools.partial(jax.jit, static_argnums=0)
def confusion(model: Model, params: Tree, stats: Tree, flat: Batch, index: jax.Array) -> jax.Array:
    """Returns every seed's confusion counts `[S, C, C]` (rows true, columns predicted) over J batches.

    An utterance whose logits are not all finite is not counted, so that the caller can tell.

    flat, index: of `batches.flatten` and `batches.evaluation_plan`.
    """
    c = model.num_classes

    def add(counts: jax.Array, index: jax.Array) -> tuple[jax.Array, None]:
        batch = gather(flat, index)

        def one_seed(params: Tree) -> jax.Array:
            logits = _apply(model, params, stats, batch).logits
            counted = (batch.label != UNLABELLED) & jnp.isfinite(logits).all(axis=-1)
            pair = jnp.where(counted, batch.label * c + logits.argmax(-1), c * c)
            return jnp.zeros((c * c + 1,), jnp.int32).at[pair.reshape(-1)].add(1)[:-1].reshape(c, c)

        return counts + jax.vmap(one_seed)(params), None

    seeds = jax.tree.leaves(params)[0].shape[0]
    return jax.lax.scan(add, jnp.zeros((seeds, c, c), jnp.int32), index)[0]


def _apply(model: Model, params: Tree, stats: Tree, batch: Batch) -> Output:
    output = model.apply({"params": params, "stats": stats}, batch, train=False)
    assert isinstance(output, Output)
    return output


@functools.partial(jax.jit, static_argnames="count")
def repeat_params(params: Tree, *, count: int) -> Tree:
    """Returns so many copies of each seed's parameters: leaves `[S, ...]` become `[S, K, ...]`."""
    return jax.tree.map(lambda x: jnp.repeat(x[:, None], count, axis=1), params)


@jax.jit
def keep_params(chosen: jax.Array, new: Tree, kept: Tree) -> Tree:
    """Returns `kept` (leaves `[S, K, ...]`) with `new` (leaves `[S, ...]`) where `chosen` `[S, K]` is True."""

    def keep(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(chosen.reshape(*chosen.shape, *[1] * (a.ndim - 1)), a[:, None], b)

    return jax.tree.map(keep, new, kept)


def _key(seed: jax.Array, use: jax.Array | int) -> jax.Array:
    """The key of a seed's initialisation (use 0) or of its n-th update (use n)."""
    return jax.random.fold_in(jax.random.key(seed), use)
