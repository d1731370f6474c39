"""Weights as Hugging Face publishes them, read into the parameters of our own Flax networks. No torch, no transformers.

A network names its modules as PyTorch does, dots included (`encoder.layers.0.attention`), so that its parameters' paths
are the published names. What differs is the last part (`kernel`, `scale` and `embedding` are all `weight` there) and
the order of a kernel's axes.
"""

import functools
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.serialization import msgpack_restore
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open

from jmer.base.errors import UserError
from jmer.encoders import hub

# Name, as PyTorch has it -> reads the array, float32; only what a network asks for is ever in memory.
Weights = Mapping[str, Callable[[], np.ndarray]]

# Under which name a model with a head, or with a decoder, holds the encoder.
_PREFIXES = ("", "wav2vec2.", "hubert.", "wavlm.", "unispeech.", "unispeech_sat.", "model.encoder.", "encoder.")
_WEIGHT_NORMS = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)


def read(folder: Path) -> Weights:
    """Returns all weights of a directory under PyTorch's names; those that have a weight norm also without it.

    Raises:
      UserError: there are none in a format that is known, or a file is missing or damaged.
    """
    file = _file(folder)
    if file.suffix == ".msgpack":
        weights = _flax_weights(file)
    else:
        weights = {name: value for shard in _shards(file) for name, value in _safetensors(shard).items()}
    for g, v in _WEIGHT_NORMS:
        for stem in [name.removesuffix(g) for name in weights if name.endswith(f".{g}")]:
            if f"{stem}{v}" in weights:
                name = f"{file}: weight {stem}{v}"
                weight = functools.partial(_without_norm, name, weights[f"{stem}{g}"], weights[f"{stem}{v}"])
                weights[f"{stem}weight"] = weight
    return weights


def load(folder: Path, module: nn.Module, *inputs: Any) -> dict[str, Any]:
    """Returns the variables of `module`, float32 numpy arrays, from the weights of a directory.

    Weights that the module has no place for are not read: heads, a decoder, a quantiser, layers above those it runs.

    Args:
      inputs: what the module's `init` takes after the key; `jax.ShapeDtypeStruct`s will do for arrays.

    Raises:
      UserError: as `read`, or a weight is missing or of another shape than the module's.
    """
    weights, file = read(folder), _file(folder)
    static = {i: x for i, x in enumerate(inputs) if not hasattr(x, "shape")}

    def init(*arrays: Any) -> Any:
        rest = iter(arrays)
        return module.init(jax.random.key(0), *(static[i] if i in static else next(rest) for i in range(len(inputs))))

    made = jax.eval_shape(init, *(x for i, x in enumerate(inputs) if i not in static))
    shapes: dict[tuple[str, ...], Any] = flatten_dict(made["params"])  # pyright: ignore[reportAssignmentType]
    names = {path: _published_name(path) for path in shapes}
    prefix = max(_PREFIXES, key=lambda prefix: sum(prefix + name in weights for name in names.values()))
    params = {}
    for path, wanted in shapes.items():
        name = prefix + names[path]
        if name not in weights:
            raise UserError(f"{file}: weight {name} is missing, config.json asks for it; fetch both from one place")
        value = weights[name]()
        value = _kernel_turned(value) if path[-1] == "kernel" else value
        if value.shape != wanted.shape:
            raise UserError(
                f"{file}: weight {name} has shape {list(value.shape)}, config.json asks for {list(wanted.shape)} "
                "(in Flax's order); fetch both from one place"
            )
        params[path] = value
    return {"params": unflatten_dict(params)}


def _file(folder: Path) -> Path:
    """The file that holds the weights, or their index; `hub.sha256` hashes the same."""
    for name in hub.WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder} has no weights; expected one of {', '.join(hub.WEIGHTS)}")


def _published_name(path: tuple[str, ...]) -> str:
    *modules, leaf = path
    return ".".join((*modules, "weight" if leaf in ("kernel", "scale", "embedding") else leaf))


def _kernel_turned(kernel: np.ndarray) -> np.ndarray:
    """`[in, out]` <-> `[out, in]`, and `[T, in / groups, out]` <-> `[out, in / groups, T]`. Others are not turned."""
    return kernel.T if kernel.ndim <= 3 else kernel


def _without_norm(name: str, scale: Callable[[], np.ndarray], direction: Callable[[], np.ndarray]) -> np.ndarray:
    """Salimans & Kingma 2016; the scale has length 1 on the axes over which the norm is taken."""
    g, v = scale(), direction()
    if any(a not in (1, b) for a, b in itertools.zip_longest(g.shape, v.shape)):
        raise UserError(f"{name} has shape {list(v.shape)}, and its norm {list(g.shape)}; fetch the model again")
    axes = tuple(axis for axis, size in enumerate(g.shape) if size == 1)
    return g * (v / np.sqrt(np.square(v, dtype=np.float64).sum(axis=axes, keepdims=True))).astype(np.float32)


def _shards(file: Path) -> list[Path]:
    if file.suffix != ".json":
        return [file]
    try:
        names = set(json.loads(file.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} cannot be read (it has no weight_map); fetch it again") from error
    return [file.parent / name for name in sorted(names)]


def _safetensors(file: Path) -> dict[str, Callable[[], np.ndarray]]:
    try:
        tensors = safe_open(file, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} cannot be read ({_line(error)}); fetch the model again") from error

    def tensor(name: str) -> np.ndarray:
        return np.asarray(tensors.get_tensor(name), np.float32)

    return {name: functools.partial(tensor, name) for name in tensors.keys()}  # noqa: SIM118 (it is no mapping)


def _flax_weights(file: Path) -> dict[str, Callable[[], np.ndarray]]:
    """transformers' own Flax models number layers by a path's part, `layers/0`."""
    try:
        tree = flatten_dict(msgpack_restore(file.read_bytes()))
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        raise UserError(f"{file} cannot be read ({_line(error)}); fetch the model again") from error

    def array(path: tuple[str, ...], value: Any) -> np.ndarray:
        value = np.asarray(value, np.float32)
        return _kernel_turned(value) if path[-1] == "kernel" else value

    return {_published_name(path): functools.partial(array, path, value) for path, value in tree.items()}


def _line(error: Exception) -> str:
    return next(itertools.chain(str(error).strip().splitlines(), [type(error).__name__]))
