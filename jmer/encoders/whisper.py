"""Whisper's encoder in Flax (Radford et al. 2023). Submodules carry the names that PyTorch checkpoints give them.

Unlike published code, the network takes sounds of less than 30 s as they are. A sound in a padded batch gets the same
hidden states as alone, because the convolutions and the attention leave the padding out.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jmer.encoders.layers import LayerNames, LayerNorm, LayerShape, Sees, frame_mask, gelu, run_layers
from jmer.encoders.running import Running

_NAMES = LayerNames(
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    value="self_attn.v_proj",
    out="self_attn.out_proj",
    attention_norm="self_attn_layer_norm",
    wide="fc1",
    narrow="fc2",
    last_norm="final_layer_norm",
)


@dataclass(frozen=True, kw_only=True)
class WhisperConfig:
    """The fields of config.json that shape the encoder, under the names that they have there."""

    d_model: int
    encoder_layers: int
    encoder_attention_heads: int
    encoder_ffn_dim: int
    num_mel_bins: int
    max_source_positions: int

    @property
    def hidden_size(self) -> int:
        return self.d_model

    @property
    def num_hidden_layers(self) -> int:
        return self.encoder_layers


class Whisper(nn.Module, kw_only=True):
    """Log-mel spectrograms -> hidden states."""

    config: WhisperConfig
    running: Running = Running()

    @nn.compact
    def __call__(
        self, mel: Float[Array, "B T mels"], length: Int[Array, " B"], layers: tuple[int, ...]
    ) -> tuple[list[Float[Array, "B frames D"]], Bool[Array, "B frames"]]:
        """Runs the layers up to the highest of `layers`.

        mel: T is even and at most 3,000 frames of 10 ms. Two of them become one frame of the hidden states.
        length: the number of valid frames of each spectrogram.
        layers: the hidden states to return. 0 is the state before the first layer.

        Returns: the hidden state of each of `layers`, and the mask of the frames, which all of them share.
        """
        c = self.config
        valid = frame_mask(mel, length)[..., None]
        x = nn.Conv(c.d_model, (3,), padding=[(1, 1)], name="conv1")(jnp.where(valid, mel, 0))
        x = jnp.where(valid, gelu(x), 0)
        x = gelu(nn.Conv(c.d_model, (3,), (2,), padding=[(1, 1)], name="conv2")(x))
        mask = frame_mask(x, (length + 1) // 2)
        positions = nn.Embed(c.max_source_positions, c.d_model, name="embed_positions")
        x = x + positions(jnp.arange(x.shape[1]))[None]
        shape = LayerShape(
            heads=c.encoder_attention_heads, inner=c.encoder_ffn_dim, epsilon=1e-5, norm_first=True, key_bias=False
        )
        sees = Sees(valid=mask)
        states = run_layers(x, layers, name="layers.{}", names=_NAMES, shape=shape, running=self.running, sees=sees)
        norm = LayerNorm(epsilon=1e-5, name="layer_norm")
        if max(layers) == c.encoder_layers:
            states[-1] = norm(states[-1])
        return [states[layer] for layer in layers], mask
