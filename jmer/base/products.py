"""The large matrix products of a model, in float32 or with bfloat16 factors.

With precision `bfloat16`, both factors of a product are rounded to bfloat16, forward and backward, and the terms are
summed in float32, as matrix units do. Results, parameters and everything else stay float32. Recurrence, softmax,
normalisation and the loss, where rounding would add up, are not affected. Micikevicius et al. 2018, "Mixed precision
training"; bfloat16 needs no loss scaling, since it has the range of float32.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def product(spec: str, x: Float[Array, "..."], y: Float[Array, "..."], *, precision: str) -> Float[Array, "..."]:
    """Returns `jnp.einsum(spec, x, y)` of float32 arrays.

    Args:
      spec: every letter of a factor is also in the other factor or in the result; the letters that both factors and the
        result share come first in each.
      precision: `float32` or `bfloat16`, the type of the factors.
    """
    return _product(spec, precision, x, y)


def dense(features: int, *, precision: str, name: str, use_bias: bool = True) -> nn.Dense:
    """Returns the linear map of that name over the last axis."""

    def dot_general(x: jax.Array, kernel: jax.Array, dimension_numbers: Any, **_: Any) -> jax.Array:
        """The product that `nn.Dense` asks for: the last axis of x with the first axis of the kernel."""
        axes = "abcdefgh"[: x.ndim - 1]
        return _product(f"{axes}y,yz->{axes}z", precision, x, kernel)

    return nn.Dense(features, use_bias=use_bias, dot_general=dot_general, name=name)


# The products have a backward pass of their own. It rounds the factors too, and the factors of a weight's gradient are
# ordered so that the gradient needs no transpose.
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
