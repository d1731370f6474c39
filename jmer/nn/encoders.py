"""Encoders over the utterances of a dialogue: `[B, U, D], mask [B, U] -> [B, U, D']`.

None looks across dialogues, and what stands in padding reaches nothing.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp


class BiGRU(nn.Module):
    """Bidirectional GRU; Cho et al. 2014, with the reset gate after the recurrent product as in cuDNN and PyTorch.

    hidden: units a direction; the output has `2 * hidden` features, forward first.
    """

    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        b, u, d = x.shape
        chex.assert_shape(mask, (b, u))
        h = self.hidden
        # k: the two directions; g: reset, update and candidate gates, joined.
        w_in = self.param("w_in", nn.initializers.glorot_uniform(), (d, 2 * 3 * h))
        w_rec = self.param("w_rec", nn.initializers.lecun_uniform(batch_axis=0), (2, h, 3 * h))
        b_in = self.param("b_in", nn.initializers.zeros_init(), (2, 3 * h))
        b_rec = self.param("b_rec", nn.initializers.zeros_init(), (2, 3 * h))

        gates = (x.reshape(b * u, d) @ w_in).reshape(b, u, 2, 3 * h) + b_in[None, None]  # one product for all steps
        # The backward direction reads the flipped sequence; its padding comes first and leaves the state at zero.
        forward_backward = jnp.stack([gates[:, :, 0], gates[:, ::-1, 1]])
        masks = jnp.stack([mask, mask[:, ::-1]])

        def step(state: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            gate_in, valid = inputs  # [2, B, 3H], [2, B]
            gate_rec = jnp.einsum("kbh,khg->kbg", state, w_rec) + b_rec[:, None]
            reset, update = jnp.split(nn.sigmoid(gate_in[..., : 2 * h] + gate_rec[..., : 2 * h]), 2, axis=-1)
            candidate = jnp.tanh(gate_in[..., 2 * h :] + reset * gate_rec[..., 2 * h :])
            new = jnp.where(valid[..., None], (1 - update) * candidate + update * state, state)
            return new, new

        _, states = jax.lax.scan(
            step, jnp.zeros((2, b, h), x.dtype), (jnp.moveaxis(forward_backward, 2, 0), jnp.moveaxis(masks, 2, 0))
        )
        forward, backward = jnp.moveaxis(states, 0, 2)  # [2, B, U, H]
        out = jnp.concatenate([forward, backward[:, ::-1]], axis=-1)
        return jnp.where(mask[..., None], out, 0)
