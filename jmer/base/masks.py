"""Random masks for the compiled step, and softmax under a mask.

Keys are JAX's own: every layer that draws asks Flax for a key (`make_rng`), which folds the layer's path and a counter
into the step's key, so that no two draws share one. Only the bits of a mask come from a hash of key and position
instead
of Threefry or `rbg`: benchmarks/randomness.py shows what each costs in an epoch.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, UInt32

from jmer.base.options import Number, is_on


def keep_mask(key: Key[Array, ""], shape: tuple[int, ...], *, rate: Number) -> Bool[Array, "..."]:
    """Returns a mask of `shape` whose entries are True with probability `1 - rate`."""
    return keep_numbered(key, jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape), rate=rate)


def keep_numbered(key: Key[Array, ""], number: UInt32[Array, "*shape"], *, rate: Number) -> Bool[Array, "*shape"]:
    """Returns a mask whose entries are True with probability `1 - rate`, each decided by the key and its number alone.

    Two rounds of the integer hash "lowbias32" (Ellis 2018, "Prospecting for Hash Functions"; the constants are later
    and better ones of the same project) mix the number with one word of the key each.
    """
    first, second = jax.random.key_data(key)[:2]
    bits = _hash(_hash(number ^ first) ^ second)
    # Steps of 2^-24, which float32 holds: a rate means the same mask as a constant and as a number of an array.
    kept = jnp.round((1 - jnp.float32(rate)) * 2**24).astype(jnp.uint32)
    return bits >> 8 < kept


def _hash(x: jax.Array) -> jax.Array:
    x = (x ^ (x >> 16)) * jnp.uint32(0x21F0AAAD)
    x = (x ^ (x >> 15)) * jnp.uint32(0xD35A2D97)
    return x ^ (x >> 15)


def so_far(utterances: Any) -> Bool[Array, "U U"]:
    """Returns whether the utterance of the column is that of the row or an earlier one.

    Args:
      utterances: U, which need not be known while a program is exported.
    """
    number = jnp.arange(utterances)
    return number[:, None] >= number[None]


def dropout(module: nn.Module, x: Float[Array, "*shape"], *, rate: Number) -> Float[Array, "*shape"]:
    """Zeroes each entry with probability `rate` and scales the others by 1 / (1 - rate); Srivastava et al. 2014.

    Training gives the module a key named `dropout`; without that key, as in evaluation, x is returned as it is.
    """
    if not is_on(rate) or not module.has_rng("dropout"):
        return x
    return thinned(x, keep_mask(module.make_rng("dropout"), x.shape, rate=rate), rate=rate)


def thinned(x: Float[Array, "*shape"], kept: Bool[Array, "..."], *, rate: Number) -> Float[Array, "*shape"]:
    """Returns x, scaled by 1 / (1 - rate) where it is kept and 0 elsewhere; the mask broadcasts to the shape of x."""
    # XLA would make a product of a division by a constant, and a rate of an array would round otherwise.
    return jnp.where(kept, x * (1 / (1 - jnp.asarray(rate, x.dtype))), 0)


def masked_softmax(logits: Float[Array, "*shape"], mask: Bool[Array, "..."], *, axis: int) -> Float[Array, "*shape"]:
    """Returns the softmax over the entries that the mask lets through; zeros where it lets nothing through.

    Args:
      mask: broadcasts to the shape of `logits`.
    """
    weights = jax.nn.softmax(jnp.where(mask, logits, jnp.finfo(logits.dtype).min), axis=axis)
    return jnp.where(mask, weights, 0)
