"""Masks for the compiled step; random ones by a hash of the position instead of a cipher.

Threefry, jax's generator, made a quarter of the step's program, to compile and to run. It is meant to stand up to
cryptanalysts; the entries of a mask only have to look independent, and a hash of index and key does.
"""

import math

import jax
import jax.numpy as jnp


def keep_mask(key: jax.Array, shape: tuple[int, ...], *, rate: float) -> jax.Array:
    """Returns a bool array of `shape` whose entries are True with probability `1 - rate`.

    Two rounds of the integer hash "lowbias32" (Ellis 2018, "Prospecting for Hash Functions", constants as improved by
    Degski), one for each word of the key.
    """
    first, second = jax.random.key_data(key)[..., :2]
    index = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    bits = _hash(_hash(index ^ first) ^ second)
    return bits < jnp.uint32(min(round((1 - rate) * 2**32), 2**32 - 1))


def _hash(x: jax.Array) -> jax.Array:
    x = (x ^ (x >> 16)) * jnp.uint32(0x21F0AAAD)
    x = (x ^ (x >> 15)) * jnp.uint32(0xD35A2D97)
    return x ^ (x >> 15)


@jax.tree_util.register_pytree_node_class
class Draws:
    """All that is random in one forward pass. Each call draws anew, by a number that is fixed when it is traced."""

    def __init__(self, key: jax.Array):
        self._data = jax.random.key_data(key)
        self._count = 0

    def fork(self, count: int) -> "Draws":
        """Returns as many as one pytree, stacked along a first axis, for `vmap` to give one to each of its calls."""
        return Draws(jnp.stack([self.key() for _ in range(count)]))

    def tree_flatten(self) -> tuple[tuple[jax.Array], int]:
        return (self._data,), self._count

    @classmethod
    def tree_unflatten(cls, count: int, children: tuple[jax.Array]) -> "Draws":
        draws = object.__new__(cls)
        (draws._data,), draws._count = children, count
        return draws

    def key(self) -> jax.Array:
        """Returns a key that no other call gets; to derive it costs nothing."""
        self._count += 1
        return jax.random.wrap_key_data(self._data + jnp.uint32(self._count * 0x9E3779B9 % 2**32))


def dropout(x: jax.Array, draws: Draws | None, *, rate: float) -> jax.Array:
    """Zeroes each entry with probability `rate` and scales the rest by 1 / (1 - rate); Srivastava et al. 2014.

    Without draws, as in evaluation, it returns x.
    """
    if draws is None or not rate:
        return x
    return jnp.where(keep_mask(draws.key(), x.shape, rate=rate), x / (1 - rate), 0)


def masked_softmax(logits: jax.Array, mask: jax.Array, *, axis: int) -> jax.Array:
    """Softmax over what the mask lets through; zeros where that is nothing."""
    weights = jax.nn.softmax(jnp.where(mask, logits, jnp.finfo(logits.dtype).min), axis=axis)
    return jnp.where(mask, weights, 0)
