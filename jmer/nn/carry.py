"""What a causal model remembers of a dialogue whose utterances it is given one by one.

Where the collection `CARRY` is mutable, each module that looks at earlier utterances keeps there what it needs of them:
a recurrence its state, a graph the last utterances of its window. Everything begins as zeros. The rows then hold one
utterance each, the next one of their dialogue, and the answer is that of the whole dialogue up to it.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

CARRY = "carry"
SUMS = "_sums"  # ends the name of what is kept for each speaker, `[B, P, D]`; the caller makes room for more speakers


def remembers(module: nn.Module) -> bool:
    """Whether the model is given one utterance after another."""
    return module.is_mutable_collection(CARRY) and not module.is_initializing()


def appended(module: nn.Module, name: str, x: jax.Array, *, length: int) -> jax.Array:
    """Returns the last `length` values before `x` `[B, 1, ...]`, then x; remembers the last `length` of them.

    Values before the first one are zeros, or False.
    """
    (b, _, *rest), dtype = x.shape, x.dtype
    kept = module.variable(CARRY, name, jnp.zeros, (b, length, *rest), dtype)
    whole = jnp.concatenate([kept.value, x], axis=1)
    kept.value = whole[:, 1:]
    return whole
