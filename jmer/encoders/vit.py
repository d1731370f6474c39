"""The vision transformer in Flax (Dosovitskiy et al. 2021). Submodules carry the names of PyTorch checkpoints."""

from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jmer.base.products import product
from jmer.encoders.layers import LayerNames, LayerNorm, LayerShape, run_layers
from jmer.encoders.running import Running

_NAMES = LayerNames(
    query="attention.attention.query",
    key="attention.attention.key",
    value="attention.attention.value",
    out="attention.output.dense",
    attention_norm="layernorm_before",
    wide="intermediate.dense",
    narrow="output.dense",
    last_norm="layernorm_after",
)


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """The fields of config.json that shape the network, under the names that they have there."""

    model_type: str
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    image_size: int
    patch_size: int
    num_channels: int = 3
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    qkv_bias: bool = True

    @property
    def patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2


class ViT(nn.Module, kw_only=True):
    """Pictures -> hidden states, one a patch, that of the `[CLS]` token first."""

    config: ViTConfig
    running: Running = Running()

    @nn.compact
    def __call__(
        self, pictures: Float[Array, "B channels height width"], layers: tuple[int, ...]
    ) -> list[Float[Array, "B T D"]]:
        """Runs the layers up to the highest of `layers`.

        pictures: of the model's size, normalised as its processor does it.
        layers: the hidden states to return. 0 is the state before the first layer; the last is taken after the final
          normalisation.
        """
        c = self.config
        rows, channels, height, width = pictures.shape
        side = c.patch_size
        # The patches do not overlap, so that their convolution is a product.
        x = pictures.reshape(rows, channels, height // side, side, width // side, side)
        x = x.transpose(0, 2, 4, 1, 3, 5).reshape(-1, channels * side * side)
        name = "embeddings.patch_embeddings.projection"
        x = PatchProjection(features=c.hidden_size, side=side, precision=self.running.precision, name=name)(x)
        x = x.reshape(rows, -1, c.hidden_size)
        cls = self.param("embeddings.cls_token", nn.initializers.zeros, (1, 1, c.hidden_size))
        x = jnp.concatenate([jnp.broadcast_to(cls, (rows, 1, c.hidden_size)), x], axis=1)
        positions = nn.initializers.normal(0.02)
        x = x + self.param("embeddings.position_embeddings", positions, (1, c.patches + 1, c.hidden_size))
        shape = LayerShape(
            heads=c.num_attention_heads,
            inner=c.intermediate_size,
            epsilon=c.layer_norm_eps,
            norm_first=True,
            activation=c.hidden_act,
        )
        states = run_layers(
            x, layers, name="encoder.layer.{}", names=_NAMES, shape=shape, running=self.running, sees=None
        )
        if max(layers) == c.num_hidden_layers:
            states[-1] = LayerNorm(epsilon=c.layer_norm_eps, name="layernorm")(states[-1])
        return [states[layer] for layer in layers]


class PatchProjection(nn.Module, kw_only=True):
    """The linear map of each patch. Its kernel has the axes that PyTorch has, `[D, channels, side, side]`."""

    features: int
    side: int
    precision: str

    @nn.compact
    def __call__(self, patches: Float[Array, "n pixels"]) -> Float[Array, "n {self.features}"]:
        channels = patches.shape[1] // self.side**2
        size = (self.features, channels, self.side, self.side)
        kernel = self.param("kernel", nn.initializers.normal(0.02), size).reshape(self.features, -1)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return product("np,dp->nd", patches, kernel, precision=self.precision) + bias[None]
