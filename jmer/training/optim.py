"""The optimizer: AdamW with warm-up, cosine decay and clipping."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from jmer.base.options import is_on
from jmer.training.options import OptimizerOptions

Tree = Any  # a pytree of arrays

_LARGE = 2**15  # entries of a parameter that is worth a program of its own


def make_optimizer(options: OptimizerOptions, *, steps_per_epoch: int) -> optax.GradientTransformation:
    """Returns AdamW (Loshchilov & Hutter 2019) with warm-up and cosine decay to zero at the last of all epochs.

    Weight decay and the penalty act on weight matrices; biases, scales and single numbers are left alone.
    """
    total_steps = options.epochs * steps_per_epoch
    warmup = int(options.warmup * total_steps)
    # Optax's own schedule of both parts would compare a traced rate with 0.
    rise = optax.linear_schedule(0.0, options.lr, warmup)
    fall = optax.cosine_decay_schedule(options.lr, total_steps - warmup)
    schedule = optax.join_schedules([rise, fall], [warmup])

    def decayed(groups: Tree) -> Tree:
        return {name: name.startswith("matrices") for name in groups}

    parts = [optax.clip_by_global_norm(options.clip_norm)]
    if is_on(options.l2):
        parts.append(optax.add_decayed_weights(options.l2, mask=decayed))
    adamw = optax.adamw(schedule, weight_decay=options.weight_decay, mask=decayed)
    return _joined(optax.chain(*parts, adamw))


def _joined(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Runs `inner` on groups of parameters: small matrices end to end, all else that is small, and each large one.

    The arithmetic is the same, but it is compiled once and not for each of many small ones: a third of the program.
    Large ones stay as they are, for to join them would be to copy them in every step.
    (`optax.flatten` would join all in one vector, where the weight decay could not tell matrices any more.)
    """

    def grouped(tree: Tree) -> tuple[list[tuple[str, jax.Array]], Any]:
        leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
        return [(_group(path, x), x) for path, x in leaves], structure

    def join(tree: Tree) -> dict[str, jax.Array]:
        parts: dict[str, list[jax.Array]] = {}
        for name, x in grouped(tree)[0]:
            parts.setdefault(name, []).append(x)
        return {
            name: each[0] if each[0].size >= _LARGE else jnp.concatenate([x.reshape(-1) for x in each])
            for name, each in parts.items()
        }

    def part(joined: dict[str, jax.Array], like: Tree) -> Tree:
        leaves, structure = grouped(like)
        used = dict.fromkeys(joined, 0)
        parted = []
        for name, x in leaves:
            if x.size >= _LARGE:
                parted.append(joined[name])
                continue
            parted.append(joined[name][used[name] : used[name] + x.size].reshape(x.shape))
            used[name] += x.size
        return jax.tree.unflatten(structure, parted)

    def init(params: Tree) -> Tree:
        return inner.init(join(params))

    def update(updates: Tree, state: Tree, params: Tree = None) -> tuple[Tree, Tree]:
        joined, state = inner.update(join(updates), state, join(params))
        return part(cast(dict[str, jax.Array], joined), updates), state

    return optax.GradientTransformation(init, update)


def _group(path: Any, x: jax.Array) -> str:
    kind = "matrices" if _is_matrix(path, x) else "vectors"
    return kind + jax.tree_util.keystr(path) if x.size >= _LARGE else kind


def _is_matrix(path: Any, x: jax.Array) -> bool:
    """Whether a parameter is a weight matrix; the biases of several branches or directions have two axes as well."""
    name = str(getattr(path[-1], "key", path[-1]))
    return x.ndim > 1 and name not in ("bias", "scale") and not name.startswith("b_")
