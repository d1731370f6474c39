"""The face-expression network of face-api in Flax, with the weights that jmer ships.

A 0.3 M parameter CNN that gives 7 expression probabilities and the 256-d feature below them. Architecture and weights:
`@vladmandic/face-api` 1.7.15, MIT (`weights/LICENSE.face_api`). Parameters keep the names of the published manifest, so
the file's tree is the module's tree.
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

from jmer.base.errors import UserError

EXPRESSIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
CROP_SIZE = 112  # pixels
FEATURE_DIM = 256
# Of the manifest and the weights, one after the other. Part of the fingerprint of extractors that use the network.
WEIGHTS_SHA256 = "e3f06ccaf0631d299b3c92b0bbf997e4f018f1bef49c5285721bebc48aea8f55"

_FOLDER = Path(__file__).parent / "weights"
_MEAN_RGB = (122.782, 117.001, 104.298)
_CHANNELS = (32, 64, 128, 256)

# A GPU's default for float32 is TF32, which would make features depend on the machine; the network is small enough.
_EXACT = jax.lax.Precision.HIGHEST


class _Conv(nn.Module):
    """`[N, height, width, channels]` -> `[N, height / stride, width / stride, features]`, 3x3, TensorFlow's SAME."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        filters = self.param("filters", nn.initializers.he_normal(), (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x = jax.lax.conv_general_dilated(
            x, filters, (self.stride,) * 2, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=_EXACT
        )
        return x + bias.reshape(1, 1, 1, -1)


class _SeparableConv(nn.Module):
    """As `_Conv`: a 3x3 filter for each channel, then a 1x1 convolution."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        depthwise = self.param("depthwise_filter", nn.initializers.he_normal(), (3, 3, channels, 1))
        pointwise = self.param("pointwise_filter", nn.initializers.he_normal(), (1, 1, channels, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        # XLA's grouped convolution makes the whole network 5 times slower on CPU than nine shifted products do.
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


class _DenseBlock(nn.Module):
    """Halves height and width; each later layer sees the sum of those before it."""

    features: int
    first: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        layer = _Conv if self.first else _SeparableConv
        total = nn.relu(layer(self.features, stride=2, name="conv0")(x))
        for i in (1, 2, 3):
            total = total + _SeparableConv(self.features, name=f"conv{i}")(nn.relu(total))
        return nn.relu(total)


class _Classifier(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        weights = self.param("weights", nn.initializers.lecun_normal(), (x.shape[-1], len(EXPRESSIONS)))
        bias = self.param("bias", nn.initializers.zeros, (len(EXPRESSIONS),))
        return jnp.dot(x, weights, precision=_EXACT) + bias.reshape(1, -1)


class FaceExpressionNet(nn.Module):
    """`[N, 112, 112, 3]` uint8 RGB crops -> `[N, 256]` features and `[N, 7]` logits in the order of `EXPRESSIONS`."""

    @nn.compact
    def __call__(self, crops: jax.Array) -> tuple[jax.Array, jax.Array]:
        chex.assert_shape(crops, (None, CROP_SIZE, CROP_SIZE, 3))
        chex.assert_type(crops, jnp.uint8)
        x = (crops.astype(jnp.float32) - jnp.array(_MEAN_RGB, jnp.float32).reshape(1, 1, 1, 3)) / 255
        for i, channels in enumerate(_CHANNELS):
            x = _DenseBlock(channels, first=i == 0, name=f"dense{i}")(x)
        feature = x.mean(axis=(1, 2))  # the original's 7x7 average pool: from 112 pixels exactly 7x7 remain
        return feature, _Classifier(name="fc")(feature)


def load_weights(folder: Path = _FOLDER) -> dict[str, Any]:
    """The network's parameters, float32 numpy arrays, from the uint8-quantised file of face-api.

    Raises:
      UserError: a file in `folder` is missing or is not the shipped one, bit for bit.
    """
    manifest, weights = folder / "face_expression_model-weights_manifest.json", folder / "face_expression_model.bin"
    for path in (manifest, weights):
        if not path.is_file():
            raise UserError(f"{path}: face-expression weights not found; reinstall jmer or restore the file from git")
    text, packed = manifest.read_bytes(), weights.read_bytes()
    if (digest := hashlib.sha256(text + packed).hexdigest()) != WEIGHTS_SHA256:
        raise UserError(
            f"{weights}: damaged ({len(packed)} bytes; with its manifest SHA-256 {digest[:12]}..., expected "
            f"{WEIGHTS_SHA256[:12]}...); reinstall jmer or restore both files from git"
        )

    params, offset = {}, 0
    for entry in json.loads(text)[0]["weights"]:
        quantized = entry.get("quantization", {"dtype": "float32", "scale": 1.0, "min": 0.0})
        raw = np.frombuffer(packed, quantized["dtype"], count=math.prod(entry["shape"]), offset=offset)
        offset += raw.nbytes
        # In float64 and rounded once, as JavaScript does it.
        values = (raw * np.float64(quantized["scale"]) + quantized["min"]).astype(np.float32)
        params[entry["name"]] = values.reshape(entry["shape"])
    return unflatten_dict(params, sep="/")


@jax.jit
def encode(params: dict[str, Any], crops: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`[N, 112, 112, 3]` uint8 RGB -> features `[N, 256]`, probabilities `[N, 7]`. Compiled once for each N."""
    feature, logits = cast(tuple[jax.Array, jax.Array], FaceExpressionNet().apply({"params": params}, crops))
    return feature, jax.nn.softmax(logits)


@functools.cache
def _shipped_weights() -> dict[str, Any]:
    return jax.device_put(load_weights())


def expressions(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the faces express, by the weights shipped with jmer.

    Every new N compiles anew (seconds): pad batches to a few sizes. A crop's result does not depend on its neighbours.

    Args:
      crops: `[N, 112, 112, 3]` uint8 RGB, one face each with a little room around it. They are to be square as they
        come: the original pads other shapes to a centred square before it scales them; here the caller does.

    Returns:
      Features `[N, 256]` float32, and probabilities `[N, 7]` float32 in the order of `EXPRESSIONS`.
    """
    feature, probs = encode(_shipped_weights(), jnp.asarray(crops))
    return np.asarray(feature), np.asarray(probs)
