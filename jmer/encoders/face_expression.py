"""The face-expression network of face-api in Flax, with its weights, which jmer ships.

The network is a CNN of 0.3 million parameters. It gives the probabilities of 7 expressions, and the 256-dimensional
feature from which they are computed. Architecture and weights: `@vladmandic/face-api` 1.7.15, MIT licence
(`weights/LICENSE.face_api`). Parameters keep the names of the published manifest, so that the tree of the file is the
tree of the module.
"""

import functools
import hashlib
import json
import math
from pathlib import Path
from typing import Any, cast

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from jaxtyping import Array, Float, UInt8

from jmer.base.errors import UserError

EXPRESSIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
CROP_SIZE = 112  # pixels
FEATURE_DIM = 256
# The hash of the manifest followed by the weights. It is part of the fingerprint of extractors that use the network.
WEIGHTS_SHA256 = "e3f06ccaf0631d299b3c92b0bbf997e4f018f1bef49c5285721bebc48aea8f55"

_FOLDER = Path(__file__).parent / "weights"
_MEAN_RGB = (122.782, 117.001, 104.298)
_CHANNELS = (32, 64, 128, 256)

# By default a GPU multiplies in TF32, which would make features depend on the machine. The network is small, so full
# float32 costs little.
_EXACT = jax.lax.Precision.HIGHEST


class _Conv(nn.Module, kw_only=True):
    """A 3x3 convolution with TensorFlow's SAME padding, so that height and width are divided by the stride."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "B height width channels"]) -> Float[Array, "B rows columns features"]:
        filters = self.param("filters", nn.initializers.he_normal(), (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x = jax.lax.conv_general_dilated(
            x, filters, (self.stride,) * 2, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=_EXACT
        )
        return x + bias.reshape(1, 1, 1, -1)


class _SeparableConv(nn.Module, kw_only=True):
    """A 3x3 filter for each channel, then a 1x1 convolution; shapes as in `_Conv`."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "B height width channels"]) -> Float[Array, "B rows columns features"]:
        channels = x.shape[-1]
        depthwise = self.param("depthwise_filter", nn.initializers.he_normal(), (3, 3, channels, 1))
        pointwise = self.param("pointwise_filter", nn.initializers.he_normal(), (1, 1, channels, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        # On a CPU the whole network is 5 times as fast with nine shifted products as with XLA's grouped convolution.
        pads = jax.lax.padtype_to_pads(x.shape[1:3], (3, 3), (self.stride,) * 2, "SAME")
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
        rows, columns = (size - 2 for size in x.shape[1:3])
        shifted = [
            x[:, i : i + rows : self.stride, j : j + columns : self.stride] * depthwise[i, j].reshape(1, 1, 1, -1)
            for i in range(3)
            for j in range(3)
        ]
        x = functools.reduce(jnp.add, shifted)
        return jnp.einsum("nhwc,cd->nhwd", x, pointwise[0, 0], precision=_EXACT) + bias.reshape(1, 1, 1, -1)


class _DenseBlock(nn.Module, kw_only=True):
    """Four convolutions, of which the first halves height and width. Each later one reads the sum of the earlier ones.

    features: number of output channels.
    first: the block is the network's first, whose first convolution is not separable.
    """

    features: int
    first: bool

    @nn.compact
    def __call__(self, x: Float[Array, "B height width channels"]) -> Float[Array, "B rows columns features"]:
        layer = _Conv if self.first else _SeparableConv
        total = nn.relu(layer(features=self.features, stride=2, name="conv0")(x))
        for i in (1, 2, 3):
            total = total + _SeparableConv(features=self.features, name=f"conv{i}")(nn.relu(total))
        return nn.relu(total)


class _Classifier(nn.Module):
    """The linear layer that gives the logits."""

    @nn.compact
    def __call__(self, x: Float[Array, "B D"]) -> Float[Array, "B C"]:
        weights = self.param("weights", nn.initializers.lecun_normal(), (x.shape[-1], len(EXPRESSIONS)))
        bias = self.param("bias", nn.initializers.zeros, (len(EXPRESSIONS),))
        return jnp.dot(x, weights, precision=_EXACT) + bias.reshape(1, -1)


class FaceExpressionNet(nn.Module):
    """RGB crops of faces -> features, and logits in the order of `EXPRESSIONS`."""

    @nn.compact
    def __call__(self, crops: UInt8[Array, "B 112 112 3"]) -> tuple[Float[Array, "B 256"], Float[Array, "B 7"]]:
        chex.assert_shape(crops, (None, CROP_SIZE, CROP_SIZE, 3))
        chex.assert_type(crops, jnp.uint8)
        x = (crops.astype(jnp.float32) - jnp.array(_MEAN_RGB, jnp.float32).reshape(1, 1, 1, 3)) / 255
        for i, channels in enumerate(_CHANNELS):
            x = _DenseBlock(features=channels, first=i == 0, name=f"dense{i}")(x)
        feature = x.mean(axis=(1, 2))  # the original pools 7x7 pixels, which is all that is left of 112x112
        return feature, _Classifier(name="fc")(feature)


def load_weights(folder: Path = _FOLDER) -> dict[str, Any]:
    """Returns the network's parameters as float32 numpy arrays, from face-api's file of quantised uint8 values.

    Raises:
      UserError: a file in `folder` is missing, or differs from the file that jmer ships.
    """
    manifest, weights = folder / "face_expression_model-weights_manifest.json", folder / "face_expression_model.bin"
    for path in (manifest, weights):
        if not path.is_file():
            raise UserError(f"{path}: face-expression weights not found; reinstall jmer or restore the file from git")
    text, packed = manifest.read_bytes(), weights.read_bytes()
    if (digest := hashlib.sha256(text + packed).hexdigest()) != WEIGHTS_SHA256:
        raise UserError(
            f"{weights}: is damaged ({len(packed)} bytes; its SHA-256 with the manifest is {digest[:12]}..., expected "
            f"{WEIGHTS_SHA256[:12]}...); reinstall jmer or restore both files from git"
        )

    params, offset = {}, 0
    for entry in json.loads(text)[0]["weights"]:
        quantized = entry.get("quantization", {"dtype": "float32", "scale": 1.0, "min": 0.0})
        raw = np.frombuffer(packed, quantized["dtype"], count=math.prod(entry["shape"]), offset=offset)
        offset += raw.nbytes
        # Computed in float64 and rounded once, as JavaScript does.
        values = (raw * np.float64(quantized["scale"]) + quantized["min"]).astype(np.float32)
        params[entry["name"]] = values.reshape(entry["shape"])
    return unflatten_dict(params, sep="/")


@jax.jit
def encode(
    params: dict[str, Any], crops: UInt8[Array, "B 112 112 3"]
) -> tuple[Float[Array, "B 256"], Float[Array, "B 7"]]:
    """Returns the features and the probabilities of RGB crops. Compiled once for each B."""
    feature, logits = cast(tuple[jax.Array, jax.Array], FaceExpressionNet().apply({"params": params}, crops))
    return feature, jax.nn.softmax(logits)


@functools.cache
def _shipped_weights() -> dict[str, Any]:
    return jax.device_put(load_weights())


def expressions(
    crops: UInt8[np.ndarray, "B 112 112 3"],
) -> tuple[Float[np.ndarray, "B 256"], Float[np.ndarray, "B 7"]]:
    """Runs the network with the weights that jmer ships.

    Each new number of crops is compiled anew, which takes seconds; pad batches to a few sizes. A crop's result does not
    depend on the other crops.

    crops: RGB, one face each with a small margin around it. The caller crops squares. (face-api pads other shapes to a
      centred square before scaling.)

    Returns: features float32, and probabilities float32 in the order of `EXPRESSIONS`.
    """
    feature, probs = encode(_shipped_weights(), jnp.asarray(crops))
    return np.asarray(feature), np.asarray(probs)
