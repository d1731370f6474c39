"""The compiled parts of training: initial state, epoch, evaluation and prediction. One program runs all seeds.

The leaves of a `State` carry a leading S axis. Data stays on the device; a call only receives the numbers of the
utterances that make up its batches. Float32 products are exact float32 on every device, where a GPU would take TF32 and
a TPU bfloat16 by default.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from jmer.base.types import UNLABELLED, Batch, FlatSplit
from jmer.dataset.flat import flatten, gather
from jmer.nn.graph_layers import ATTENTION
from jmer.nn.model import Model, Output
from jmer.training.devices import Placement
from jmer.training.objective import Objective

Tree = Any  # a pytree of arrays
Values = dict[str, Any]  # dotted name of an option -> `[S]` float32, its value for each seed

_STATS_ROWS, _STATS_BYTES = 4096, 2**25  # utterances of which features are summed at once, and what they may take
STATS = ("mean", "scale")  # the model's `stats` variables of a modality, and of its sequences

exact = jax.default_matmul_precision("float32")  # decorates what is traced with exact float32 products


class State(NamedTuple):
    """What training changes.

    params, opt_state: each leaf with a leading S axis.
    step: `[S]` int32, updates so far.
    seed: `[S]` int32. A step's randomness comes from the seed and the step alone, so that a resumed run repeats
      nothing.
    """

    params: Tree
    opt_state: Tree
    step: jax.Array
    seed: jax.Array


def feature_stats(flat: FlatSplit) -> dict[str, np.ndarray]:
    """Returns the model's `stats` variables: mean and 1 / scale of every feature over the utterances that have it.

    The statistics of sequences are taken over all their frames. A feature that hardly varies, such as a word seen once,
    would be blown up by its own deviation, so each scale is at least a tenth of the modality's typical one.

    Args:
      flat: the train split without its views.
    """
    arrays = {m: (x, flat.present[m]) for m, x in flat.features.items()}
    arrays |= {f"{m}_sequence": (x, flat.frame_mask[m]) for m, x in flat.sequences.items()}
    stats = {}
    for name, (x, valid) in arrays.items():
        # The sums go part by part: all at once, float64 would take several times the memory of the dataset.
        rows = max(1, min(_STATS_ROWS, _STATS_BYTES // (8 * math.prod(x.shape[1:]) or 1)))
        parts = [slice(i, i + rows) for i in range(0, len(x), rows)]
        count = valid.sum()
        mean = sum(x[part][valid[part]].astype(np.float64).sum(axis=0) for part in parts) / count
        std = np.sqrt(sum(np.square(x[part][valid[part]] - mean).sum(axis=0) for part in parts) / count)
        floor = 0.1 * np.sqrt(np.mean(std**2)) or 1.0
        stats[f"{name}_mean"] = mean.astype(np.float32)
        stats[f"{name}_scale"] = (1 / np.maximum(std, floor)).astype(np.float32)
    return stats


def init_params(model: Model, *, seeds: Sequence[int]) -> Tree:
    """Returns fresh parameters; those of a seed do not depend on the other seeds."""
    return jax.jit(jax.vmap(_init(model)))(jnp.array(seeds, jnp.int32))


@functools.lru_cache(maxsize=16)
def param_shapes(model: Model) -> Tree:
    """Returns the shape and the type of each parameter of one seed."""
    return jax.eval_shape(_init(model), jnp.int32(0))


def _init(model: Model) -> Callable[[jax.Array], Tree]:
    """Returns a function from a seed to its first parameters."""
    sequences = {m: (1, dim) for m, dim in model.sequence_dims}
    flat = flatten([], utterances=0, dims=dict(model.dims), sequences=sequences)
    blank = jax.tree.map(jnp.asarray, gather(flat, np.zeros((1, 4), np.int32)))
    return lambda seed: model.init(_key(seed, 0), blank)["params"]


def init_state(model: Model, optimizer: optax.GradientTransformation, *, seeds: Sequence[int]) -> State:
    """Returns the state before the first update."""
    params = init_params(model, seeds=seeds)
    steps = jnp.zeros((len(seeds),), jnp.int32)
    return State(params, jax.jit(jax.vmap(optimizer.init))(params), steps, jnp.array(seeds, jnp.int32))


class Trained(NamedTuple):
    """What a training step is made of."""

    model: Model
    optimizer: optax.GradientTransformation
    objective: Objective


def make_train_epoch(
    model: Model, optimizer: optax.GradientTransformation, objective: Objective, placement: Placement
) -> Callable[[State, Tree, FlatSplit, jax.Array], tuple[State, jax.Array]]:
    """Returns the jitted `(state, stats, flat, index) -> (state, loss [S])`: J updates of S seeds in one program.

    `index` is `[J, S, B, U]` int32, of `Plan.epoch`, and the loss is the mean over the updates. The function is traced
    once for each shape of its arguments, and the old state is donated.
    """
    over_seeds = placement.over_seeds(functools.partial(_epoch, Trained(model, optimizer, objective)))
    return jax.jit(over_seeds, donate_argnums=0, out_shardings=(placement.state, placement.everywhere))


def make_sweep_epoch(
    trained: Callable[[Values], Trained], placement: Placement
) -> Callable[[State, Values, Tree, FlatSplit, jax.Array], tuple[State, jax.Array]]:
    """Returns the jitted `(state, values, stats, flat, index) -> (state, loss [S])`, as `make_train_epoch` does, where
    each of the S seeds has values of its own for some options.

    Args:
      trained: returns what a seed trains with, given its values, which are scalars of the traced program.
    """
    over_seeds = placement.over_seeds(lambda own, *rest: _epoch(trained(own[1]), own[0], *rest))

    def epoch(state: State, values: Values, *rest: Any) -> tuple[State, jax.Array]:
        return over_seeds((state, values), *rest)

    return jax.jit(epoch, donate_argnums=0, out_shardings=(placement.state, placement.everywhere))


@exact
def _epoch(trained: Trained, state: State, stats: Tree, flat: FlatSplit, index: jax.Array) -> tuple[State, jax.Array]:
    """Returns the state of one seed after J updates, and their mean loss."""
    model, optimizer, objective = trained
    passes = objective.options.consistency.passes

    def update(state: State, index: jax.Array) -> tuple[State, jax.Array]:
        batch = gather(flat, index)
        keys = jax.random.split(_key(state.seed, state.step + 1), passes)

        def loss_fn(params: Tree) -> jax.Array:
            outputs = jax.vmap(lambda key: apply(model, params, stats, batch, key=key))(keys)
            return objective(outputs, batch)

        loss, grads = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        return State(optax.apply_updates(state.params, updates), opt_state, state.step + 1, state.seed), loss

    state, losses = jax.lax.scan(update, state, index)
    return state, losses.mean()


@functools.partial(jax.jit, static_argnums=0)
@exact
def predict(
    model: Model, params: Tree, stats: Tree, batch: Batch
) -> tuple[Float[Array, "S B U C"], Float[Array, "S B U G"]]:
    """Returns the class probabilities and the gates of every seed.

    Args:
      params: leaves `[S, K, ...]`; the K members of a seed vote by the mean of their answers.
    """
    output = jax.vmap(jax.vmap(lambda p: apply(model, p, stats, batch)))(params)
    return jax.nn.softmax(output.logits).mean(axis=1), output.gates.mean(axis=1)


@functools.partial(jax.jit, static_argnums=0)
@exact
def attention(model: Model, params: Tree, stats: Tree, batch: Batch) -> Float[Array, "B U U"]:
    """Returns how much each utterance (second axis) attends to each other one (last axis) in the model's graph.

    It is the mean over the seeds and their epochs, the layers, the heads and the branches. The shares of a row sum to
    1. The model has a graph layer `gat`.

    Args:
      params: leaves `[S, K, ...]`.
    """
    b, u = batch.mask.shape

    def of(params: Tree) -> jax.Array:
        _, found = model.apply({"params": params, "stats": stats}, batch, mutable=[ATTENTION])
        each = [x.reshape(-1, u, x.shape[-1], b, u, x.shape[-1]) for x in jax.tree.leaves(found)]
        # The streams that an utterance sends by are added up, and those that it receives by are averaged.
        return jnp.concatenate([x.sum(axis=2).mean(axis=-1) for x in each]).mean(axis=0)

    weights = jax.vmap(jax.vmap(of))(params).mean(axis=(0, 1))  # [sender, B, receiver]
    return weights.transpose(1, 2, 0)


@functools.partial(jax.jit, static_argnums=0)
@exact
def confusion(
    model: Model, params: Tree, stats: Tree, flat: FlatSplit, index: Int[Array, "J B U"]
) -> Int[Array, "S C C"]:
    """Returns the confusion counts of every seed (rows true, columns predicted) over J batches.

    An utterance whose logits are not all finite has no prediction and is not counted, so that the caller can notice it.

    Args:
      index: of `dataset.plan.evaluation_plan`.
    """
    c = len(model.labels)

    def add(counts: jax.Array, index: jax.Array) -> tuple[jax.Array, None]:
        batch = gather(flat, index)

        def one_seed(params: Tree) -> jax.Array:
            logits = apply(model, params, stats, batch).logits
            counted = (batch.label != UNLABELLED) & jnp.isfinite(logits).all(axis=-1)
            pair = jnp.where(counted, batch.label * c + logits.argmax(-1), c * c)
            return jnp.zeros((c * c + 1,), jnp.int32).at[pair.reshape(-1)].add(1)[:-1].reshape(c, c)

        return counts + jax.vmap(one_seed)(params), None

    seeds = jax.tree.leaves(params)[0].shape[0]
    return jax.lax.scan(add, jnp.zeros((seeds, c, c), jnp.int32), index)[0]


def apply(model: Model, params: Tree, stats: Tree, batch: Batch, *, key: Key[Array, ""] | None = None) -> Output:
    """Returns the model's output for one set of parameters; the key makes it that of a training step."""
    rngs = {} if key is None else {"dropout": key}
    output = model.apply({"params": params, "stats": stats}, batch, rngs=rngs)
    assert isinstance(output, Output)
    return output


@jax.jit
def all_finite(tree: Tree) -> Bool[Array, " S"]:
    """Returns whether all numbers of each seed are finite; leaves `[S, ...]`."""
    each = [jnp.isfinite(x).reshape(len(x), -1).all(axis=1) for x in jax.tree.leaves(tree)]
    return jnp.stack(each).all(axis=0)


@functools.partial(jax.jit, static_argnames="count")
def repeat_params(params: Tree, *, count: int) -> Tree:
    """Returns K = `count` copies of each seed's parameters: leaves `[S, ...]` become `[S, K, ...]`."""
    return jax.tree.map(lambda x: jnp.repeat(x[:, None], count, axis=1), params)


@jax.jit
def keep_params(chosen: Bool[Array, "S K"], new: Tree, kept: Tree) -> Tree:
    """Returns `kept` (leaves `[S, K, ...]`) with `new` (leaves `[S, ...]`) in the slots that are chosen."""

    def keep(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(chosen.reshape(*chosen.shape, *[1] * (a.ndim - 1)), a[:, None], b)

    return jax.tree.map(keep, new, kept)


def _key(seed: jax.Array, use: jax.Array | int) -> jax.Array:
    """Returns the key of a seed's initialisation (use 0) or of its n-th update (use n)."""
    return jax.random.fold_in(jax.random.key(seed), use)
