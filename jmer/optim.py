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
      weight_decay: of weight matrices; biases, scales and single numbers are left alone.
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
    """Runs `inner` on two long vectors: all matrices end to end, and all else.

    The arithmetic is the same, but it is compiled once and not for every parameter: a third of the step's program.
    (`optax.flatten` would join all in one vector, where the weight decay could not tell matrices any more.)
    """

    def grouped(tree: Tree) -> tuple[list[tuple[str, jax.Array]], Any]:
        leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
        return [("matrices" if _is_matrix(path, x) else "vectors", x) for path, x in leaves], structure

    def join(tree: Tree) -> dict[str, jax.Array]:
        parts: dict[str, list[jax.Array]] = {"matrices": [], "vectors": []}
        for name, x in grouped(tree)[0]:
            parts[name].append(x.reshape(-1))
        return {name: jnp.concatenate(each) for name, each in parts.items()}

    def part(joined: dict[str, jax.Array], like: Tree) -> Tree:
        leaves, structure = grouped(like)
        used = dict.fromkeys(joined, 0)
        parted = []
        for name, x in leaves:
            parted.append(joined[name][used[name] : used[name] + x.size].reshape(x.shape))
            used[name] += x.size
        return jax.tree.unflatten(structure, parted)

    def init(params: Tree) -> Tree:
        return inner.init(join(params))

    def update(updates: Tree, state: Tree, params: Tree = None) -> tuple[Tree, Tree]:
        joined, state = inner.update(join(updates), state, join(params))
        return part(cast(dict[str, jax.Array], joined), updates), state

    return optax.GradientTransformation(init, update)


def _is_matrix(path: Any, x: jax.Array) -> bool:
    """Whether a parameter is a weight matrix; the biases of several branches or directions have two axes as well."""
    name = str(getattr(path[-1], "key", path[-1]))
    return x.ndim > 1 and name not in ("bias", "scale") and not name.startswith("b_")
