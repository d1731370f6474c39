"""The compiled parts of fine-tuning: which parameters are trained, how fast, and a step."""

import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float

from jmer.training.losses import classification_loss
from jmer.training.steps import exact
from jmer.tuning.classifier import ENCODER, Scores
from jmer.tuning.options import TuneOptions

Tree = Any  # a pytree of arrays
Flat = dict[str, Any]  # collection/module/.../name -> parameter

_EMA = 0.99  # of the moving average of the weights, by step


class TuneState(NamedTuple):
    """What training changes.

    trained: the trained parameters. average: their average, with the number of averaged sets of parameters.
    step: updates so far. The randomness of a step comes from the seed and the step alone.
    """

    trained: Flat
    opt_state: Tree
    average: Flat
    averaged: jax.Array
    step: jax.Array


def parted(variables: Tree, options: TuneOptions) -> tuple[Flat, Flat]:
    """Returns the trained and the frozen parameters of a classifier's variables."""
    flat: Flat = flatten_dict(variables, sep="/")  # pyright: ignore[reportAssignmentType]

    def is_trained(path: str) -> bool:
        collection, part, *_ = path.split("/")
        if collection != "params" or part != ENCODER:
            return collection != "stats"
        return not options.rank and (options.train_embeddings or _layer(path) is not None)

    trained = {path: x for path, x in flat.items() if is_trained(path)}
    return trained, {path: x for path, x in flat.items() if path not in trained}


def _layer(path: str) -> int | None:
    """Returns the number of a parameter's layer, from 0; None for what lies outside the layers."""
    number = re.search(r"layers?\.(\d+)/", path)
    return int(number[1]) if number else None


def joined(trained: Flat, frozen: Flat) -> Tree:
    """Returns the variables of which `parted` made these."""
    return unflatten_dict(trained | frozen, sep="/")


def make_optimizer(options: TuneOptions, trained: Flat, *, layers: int, steps: int) -> optax.GradientTransformation:
    """Returns AdamW with warm-up and decay; the learning rate of a parameter depends on its layer.

    Args:
      layers: how many layers are run.
      steps: updates in all epochs.
    """
    warm = int(options.warmup * steps)
    decay = {
        "linear": optax.linear_schedule(1.0, 0.0, max(steps - warm, 1)),
        "cosine": optax.cosine_decay_schedule(1.0, max(steps - warm, 1)),
        "constant": optax.constant_schedule(1.0),
    }[options.decay]
    schedule = optax.join_schedules([optax.linear_schedule(0.0, 1.0, max(warm, 1)), decay], [warm])
    rates = {path: _rate(path, options, layers=layers) for path in trained}
    adamw = optax.adamw(schedule, weight_decay=options.weight_decay, mask={path: _decays(path) for path in trained})

    def scaled(updates: Any, params: Any) -> Any:
        return {path: rates[path] * x for path, x in updates.items()}

    return optax.chain(optax.clip_by_global_norm(options.clip_norm), adamw, optax.stateless(scaled))


def _rate(path: str, options: TuneOptions, *, layers: int) -> float:
    """Returns the peak learning rate of a parameter."""
    if path.split("/")[1] != ENCODER:
        return options.head_lr
    layer = _layer(path)
    above = layers if layer is None else layers - 1 - layer  # layers above the parameter's; embeddings lie below all
    return options.lr * options.layer_decay**above


def _decays(path: str) -> bool:
    """Whether a parameter is a weight matrix."""
    return path.rsplit("/", 1)[1] in ("kernel", "first", "second", "embedding")


def init_state(trained: Flat, optimizer: optax.GradientTransformation, options: TuneOptions) -> TuneState:
    """Returns the state before the first update. The parameters are copied, since the state is donated."""
    average = {} if options.average == "none" else jax.tree.map(jnp.copy, trained)
    counts = (jnp.zeros((), jnp.int32) for _ in range(2))
    return TuneState(jax.tree.map(jnp.copy, trained), optimizer.init(trained), average, *counts)


def make_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    options: TuneOptions,
    *,
    class_weights: tuple[float, ...] | None,
) -> Callable[[TuneState, Flat, Any, int], tuple[TuneState, jax.Array]]:
    """Returns a compiled update: state, frozen parameters, batch, seed -> state and loss. The state is donated."""

    def loss_of(trained: Flat, frozen: Flat, batch: Any, key: jax.Array) -> Float[Array, ""]:
        scores: Any = model.apply(joined(trained, frozen), batch, rngs={"dropout": key})
        loss = classification_loss(
            scores.logits, batch.label, class_weights=class_weights, label_smoothing=options.label_smoothing
        )
        if options.sentiment:
            loss += options.sentiment * classification_loss(scores.sentiment, batch.sentiment)
        return loss

    @functools.partial(jax.jit, donate_argnums=0)
    @exact
    def step(state: TuneState, frozen: Flat, batch: Any, seed: jax.Array) -> tuple[TuneState, jax.Array]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        loss, gradients = jax.value_and_grad(loss_of)(state.trained, frozen, batch, key)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.trained)
        trained: Flat = optax.apply_updates(state.trained, updates)  # pyright: ignore[reportAssignmentType]
        average, averaged = state.average, state.averaged
        if options.average == "ema":  # early on, the mean of all so far
            averaged = averaged + 1
            average = _mixed(average, trained, jnp.maximum(1 / averaged, 1 - _EMA))
        return TuneState(trained, opt_state, average, averaged, state.step + 1), loss

    return step


@functools.partial(jax.jit, donate_argnums=0)
def average_epoch(state: TuneState) -> TuneState:
    """Takes the parameters into the mean over the ends of the epochs."""
    averaged = state.averaged + 1
    return state._replace(average=_mixed(state.average, state.trained, 1 / averaged), averaged=averaged)


def scored(state: TuneState, options: TuneOptions) -> Flat:
    """Returns the trained parameters that are scored and kept: the latest, or their average."""
    return state.trained if options.average == "none" else state.average


@functools.partial(jax.jit, static_argnums=0)
@exact
def scores(model: nn.Module, trained: Flat, frozen: Flat, batch: Any) -> Scores:
    """Returns the scores of a batch, without dropout."""
    found: Any = model.apply(joined(trained, frozen), batch)
    return found


def _mixed(average: Flat, new: Flat, share: jax.Array) -> Flat:
    return jax.tree.map(lambda a, b: a + share * (b - a), average, new)
