"""wav2vec 2.0, HuBERT, WavLM and UniSpeech in Flax. Submodules carry the names that PyTorch checkpoints give them.

Baevski et al. 2020; Hsu et al. 2021; Chen et al. 2022; Wang et al. 2021. The Flax models of transformers cover only the
large variant of wav2vec 2.0 (layer norm in the convolutions, normalisation before each layer).

A wave in a padded batch gets the same hidden states as alone: norms over time, convolutions and attention leave the
padding out. Published code differs for the base models, whose group norm averages over the padding too.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jmer.encoders.layers import LayerNames, LayerNorm, LayerShape, Sees, frame_mask, gelu, run_layers
from jmer.encoders.running import Running

_NAMES = LayerNames(
    query="attention.q_proj",
    key="attention.k_proj",
    value="attention.v_proj",
    out="attention.out_proj",
    attention_norm="layer_norm",
    wide="feed_forward.intermediate_dense",
    narrow="feed_forward.output_dense",
    last_norm="final_layer_norm",
    gate="attention.gru_rel_pos",
)

# The values of `model_type` in config.json that this network covers.
MODEL_TYPES = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat")


@dataclass(frozen=True, kw_only=True)
class Wav2Vec2Config:
    """The fields of config.json that shape the network, under the names that they have there."""

    model_type: str
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    conv_dim: tuple[int, ...]
    conv_kernel: tuple[int, ...]
    conv_stride: tuple[int, ...]
    conv_bias: bool
    feat_extract_norm: str
    num_conv_pos_embeddings: int
    num_conv_pos_embedding_groups: int
    do_stable_layer_norm: bool
    layer_norm_eps: float
    feat_proj_layer_norm: bool = True
    num_buckets: int = 320
    max_bucket_distance: int = 800

    def frames(self, samples: int) -> int:
        """Returns the number of frames that the convolutions make of a wave of that many samples."""
        for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples


class Wav2Vec2(nn.Module, kw_only=True):
    """Waves -> hidden states."""

    config: Wav2Vec2Config
    running: Running = Running()

    @nn.compact
    def __call__(
        self, wave: Float[Array, "B T"], length: Int[Array, " B"], layers: tuple[int, ...]
    ) -> tuple[list[Float[Array, "B frames D"]], Bool[Array, "B frames"]]:
        """Runs the layers up to the highest of `layers`.

        wave: 16 kHz mono. The values beyond `length` do not matter.
        length: the number of valid samples of each wave.
        layers: the hidden states to return. 0 is the state before the first layer.

        Returns: the hidden state of each of `layers`, and the mask of the frames, which all of them share.
        """
        c = self.config
        x = wave[:, :, None]
        for i, (dim, kernel, stride) in enumerate(zip(c.conv_dim, c.conv_kernel, c.conv_stride, strict=True)):
            name = f"feature_extractor.conv_layers.{i}"
            x = nn.Conv(dim, (kernel,), (stride,), "VALID", use_bias=c.conv_bias, name=f"{name}.conv")(x)
            length = (length - kernel) // stride + 1
            if c.feat_extract_norm == "layer":
                x = LayerNorm(epsilon=1e-5, name=f"{name}.layer_norm")(x)
            elif i == 0:
                x = TimeNorm(name=f"{name}.layer_norm")(x, mask=frame_mask(x, length))
            x = gelu(x)
        mask = frame_mask(x, length)
        if c.feat_proj_layer_norm:
            x = LayerNorm(epsilon=c.layer_norm_eps, name="feature_projection.layer_norm")(x)
        x = nn.Dense(c.hidden_size, name="feature_projection.projection")(x)
        x = jnp.where(mask[..., None], x, 0)

        kernel = c.num_conv_pos_embeddings
        positions = nn.Conv(
            c.hidden_size,
            (kernel,),
            padding=[(kernel // 2, (kernel - 1) // 2)],
            feature_group_count=c.num_conv_pos_embedding_groups,
            name="encoder.pos_conv_embed.conv",
        )(x)
        x = x + gelu(positions)
        norm = LayerNorm(epsilon=c.layer_norm_eps, name="encoder.layer_norm")
        if not c.do_stable_layer_norm:
            x = norm(x)
        bias = None
        if c.model_type == "wavlm":
            bias = RelativeBias(config=c, name="encoder.layers.0.attention.rel_attn_embed")(x.shape[1])
        shape = LayerShape(
            heads=c.num_attention_heads,
            inner=c.intermediate_size,
            epsilon=c.layer_norm_eps,
            norm_first=c.do_stable_layer_norm,
            gated=c.model_type == "wavlm",
        )
        states = run_layers(
            x,
            layers,
            name="encoder.layers.{}",
            names=_NAMES,
            shape=shape,
            running=self.running,
            sees=Sees(valid=mask),
            bias=bias,
        )
        if c.do_stable_layer_norm and max(layers) == c.num_hidden_layers:
            states[-1] = norm(states[-1])
        return [states[layer] for layer in layers], mask


class TimeNorm(nn.Module):
    """Normalises each channel over the valid frames. It is a group norm whose groups are single channels."""

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], *, mask: Bool[Array, "B T"]) -> Float[Array, "B T D"]:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        valid = mask[..., None]
        mean = x.mean(axis=1, keepdims=True, where=valid)
        variance = ((x - mean) ** 2).mean(axis=1, keepdims=True, where=valid)
        return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * scale[None, None] + bias[None, None]


class RelativeBias(nn.Module, kw_only=True):
    """WavLM's learned attention bias for each distance between two frames (as in T5, Raffel et al. 2020).

    Each short distance has a bias of its own. Longer distances share biases in logarithmic steps.
    """

    config: Wav2Vec2Config

    @nn.compact
    def __call__(self, frames: int) -> Float[Array, "H {frames} {frames}"]:
        c = self.config
        half = c.num_buckets // 2
        exact = half // 2
        distance = np.arange(1 - frames, frames)
        far = np.log(np.maximum(np.abs(distance), 1) / exact) / np.log(c.max_bucket_distance / exact)
        bucket = np.minimum(exact + (far * (half - exact)).astype(int), half - 1)
        bucket = np.where(np.abs(distance) < exact, np.abs(distance), bucket) + half * (distance > 0)
        table = self.param("embedding", nn.initializers.normal(), (c.num_buckets, c.num_attention_heads))
        here = jnp.arange(frames)
        return table[bucket].T[:, here[None] - here[:, None] + frames - 1]
