"""Speech encoders in Flax: wav2vec 2.0, HuBERT, WavLM, and Whisper's encoder. Modules have the published names.

Baevski et al. 2020; Hsu et al. 2021; Chen et al. 2022; Radford et al. 2023. transformers has the first in Flax only in
its large form (layer norm, before the layers), and the others not, or for 30 s at a time.

A padded batch gives of each wave what that wave gives alone: norms over time, convolutions and attention leave the
padding out. Not so published code, whose base models normalise over the padding too.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jmer.base.errors import UserError

# Flax's own default computes E[x^2] - E[x]^2, which loses digits.
_LayerNorm = functools.partial(nn.LayerNorm, use_fast_variance=False)
_SAME = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat")  # model types with one of these architectures


class Wav2Vec2Config(NamedTuple):
    """The fields of config.json that shape the network, under their names there."""

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

    def frames(self, samples: Any) -> Any:
        """How many frames come of so many samples; an int or an array."""
        for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples


class WhisperConfig(NamedTuple):
    """As `Wav2Vec2Config`."""

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


def parse_config(config: dict[str, Any], *, where: object) -> Wav2Vec2Config | WhisperConfig:
    """Reads a config.json.

    Raises:
      UserError: the architecture is none of these, or a form of it that is not covered.
    """
    kind = config.get("model_type")
    if kind != "whisper" and kind not in _SAME:
        raise UserError(f"{where}: model_type is '{kind}'; expected whisper, {', '.join(_SAME)}")
    covered = {
        "conv_pos_batch_norm": False,
        "add_adapter": False,
        "adapter_attn_dim": None,
        "feat_extract_activation": "gelu",
        "hidden_act": "gelu",
        "activation_function": "gelu",
    }
    for name, value in covered.items():
        if config.get(name, value) != value:
            raise UserError(f"{where}: {name} is {config[name]!r}; jmer covers {value!r} only")
    cls = WhisperConfig if kind == "whisper" else Wav2Vec2Config
    if missing := [name for name in cls._fields if name not in config and name not in cls._field_defaults]:
        raise UserError(f"{where}: {missing[0]} is missing; fetch the model again")
    given: dict[str, Any] = {name: config[name] for name in cls._fields if name in config}
    given |= {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    return cls(**given)


class Wav2Vec2(nn.Module):
    """Waves `[B, T]` and their lengths `[B]` -> the hidden states of `layers`, `[B, T', D]` each, and their mask."""

    config: Wav2Vec2Config

    @nn.compact
    def __call__(
        self, wave: jax.Array, length: jax.Array, layers: tuple[int, ...]
    ) -> tuple[list[jax.Array], jax.Array]:
        c = self.config
        x = wave[:, :, None]
        for i, (dim, kernel, stride) in enumerate(zip(c.conv_dim, c.conv_kernel, c.conv_stride, strict=True)):
            name = f"feature_extractor.conv_layers.{i}"
            x = nn.Conv(dim, (kernel,), (stride,), "VALID", use_bias=c.conv_bias, name=f"{name}.conv")(x)
            length = (length - kernel) // stride + 1
            if c.feat_extract_norm == "layer":
                x = _LayerNorm(epsilon=1e-5, name=f"{name}.layer_norm")(x)
            elif i == 0:
                x = TimeNorm(name=f"{name}.layer_norm")(x, _mask(x, length))
            x = nn.gelu(x, approximate=False)
        mask = _mask(x, length)
        if c.feat_proj_layer_norm:
            x = _LayerNorm(epsilon=c.layer_norm_eps, name="feature_projection.layer_norm")(x)
        x = nn.Dense(c.hidden_size, name="feature_projection.projection")(x)
        x = jnp.where(mask[..., None], x, 0)

        k = c.num_conv_pos_embeddings
        positions = nn.Conv(
            c.hidden_size,
            (k,),
            padding=[(k // 2, (k - 1) // 2)],
            feature_group_count=c.num_conv_pos_embedding_groups,
            name="encoder.pos_conv_embed.conv",
        )(x)
        x = x + nn.gelu(positions, approximate=False)
        norm = _LayerNorm(epsilon=c.layer_norm_eps, name="encoder.layer_norm")
        if not c.do_stable_layer_norm:
            x = norm(x)
        states = [x]
        bias = None
        if c.model_type == "wavlm":
            bias = RelativeBias(c, name="encoder.layers.0.attention.rel_attn_embed")(x.shape[1])
        for i in range(max(layers)):
            x = Layer(c, name=f"encoder.layers.{i}")(x, mask, bias)
            states.append(x)
        if c.do_stable_layer_norm and max(layers) == c.num_hidden_layers:
            states[-1] = norm(x)
        return [states[layer] for layer in layers], mask


class TimeNorm(nn.Module):
    """Each channel is normalised over its frames (a group norm of one channel a group)."""

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        there = mask[..., None]
        mean = x.mean(axis=1, keepdims=True, where=there)
        variance = ((x - mean) ** 2).mean(axis=1, keepdims=True, where=there)
        return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * scale[None, None] + bias[None, None]


class RelativeBias(nn.Module):
    """WavLM's bias of the attention by distance, `[H, T', T']`; exact nearby, in logarithmic steps further off."""

    config: Wav2Vec2Config

    @nn.compact
    def __call__(self, frames: int) -> jax.Array:
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


class Attention(nn.Module):
    """Attention over the frames of a wave; in WavLM, what stands at a frame decides how much distance counts there."""

    heads: int
    key_bias: bool = True
    gated: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, bias: jax.Array | None) -> jax.Array:
        size = x.shape[-1] // self.heads

        def project(name: str, use_bias: bool = True) -> jax.Array:
            return nn.Dense(x.shape[-1], use_bias=use_bias, name=name)(x).reshape(*x.shape[:2], self.heads, size)

        query, key, value = project("q_proj"), project("k_proj", self.key_bias), project("v_proj")
        pairs = jnp.where(mask, 0.0, -jnp.inf)[:, None, None, :]
        if self.gated:
            assert bias is not None
            gate = nn.Dense(8, name="gru_rel_pos_linear")(x.reshape(*x.shape[:2], self.heads, size))
            gate = jax.nn.sigmoid(gate.reshape(*gate.shape[:-1], 2, 4).sum(axis=-1))  # [B, T', H, 2]
            constant = self.param("gru_rel_pos_const", nn.initializers.ones, (1, self.heads, 1, 1))
            share = gate[..., 0] * (gate[..., 1] * constant[:, :, 0, 0][:, None] - 1) + 2
            pairs = pairs + jnp.einsum("bqh,hqk->bhqk", share, bias)
        logits = jnp.einsum("bqhd,bkhd->bhqk", query * size**-0.5, key) + pairs
        out = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(logits), value)
        return nn.Dense(x.shape[-1], name="out_proj")(out.reshape(x.shape))


class Layer(nn.Module):
    config: Wav2Vec2Config

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, bias: jax.Array | None) -> jax.Array:
        c = self.config
        attention = Attention(c.num_attention_heads, gated=c.model_type == "wavlm", name="attention")
        norm = _LayerNorm(epsilon=c.layer_norm_eps, name="layer_norm")
        last = _LayerNorm(epsilon=c.layer_norm_eps, name="final_layer_norm")
        wide = nn.Dense(c.intermediate_size, name="feed_forward.intermediate_dense")
        narrow = nn.Dense(c.hidden_size, name="feed_forward.output_dense")

        def feed_forward(x: jax.Array) -> jax.Array:
            return narrow(nn.gelu(wide(x), approximate=False))

        if c.do_stable_layer_norm:
            x = x + attention(norm(x), mask, bias)
            return x + feed_forward(last(x))
        x = norm(x + attention(x, mask, bias))
        return last(x + feed_forward(x))


class Whisper(nn.Module):
    """Log-mel frames `[B, T, D]` and lengths `[B]` -> hidden states of `layers`, `[B, T', D']` each, and their mask.

    T is even; two frames become one of the T', which are at most those of 30 s.
    """

    config: WhisperConfig

    @nn.compact
    def __call__(self, mel: jax.Array, length: jax.Array, layers: tuple[int, ...]) -> tuple[list[jax.Array], jax.Array]:
        c = self.config
        there = _mask(mel, length)[..., None]
        x = nn.Conv(c.d_model, (3,), padding=[(1, 1)], name="conv1")(jnp.where(there, mel, 0))
        x = jnp.where(there, nn.gelu(x, approximate=False), 0)
        x = nn.Conv(c.d_model, (3,), (2,), padding=[(1, 1)], name="conv2")(x)
        x = nn.gelu(x, approximate=False)
        mask = _mask(x, (length + 1) // 2)
        positions = nn.Embed(c.max_source_positions, c.d_model, name="embed_positions")
        x = x + positions(jnp.arange(x.shape[1]))[None]
        states = [x]
        for i in range(max(layers)):
            x = WhisperLayer(c, name=f"layers.{i}")(x, mask)
            states.append(x)
        norm = _LayerNorm(epsilon=1e-5, name="layer_norm")
        if max(layers) == c.encoder_layers:
            states[-1] = norm(x)
        return [states[layer] for layer in layers], mask


class WhisperLayer(nn.Module):
    config: WhisperConfig

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        c = self.config
        y = _LayerNorm(epsilon=1e-5, name="self_attn_layer_norm")(x)
        x = x + Attention(c.encoder_attention_heads, key_bias=False, name="self_attn")(y, mask, None)
        y = nn.Dense(c.encoder_ffn_dim, name="fc1")(_LayerNorm(epsilon=1e-5, name="final_layer_norm")(x))
        return x + nn.Dense(c.d_model, name="fc2")(nn.gelu(y, approximate=False))


def _mask(x: jax.Array, length: jax.Array) -> jax.Array:
    """`[B, T]`, of the first `length` frames, of which there is always one."""
    return jnp.arange(x.shape[1])[None] < jnp.maximum(length, 1)[:, None]
