"""The gated recurrent unit, with a backward pass of its own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jmer.base.products import product
from jmer.base.types import Rows
from jmer.nn.carry import CARRY, remembers


class GRU(nn.Module):
    """Gated recurrent unit; Cho et al. 2014, with the reset gate after the recurrent product, as in cuDNN and PyTorch.

    hidden: units of each direction; with two directions the output has `2 * hidden` features, forward first.
    """

    hidden: int
    bidirectional: bool
    precision: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "B U D"], rows: Rows) -> Float[Array, "B U D2"]:
        """Returns the state after each utterance; a state starts from zero with each dialogue of a row.

        A model that remembers (`jmer.nn.carry`) starts from the state after the utterance before.
        """
        b, u, d = x.shape
        h, directions = self.hidden, 2 if self.bidirectional else 1
        # The reset, update and candidate gates are joined in one axis.
        w_in = self.param("w_in", nn.initializers.glorot_uniform(), (d, directions * 3 * h))
        w_rec = self.param("w_rec", nn.initializers.lecun_uniform(batch_axis=0), (directions, h, 3 * h))
        b_in = self.param("b_in", nn.initializers.zeros_init(), (directions, 3 * h))
        b_rec = self.param("b_rec", nn.initializers.zeros_init(), (directions, 3 * h))

        def turned(x: jax.Array) -> jax.Array:
            """Reverses the utterances of the second direction; `[U, directions, ...]`."""
            return jnp.concatenate([x[:, :1], x[::-1, 1:]], axis=1)

        # One product serves all steps.
        gates = product("nd,dg->ng", x.reshape(b * u, d), w_in, precision=self.precision)
        gates = gates.reshape(b, u, directions, 3 * h) + b_in[None, None]
        # The backward direction meets the padding first, which leaves its state at zero.
        valid = turned(jnp.broadcast_to(rows.mask.T[:, None], (u, directions, b)))
        change = jnp.diff(rows.dialogue, axis=1).T[:, None] != 0
        edge = jnp.ones((1, 1, b), jnp.bool_)
        fresh = jnp.concatenate([jnp.concatenate([edge, change]), jnp.concatenate([change, edge])], axis=1)
        fresh = turned(fresh[:, :directions])
        gates = turned(gates.transpose(1, 2, 0, 3))
        if remembers(self):
            state = self.variable(CARRY, "state", jnp.zeros, (directions, b, h), gates.dtype)
            states, _ = _forward(gates, valid, jnp.zeros_like(fresh), w_rec, b_rec, start=state.value)
            state.value = states[-1]
        else:
            states = turned(recurrence(gates, valid, fresh, w_rec, b_rec))
        states = states.transpose(2, 0, 1, 3).reshape(b, u, directions * h)
        return jnp.where(rows.mask[..., None], states, 0)


@jax.custom_vjp
def recurrence(
    gates: Float[Array, "U K B G"],
    valid: Bool[Array, "U K B"],
    fresh: Bool[Array, "U K B"],
    w: Float[Array, "K H G"],
    b: Float[Array, "K G"],
) -> Float[Array, "U K B H"]:
    """Runs K recurrences side by side and returns their states after each step.

    Here K counts directions, H the hidden units of each, and G = 3H the units of the reset, update and candidate gates.

    Autodiff would accumulate the gradient of `w` in every step, and reading and writing that sum takes longer than all
    else. Here the steps only pass the gradient of the state back, and one einsum at the end gives the gradient of `w`.

    Args:
      gates: what the inputs give to the gates.
      valid: a step that is not valid leaves its state as it is.
      fresh: such a step, and the first one, starts from a state of zeros.
      w, b: of the recurrent product.
    """
    return _forward(gates, valid, fresh, w, b)[0]


def _forward(
    gates: jax.Array,
    valid: jax.Array,
    fresh: jax.Array,
    w: jax.Array,
    b: jax.Array,
    start: jax.Array | None = None,
) -> tuple[jax.Array, tuple]:
    """Returns the states, and what the backward pass needs. `start` is the state before, `[K, B, H]`, if not zeros."""
    (_, directions, batch, _), h = gates.shape, w.shape[1]
    if start is None:
        start = jnp.zeros((directions, batch, h), gates.dtype)

    def step(state: jax.Array, inputs: tuple[jax.Array, ...]) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        given, here, anew = inputs
        state = jnp.where(anew[..., None], 0, state)
        recurrent = jnp.einsum("kbh,khg->kbg", state, w) + b[:, None]
        both = nn.sigmoid(given[..., : 2 * h] + recurrent[..., : 2 * h])
        reset, update = jnp.split(both, 2, axis=-1)
        inner = recurrent[..., 2 * h :]
        candidate = jnp.tanh(given[..., 2 * h :] + reset * inner)
        new = jnp.where(here[..., None], (1 - update) * candidate + update * state, state)
        return new, (new, both, candidate, inner)

    _, (states, *kept) = jax.lax.scan(step, start, (gates, valid, fresh))
    return states, (valid, fresh, w, states, *kept)


def _backward(residuals: tuple, given: jax.Array) -> tuple[jax.Array, None, None, jax.Array, jax.Array]:
    valid, fresh, w, states, both, candidate, inner = residuals
    before = jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]])
    before = jnp.where(fresh[..., None], 0, before)
    w_back = jnp.swapaxes(w, 1, 2)

    def step(later: jax.Array, inputs: tuple[jax.Array, ...]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        given, here, anew, before, both, candidate, inner = inputs
        here, total = here[..., None], later + given
        reset, update = jnp.split(both, 2, axis=-1)
        d_update = total * (before - candidate) * update * (1 - update)
        d_candidate = total * (1 - update) * (1 - candidate**2)
        d_reset = d_candidate * inner * reset * (1 - reset)
        # Nothing in the padding, not even NaN, reaches a gradient.
        d_gates = jnp.where(here, jnp.concatenate([d_reset, d_update, d_candidate], axis=-1), 0)
        h = update.shape[-1]
        d_recurrent = jnp.concatenate(
            [d_gates[..., : 2 * h], d_gates[..., 2 * h :] * jnp.where(here, reset, 0)], axis=-1
        )
        earlier = jnp.where(here, total * update, total) + jnp.einsum("kbg,kgh->kbh", d_recurrent, w_back)
        return jnp.where(anew[..., None], 0, earlier), (d_gates, d_recurrent)

    inputs = (given, valid, fresh, before, both, candidate, inner)
    _, (d_gates, d_recurrent) = jax.lax.scan(step, jnp.zeros_like(states[0]), inputs, reverse=True)
    d_w = jnp.einsum("ukbh,ukbg->khg", before, d_recurrent)
    return d_gates, None, None, d_w, d_recurrent.sum(axis=(0, 2))


recurrence.defvjp(_forward, _backward)
