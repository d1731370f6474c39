"""The transformer layer of all encoders here, and which tokens see which (Vaswani et al. 2017).

Families of checkpoints give other names to the parts of a layer, normalise before or after each half, and differ in
little else. A `Layer` is therefore one network with a `LayerShape`, and a family is a `LayerNames`.

Every product is over a `[n, D]` array, rows and tokens in one axis. XLA's CPU backend transposes three-axis factors in
memory when it computes the gradient of a kernel, which takes longer than the product itself.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from jmer.base.masks import dropout
from jmer.base.products import product
from jmer.encoders.attention import attention
from jmer.encoders.running import Running

# Flax's own default computes the variance as E[x^2] - E[x]^2, which loses digits.
LayerNorm = functools.partial(nn.LayerNorm, use_fast_variance=False)

_LOWEST = float(np.finfo(np.float32).min)
_QUERIES = 256  # queries of one block of attention; longer rows are attended block by block


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Gaussian error linear unit (Hendrycks & Gimpel 2016), by erf. `jax.nn.gelu` takes erfc, which is slower."""
    return 0.5 * x * (1 + jax.lax.erf(x * math.sqrt(0.5)))


ACTIVATIONS = {
    "gelu": gelu,
    "gelu_new": jax.nn.gelu,  # the approximation by tanh
    "gelu_pytorch_tanh": jax.nn.gelu,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}


def frame_mask(x: Float[Array, "B T D"], length: Int[Array, " B"]) -> Bool[Array, "B T"]:
    """Marks the first `length` frames of each row. At least one frame of a row is valid, so that means are finite."""
    return jnp.arange(x.shape[1])[None] < jnp.maximum(length, 1)[:, None]


@struct.dataclass
class Sees:
    """Which tokens of a row see which.

    A token sees the tokens of its own segment; `reach` and `causal` narrow that down by the turns of a dialogue. Or all
    tokens of a row see those that are `valid`, which takes half the time on a CPU.

    segment: `[B, T]` int32, the number of each token's segment; tokens of padding have a number of their own. None
      where `valid` is given.
    valid: `[B, T]` bool, at least one a row.
    turn: `[B, T]` int32, the number of each token's turn within its segment; None where there are no turns.
    reach: the number of turns before and after its own that a token sees; None for all.
    causal: whether a token sees no later turn.
    """

    segment: Any = None
    valid: Any = None
    turn: Any = None
    reach: int | None = struct.field(pytree_node=False, default=None)
    causal: bool = struct.field(pytree_node=False, default=False)

    def bias(self, start: Int[Array, ""] | int, queries: int) -> Float[Array, "B 1 Q T"]:
        """Returns what is added to the logits of `queries` tokens, from the token numbered `start` on.

        It is 0 for a token that is seen, and the lowest number for another one. Q is `queries`, or 1 where all tokens
        of a row see the same.
        """
        if self.valid is not None:
            return jnp.where(self.valid, 0, _LOWEST)[:, None, None]

        def of(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            return jax.lax.dynamic_slice_in_dim(x, start, queries, axis=1)[:, :, None], x[:, None, :]

        mine, other = of(self.segment)
        mask = mine == other
        if self.turn is not None:
            mine, other = of(self.turn)
            if self.causal:
                mask &= other <= mine
            if self.reach is not None:
                mask &= abs(other - mine) <= self.reach
        # Without the barrier, XLA's CPU backend would compute the mask anew for every head.
        return jax.lax.optimization_barrier(jnp.where(mask, 0, _LOWEST)[:, None])


@dataclass(frozen=True, kw_only=True)
class LayerNames:
    """The published names of a layer's parts."""

    query: str
    key: str
    value: str
    out: str
    attention_norm: str
    wide: str
    narrow: str
    last_norm: str
    gate: str = ""  # WavLM's


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """The shape of a family's layers.

    heads: number of attention heads.
    inner: D of the feed-forward half.
    epsilon: of the normalisations.
    norm_first: whether each half normalises its input rather than its sum with the input.
    activation: a key of `ACTIVATIONS`.
    key_bias: whether the projection of the keys has a bias; Whisper's has none.
    gated: each frame scales the attention's bias by a gate that it computes itself (WavLM, Chen et al. 2022, 3.1).
    """

    heads: int
    inner: int
    epsilon: float
    norm_first: bool
    activation: str = "gelu"
    key_bias: bool = True
    gated: bool = False


class Linear(nn.Module, kw_only=True):
    """A linear map, with a low-rank adapter beside it where `running.rank` asks for one (LoRA, Hu et al. 2022).

    The adapter's factors are in the collection `adapters`. The second is zero at first, so that nothing is added.
    """

    features: int
    running: Running
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "n D"]) -> Float[Array, "n {self.features}"]:
        run, size = self.running, (x.shape[-1], self.features)
        multiply = functools.partial(product, "nd,df->nf", precision=run.precision)
        y = multiply(x, self.param("kernel", nn.initializers.lecun_normal(), size))
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,))[None]
        if run.rank:
            down, up = nn.initializers.lecun_normal(), nn.initializers.zeros
            first = self.variable("adapters", "first", lambda: down(self.make_rng("params"), (size[0], run.rank)))
            second = self.variable("adapters", "second", lambda: up(self.make_rng("params"), (run.rank, size[1])))
            y = y + run.scale * multiply(multiply(x, first.value), second.value)
        return y


class Layer(nn.Module, kw_only=True):
    """One transformer layer. Its parts have the published names."""

    names: LayerNames
    shape: LayerShape
    running: Running = Running()

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], *, sees: Sees | None, bias: Float[Array, "H T T"] | None = None
    ) -> Float[Array, "B T D"]:
        """Runs the layer.

        sees: which tokens see which; None where all tokens of a row see each other.
        bias: added to the attention logits when `gated`, and unused otherwise.
        """
        names, shape = self.names, self.shape
        first, last = (LayerNorm(epsilon=shape.epsilon, name=name) for name in (names.attention_norm, names.last_norm))

        def add(x: jax.Array, y: jax.Array) -> jax.Array:
            return x + dropout(self, y, rate=self.running.dropout)

        if shape.norm_first:
            x = add(x, self._attention(first(x), sees, bias))
            return add(x, self._feed_forward(last(x)))
        x = first(add(x, self._attention(x, sees, bias)))
        return last(add(x, self._feed_forward(x)))

    def _linear(self, name: str, features: int, *, use_bias: bool = True) -> Linear:
        return Linear(features=features, running=self.running, use_bias=use_bias, name=name)

    def _attention(self, x: jax.Array, sees: Sees | None, bias: jax.Array | None) -> jax.Array:
        rows, tokens, dim = x.shape
        heads, names = self.shape.heads, self.names
        flat = x.reshape(-1, dim)

        def project(name: str, *, use_bias: bool = True) -> jax.Array:
            y = self._linear(name, dim, use_bias=use_bias)(flat)
            return y.reshape(rows, tokens, heads, dim // heads).transpose(0, 2, 1, 3)

        query, key, value = project(names.query), project(names.key, use_bias=self.shape.key_bias), project(names.value)
        if self.shape.gated:
            assert bias is not None
            split = x.reshape(rows, tokens, heads, dim // heads)
            gate = nn.Dense(8, name=f"{names.gate}_linear")(split)
            gate = jax.nn.sigmoid(gate.reshape(*gate.shape[:-1], 2, 4).sum(axis=-1))  # [B, T, H, 2]
            constant = self.param(f"{names.gate}_const", nn.initializers.ones, (1, heads, 1, 1))
            share = gate[..., 0] * (gate[..., 1] * constant[:, :, 0, 0][:, None] - 1) + 2
            bias = jnp.einsum("bqh,hqk->bhqk", share, bias)
        else:
            bias = None
        y = attend(query, key, value, sees=sees, bias=bias, precision=self.running.precision)
        return self._linear(names.out, dim)(y.transpose(0, 2, 1, 3).reshape(-1, dim)).reshape(x.shape)

    def _feed_forward(self, x: jax.Array) -> jax.Array:
        flat = x.reshape(-1, x.shape[-1])
        inner = ACTIVATIONS[self.shape.activation](self._linear(self.names.wide, self.shape.inner)(flat))
        return self._linear(self.names.narrow, x.shape[-1])(inner).reshape(x.shape)


def attend(
    query: Float[Array, "B H T d"],
    key: Float[Array, "B H T d"],
    value: Float[Array, "B H T d"],
    *,
    sees: Sees | None = None,
    bias: Float[Array, "B H T T"] | None = None,
    precision: str = "float32",
) -> Float[Array, "B H T d"]:
    """Returns the mean of the values that each token sees, weighted by the softmax of the scaled logits.

    Rows of more than 256 tokens are attended in blocks of queries, so that the logits of a whole row are never in
    memory; the backward pass computes them anew.

    Args:
      sees: which tokens see which; None where all tokens of a row see each other.
      bias: added to the logits.
    """
    tokens, size = query.shape[2:]
    query, key = query * size**-0.5, key.transpose(0, 1, 3, 2)

    def block(start: jax.Array | int, queries: int) -> jax.Array:
        def rows(x: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(x, start, queries, axis=2)

        added = None if bias is None else rows(bias)
        if sees is not None:
            hidden = sees.bias(start, queries)
            added = hidden if added is None else added + hidden
        return attention(rows(query), key, value, added, precision=precision)

    if tokens <= _QUERIES:
        return block(0, tokens)
    count = -(-tokens // _QUERIES)
    # The last block starts earlier if the queries do not fill it; the results that two blocks share are equal.
    starts = jnp.minimum(jnp.arange(count) * _QUERIES, tokens - _QUERIES)
    blocks = jax.lax.map(jax.checkpoint(lambda start: block(start, _QUERIES)), starts)
    whole = jnp.moveaxis(blocks[:-1], 0, 2).reshape(*query.shape[:2], -1, size)
    return jnp.concatenate([whole, blocks[-1][:, :, count * _QUERIES - tokens :]], axis=2)


def run_layers(
    x: Float[Array, "B T D"],
    layers: tuple[int, ...],
    *,
    name: str,
    names: LayerNames,
    shape: LayerShape,
    running: Running,
    sees: Sees | None,
    bias: Float[Array, "H T T"] | None = None,
) -> list[Float[Array, "B T D"]]:
    """Runs the layers of the calling module up to the highest of `layers`.

    Args:
      name: of a layer, with `{}` for its number.

    Returns: the states before the first layer and after each.
    """
    cls = nn.remat(Layer) if running.remat else Layer
    states = [x]
    for i in range(max(layers)):
        layer = cls(names=names, shape=shape, running=running, name=name.format(i))
        states.append(layer(states[-1], sees=sees, bias=bias))
    return states
