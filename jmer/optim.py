"""The optimizer: AdamW with warm-up, cosine decay and clipping."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

Tree = Any  # a pytree of arrays


def make_optimizer(
    *, lr: float, total_steps: int, warmup: float, weight_decay: float, clip_norm: float
) -> optax.GradientTransformation:
    """Returns AdamW (Loshchilov & Hutter 2019).

    Args:
      lr: peak learning rate, reached after `warmup` (a share of `total_steps`), then decayed to zero.
      weight_decay: of weight matrices; biases and scales, which have one axis, are left alone.
      clip_norm: the gradients' global norm is cut to it.
    """
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0, peak_value=lr, warmup_steps=int(warmup * total_steps), decay_steps=total_steps
    )
    decayed = {"matrices": True, "vectors": False}
    return _joined(
        optax.chain(
            optax.clip_by_global_norm(clip_norm), optax.adamw(schedule, weight_decay=weight_decay, mask=decayed)
        )
    )


def _joined(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Runs `inner` on two long vectors: all matrices end to end, and all that has fewer axes.

    The arithmetic is the same, but it is compiled once and not for every parameter: a third of the step's program.
    (`optax.flatten` would join all in one vector, where the weight decay could not tell matrices any more.)
    """

    def join(tree: Tree) -> dict[str, jax.Array]:
        leaves = jax.tree.leaves(tree)
        groups = {"matrices": [x for x in leaves if x.ndim > 1], "vectors": [x for x in leaves if x.ndim <= 1]}
        return {name: jnp.concatenate([x.reshape(-1) for x in group]) for name, group in groups.items()}

    def part(joined: dict[str, jax.Array], like: Tree) -> Tree:
        leaves, tree = jax.tree.flatten(like)
        used = dict.fromkeys(joined, 0)
        parted = []
        for x in leaves:
            name = "matrices" if x.ndim > 1 else "vectors"
            parted.append(joined[name][used[name] : used[name] + x.size].reshape(x.shape))
            used[name] += x.size
        return jax.tree.unflatten(tree, parted)

    def init(params: Tree) -> Tree:
        return inner.init(join(params))

    def update(updates: Tree, state: Tree, params: Tree = None) -> tuple[Tree, Tree]:
        joined, state = inner.update(join(updates), state, join(params))
        return part(cast(dict[str, jax.Array], joined), updates), state

    return optax.GradientTransformation(init, update)
