"""The large matrix products of the model, in float32 or with bfloat16 factors.

In `bfloat16` both factors of a product, forward and backward, are rounded to it and the terms are summed in float32, as
matrix units do; results, parameters and all else stay float32. Recurrence, softmax, normalisation and the loss, where
rounding would add up, are not affected. Micikevicius et al. 2018, "Mixed precision training", whose loss scaling
bfloat16 does without, having float32's range.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

PRECISIONS = ("float32", "bfloat16")


def product(spec: str, x: jax.Array, y: jax.Array, *, precision: str) -> jax.Array:
    """`jnp.einsum(spec, x, y)` of float32 arrays.

    Every letter of a factor is in the other or in the result, and what both and the result have comes first in each.
    """
    return _product(spec, precision, x, y)


def dense(features: int, *, precision: str, name: str, use_bias: bool = True) -> nn.Dense:
    """Returns the linear map of that name."""

    def dot_general(x: jax.Array, kernel: jax.Array, dimension_numbers: Any, **_: Any) -> jax.Array:
        """What `nn.Dense` asks for: the last axis of x with the first of the kernel."""
        axes = "abcdefgh"[: x.ndim - 1]
        return _product(f"{axes}y,yz->{axes}z", precision, x, kernel)

    return nn.Dense(features, use_bias=use_bias, dot_general=dot_general, name=name)


# With a gradient of its own, in which the factors are rounded too, and stand so that a weight's comes out as it lies.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _product(spec: str, precision: str, x: jax.Array, y: jax.Array) -> jax.Array:
    return _forward(spec, precision, x, y)[0]


def _forward(spec: str, precision: str, x: jax.Array, y: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    factors = x.astype(precision), y.astype(precision)
    return _einsum(spec, *factors), factors


def _backward(
    spec: str, precision: str, factors: tuple[jax.Array, jax.Array], given: jax.Array
) -> tuple[jax.Array, jax.Array]:
    (x, y), given = factors, given.astype(precision)
    (a, b), c = spec.split("->")[0].split(","), spec.split("->")[1]
    return _einsum(f"{c},{b}->{a}", given, y), _einsum(f"{a},{c}->{b}", x, given)


def _einsum(spec: str, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.einsum(spec, x, y, preferred_element_type=jnp.float32)


_product.defvjp(_forward, _backward)
