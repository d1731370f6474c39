"""Whisper's encoder in Flax (Radford et al. 2023). Submodules carry the names that PyTorch checkpoints give them.

Unlike published code, the network takes sounds of less than 30 s as they are. A sound in a padded batch gets the same
hidden states as alone, because the convolutions and the attention leave the padding out.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jmer.encoders.layers import Attention, LayerNorm, frame_mask


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
        x = jnp.where(valid, nn.gelu(x, approximate=False), 0)
        x = nn.Conv(c.d_model, (3,), (2,), padding=[(1, 1)], name="conv2")(x)
        x = nn.gelu(x, approximate=False)
        mask = frame_mask(x, (length + 1) // 2)
        positions = nn.Embed(c.max_source_positions, c.d_model, name="embed_positions")
        x = x + positions(jnp.arange(x.shape[1]))[None]
        states = [x]
        for i in range(max(layers)):
            x = WhisperLayer(config=c, name=f"layers.{i}")(x, mask=mask)
            states.append(x)
        norm = LayerNorm(epsilon=1e-5, name="layer_norm")
        if max(layers) == c.encoder_layers:
            states[-1] = norm(x)
        return [states[layer] for layer in layers], mask


class WhisperLayer(nn.Module, kw_only=True):
    """One transformer layer; each half normalises its input."""

    config: WhisperConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], *, mask: Bool[Array, "B T"]) -> Float[Array, "B T D"]:
        c = self.config
        y = LayerNorm(epsilon=1e-5, name="self_attn_layer_norm")(x)
        x = x + Attention(heads=c.encoder_attention_heads, key_bias=False, name="self_attn")(y, mask=mask)
        y = nn.Dense(c.encoder_ffn_dim, name="fc1")(LayerNorm(epsilon=1e-5, name="final_layer_norm")(x))
        return x + nn.Dense(c.d_model, name="fc2")(nn.gelu(y, approximate=False))
