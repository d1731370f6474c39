"""Writes tiny ONNX files for the tests, in the wire format of protobuf (onnx.proto of ONNX).

The onnx package is no dependency of jmer. Its checker, in version 1.23, accepts the files, and its reference evaluator
agrees with OpenCV.
"""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

YUNET_STRIDES = (8, 16, 32)


def write_onnx(
    path: Path,
    *,
    nodes: Sequence[bytes],
    weights: Mapping[str, np.ndarray],
    inputs: Mapping[str, Sequence[int]],
    outputs: Mapping[str, Sequence[int]],
) -> Path:
    """Writes a model. nodes: from `node`. inputs, outputs: name -> shape, in which 0 is an axis of any length."""
    graph = b"".join(_field(1, one) for one in nodes) + _field(2, b"tiny")
    graph += b"".join(_field(5, _tensor(name, value)) for name, value in weights.items())
    graph += b"".join(_field(11, _value_info(name, shape)) for name, shape in inputs.items())
    graph += b"".join(_field(12, _value_info(name, shape)) for name, shape in outputs.items())
    opset = _field(1, b"") + _field(2, 13)
    path.write_bytes(_field(1, 8) + _field(2, b"jmer-tests") + _field(7, graph) + _field(8, opset))
    return path


def node(kind: str, inputs: Sequence[str], output: str, **attributes: int | Sequence[int]) -> bytes:
    """Returns a node of operator `kind`, which has the name of its output."""
    out = b"".join(_field(1, name.encode()) for name in inputs) + _field(2, output.encode())
    out += _field(3, output.encode()) + _field(4, kind.encode())
    for name, value in attributes.items():
        numbers, kind_of_value = ([value], 2) if isinstance(value, int) else (list(value), 7)
        fields = b"".join(_field(3 if kind_of_value == 2 else 8, number) for number in numbers)
        out += _field(5, _field(1, name.encode()) + fields + _field(20, kind_of_value))
    return out


def write_embedding(path: Path, *, size: int = 24, dim: int = 5, nhwc: bool = False, seed: int = 0) -> Path:
    """Writes a network of face embeddings: a convolution over tiles of a quarter of the side, ReLU, and a product.

    Its input is called `data`. Its outputs are `map` `[1, 4, 4, 4]`, after the ReLU, and `embedding` `[1, dim]`.
    """
    filters, matrix = embedding_weights(size=size, dim=dim, seed=seed)
    tile = size // 4
    nodes = [node("Transpose", ["data"], "planes", perm=(0, 3, 1, 2))] if nhwc else []
    nodes += [
        node("Conv", ["planes" if nhwc else "data", "filters"], "conv", kernel_shape=(tile,) * 2, strides=(tile,) * 2),
        node("Relu", ["conv"], "map"),
        node("Flatten", ["map"], "flat", axis=1),
        node("MatMul", ["flat", "matrix"], "embedding"),
    ]
    return write_onnx(
        path,
        nodes=nodes,
        weights={"filters": filters, "matrix": matrix},
        inputs={"data": (1, size, size, 3) if nhwc else (1, 3, size, size)},
        outputs={"map": (1, 4, 4, 4), "embedding": (1, dim)},
    )


def embedding_weights(*, size: int, dim: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the filters `[4, 3, tile, tile]` and the matrix `[64, dim]` of `write_embedding`, float32."""
    rng = np.random.default_rng(seed)
    filters = rng.normal(size=(4, 3, size // 4, size // 4)) / size
    return filters.astype(np.float32), rng.normal(size=(64, dim)).astype(np.float32)


def embed(planes: np.ndarray, *, dim: int = 5, seed: int = 0) -> np.ndarray:
    """Computes the embedding of `write_embedding` in NumPy: `[3, size, size]` float -> `[dim]` float64."""
    size = planes.shape[-1]
    filters, matrix = embedding_weights(size=size, dim=dim, seed=seed)
    tiles = planes.reshape(3, 4, size // 4, 4, size // 4)
    maps = np.maximum(np.einsum("crhsw,ochw->ors", tiles, filters.astype(np.float64)), 0)
    return maps.reshape(-1) @ matrix


def write_yunet(path: Path) -> Path:
    """Writes a network with the input and outputs of YuNet.

    It finds a face in every cell of 8 x 8 pixels whose blue channel, the first of OpenCV's three, is bright. The face
    has 32 x 48 pixels around the middle of the cell. Its landmarks lie 0, 1, 2, 3 and 4 pixels to the right of the
    cell's corner, and twice as many below it.
    """
    nodes, weights, outputs = [], {}, {}
    depths = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
    for stride in YUNET_STRIDES:
        for name, depth in depths.items():
            key = f"{name}_{stride}"
            kernel = np.zeros((depth, 3, stride, stride), np.float32)
            bias = np.zeros(depth, np.float32)
            if stride == 8 and name == "cls":
                kernel[0, 0] = 1 / 255 / 64
            elif name == "obj":
                bias[:] = 1
            elif name == "bbox":
                bias[:] = 0.5, 0.5, np.log(32 / stride), np.log(48 / stride)
            elif name == "kps":
                bias[:] = np.array([0, 0, 1, 2, 2, 4, 3, 6, 4, 8]) / stride
            weights |= {f"{key}_kernel": kernel, f"{key}_bias": bias}
            weights[f"{key}_shape"] = np.array([1, -1, depth], np.int64)
            inputs = ["input", f"{key}_kernel", f"{key}_bias"]
            nodes += [
                node("Conv", inputs, f"{key}_conv", kernel_shape=(stride,) * 2, strides=(stride,) * 2),
                node("Transpose", [f"{key}_conv"], f"{key}_last", perm=(0, 2, 3, 1)),
                node("Reshape", [f"{key}_last", f"{key}_shape"], key),
            ]
            outputs[key] = (1, (640 // stride) ** 2, depth)
    return write_onnx(path, nodes=nodes, weights=weights, inputs={"input": (1, 3, 640, 640)}, outputs=outputs)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers in two's complement
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _tensor(name: str, value: np.ndarray) -> bytes:
    kind = {"float32": 1, "int64": 7}[value.dtype.name]
    dims = b"".join(_field(1, length) for length in value.shape)
    raw = struct.pack(f"<{value.size}{'f' if kind == 1 else 'q'}", *value.ravel().tolist())
    return dims + _field(2, kind) + _field(8, name.encode()) + _field(9, raw)


def _value_info(name: str, shape: Sequence[int]) -> bytes:
    dims = b"".join(_field(1, _field(1, length) if length else _field(2, b"n")) for length in shape)
    return _field(1, name.encode()) + _field(2, _field(1, _field(1, 1) + _field(2, dims)))
