"""Reads published weights into the parameters of jmer's own Flax networks. Neither torch nor transformers is needed.

A network gives its submodules the names that PyTorch uses, dots included (`encoder.layers.0.attention`), so that the
path of a parameter is its published name. Two differences remain: PyTorch calls `kernel`, `scale` and `embedding` all
`weight`, and it orders a kernel's axes the other way round.
"""

import fnmatch
import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.serialization import msgpack_restore
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from jmer.base.errors import UserError
from jmer.encoders import hub
from jmer.encoders.adapters import Adapters, merged

# A weight's name in PyTorch -> a function that reads it as float32, so that only weights in use are held in memory.
Weights = Mapping[str, Callable[[], Float32[np.ndarray, "..."]]]

# Models that have a head or a decoder hold the encoder under one of these names.
_PREFIXES = (
    "", "wav2vec2.", "hubert.", "wavlm.", "unispeech.", "unispeech_sat.", "model.encoder.", "encoder.",
    "bert.", "roberta.", "distilbert.", "vit.",
)  # fmt: skip
# Checkpoints that were converted from TensorFlow call the parameters of a normalisation so.
_OLD_NAMES = {"gamma": "weight", "beta": "bias"}
_WEIGHT_NORMS = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)


def read(folder: Path) -> Weights:
    """Returns all weights of a directory under their names in PyTorch.

    A weight that is stored with a weight norm is also there as the product of its two parts.

    Raises:
      UserError: the directory has no weights in a known format, or a file is missing or damaged.
    """
    file = _file(folder)
    if file.suffix == ".msgpack":
        weights = _flax_weights(file)
    else:
        weights = {name: value for shard in _shards(file) for name, value in _safetensors(shard).items()}
    for name in list(weights):
        stem, _, leaf = name.rpartition(".")
        if leaf in _OLD_NAMES:
            weights[f"{stem}.{_OLD_NAMES[leaf]}"] = weights.pop(name)
    for g, v in _WEIGHT_NORMS:
        for stem in [name.removesuffix(g) for name in weights if name.endswith(f".{g}")]:
            if f"{stem}{v}" in weights:
                name = f"{file}: weight {stem}{v}"
                weight = functools.partial(_without_norm, name, weights[f"{stem}{g}"], weights[f"{stem}{v}"])
                weights[f"{stem}weight"] = weight
    return weights


def load(folder: Path, module: nn.Module, *inputs: Any) -> dict[str, Any]:
    """Returns the variables of `module`, as float32 numpy arrays, from the weights of a directory.

    Weights that the module does not use are not read: heads, a decoder, a quantiser, layers above the highest it runs.

    Args:
      module: a network whose submodules have the published names.
      inputs: the arguments of the module's `__call__`, of any values; the last are the layers to run.

    Raises:
      UserError: as `read`, or a weight is missing or has another shape than the module's.
    """
    weights, file = read(folder), _file(folder)
    *arrays, layers = inputs
    made = jax.eval_shape(lambda *arrays: module.init(jax.random.key(0), *arrays, layers), *arrays)
    shapes: dict[tuple[str, ...], Any] = flatten_dict(made["params"])  # pyright: ignore[reportAssignmentType]
    names = {path: _published_name(path) for path in shapes}
    prefix = _prefix(names.values(), weights)
    params = {}
    for path, wanted in shapes.items():
        name = prefix + names[path]
        if name not in weights:
            raise UserError(
                f"{file}: weight {name} is missing, though config.json asks for it; fetch both files from one place"
            )
        value = weights[name]()
        value = _transposed(value) if path[-1] == "kernel" else value
        if value.shape != wanted.shape:
            raise UserError(
                f"{file}: weight {name} has shape {list(value.shape)}, config.json asks for {list(wanted.shape)} "
                "(axes in Flax's order); fetch both files from one place"
            )
        params[path] = value
    return {"params": unflatten_dict(params)}


def named(params: Mapping[str, Any]) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Returns the published name of each parameter -> its path, and the parameter. The name has no prefix."""
    flat: dict[tuple[str, ...], Any] = flatten_dict(dict(params))  # pyright: ignore[reportAssignmentType]
    return {_published_name(path): (path, x) for path, x in flat.items()}


def with_adapters(variables: Mapping[str, Any], adapters: Adapters, *, field: str) -> dict[str, Any]:
    """Returns the variables of a network with adapters merged into its kernels.

    Adapters of layers above the highest that the network runs are left out.

    Args:
      field: the config field that names the adapters, for messages.

    Raises:
      UserError: no adapter is for a kernel of the network, or one does not fit its kernel.
    """
    known = named(variables["params"])
    prefix = _prefix(known, adapters.factors)
    changed = merged({prefix + name: x for name, (_, x) in known.items()}, adapters, field=field)
    if not changed:
        raise UserError(
            f"{field}: none of the adapters is for a kernel of the base {adapters.base}, the first is for "
            f"{min(adapters.factors, default='nothing')}; give the base that the adapters were trained on"
        )
    params = {path: changed.get(prefix + name, x) for name, (path, x) in known.items()}
    return {"params": unflatten_dict(params)}


def save(file: Path, params: Mapping[str, Any], *, like: Path) -> None:
    """Writes parameters as safetensors, with the names and axes of PyTorch.

    Args:
      like: the directory that `load` read them from; weights that the network does not use are copied from it.
    """
    weights = read(like)
    flat = named(params)
    prefix = _prefix(flat, weights)
    tensors = {name: value() for name, value in weights.items()}
    for name, (path, x) in flat.items():
        x = np.asarray(x, np.float32)
        tensors[prefix + name] = _transposed(x) if path[-1] == "kernel" else x
    # A tensor that is a view would be written in the order of its base.
    save_file({name: np.ascontiguousarray(x) for name, x in tensors.items()}, file, metadata={"format": "pt"})


def sha256_of_halves(params: Mapping[str, Any]) -> str:
    """Returns one hash over parameters rounded to float16, which are equal for a copy in half precision."""
    digest = hashlib.sha256()
    for name, (_, x) in sorted(named(params).items()):
        digest.update(name.encode() + np.asarray(x, np.float16).tobytes())
    return digest.hexdigest()


def is_in_halves(folder: Path) -> bool:
    """Returns whether a directory holds its weights in half precision."""
    file = _file(folder)
    if file.suffix == ".msgpack":
        tree: dict[Any, np.ndarray] = flatten_dict(msgpack_restore(file.read_bytes()))  # pyright: ignore[reportAssignmentType]
        return {x.dtype for x in tree.values()} == {np.dtype(np.float16)}
    tensors = [safe_open(shard, framework="numpy") for shard in _shards(file)]
    types = {shard.get_slice(name).get_dtype() for shard in tensors for name in shard.keys()}  # noqa: SIM118
    return {name for name in types if name.startswith(("F", "BF"))} == {"F16"}


def _file(folder: Path) -> Path:
    """Returns the file that holds the weights or the index of their shards. `hub.sha256` hashes the same one."""
    for name in hub.WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder} has no weights; expected one of {', '.join(hub.WEIGHTS)}; fetch the model again")


def _prefix(names: Collection[str], weights: Collection[str]) -> str:
    """Returns what a file puts before the names of the network's parameters."""
    return max(_PREFIXES, key=lambda prefix: sum(prefix + name in weights for name in names))


def _published_name(path: tuple[str, ...]) -> str:
    *modules, leaf = path
    return ".".join((*modules, "weight" if leaf in ("kernel", "scale", "embedding") else leaf))


def _transposed(kernel: np.ndarray) -> np.ndarray:
    """Converts a kernel between Flax's and PyTorch's order of axes, in either direction.

    `[in, out]` becomes `[out, in]`, and `[T, in / groups, out]` becomes `[out, in / groups, T]`. Kernels of more axes
    stay in PyTorch's order: the patch projection of a vision transformer.
    """
    return kernel.T if kernel.ndim <= 3 else kernel


def _without_norm(name: str, scale: Callable[[], np.ndarray], direction: Callable[[], np.ndarray]) -> np.ndarray:
    """Multiplies the two parts of a weight norm (Salimans & Kingma 2016): scale times direction over its norm.

    The scale has length 1 on the axes over which the norm is taken.
    """
    g, v = scale(), direction()
    if any(a not in (1, b) for a, b in itertools.zip_longest(g.shape, v.shape)):
        raise UserError(
            f"{name} has shape {list(v.shape)}, which its scale of shape {list(g.shape)} does not fit; fetch the model "
            "again"
        )
    axes = tuple(axis for axis, size in enumerate(g.shape) if size == 1)
    return g * (v / np.sqrt(np.square(v, dtype=np.float64).sum(axis=axes, keepdims=True))).astype(np.float32)


def _shards(file: Path) -> list[Path]:
    if file.suffix != ".json":
        return [file]
    try:
        names = sorted(set(json.loads(file.read_bytes())["weight_map"].values()))
        wrong = [name for name in names if "/" in name or not fnmatch.fnmatchcase(name, hub.SHARDS)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{file} cannot be read (it has no usable weight_map); fetch the model again") from error
    if wrong:  # a file elsewhere is not this model's, and `hub.sha256` would not hash it
        raise UserError(
            f"{file} names '{wrong[0]}'; expected files beside it, such as model-00001-of-00002.safetensors; fetch the "
            "model again"
        )
    return [file.parent / name for name in names]


def _safetensors(file: Path) -> dict[str, Callable[[], np.ndarray]]:
    try:
        tensors = safe_open(file, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} cannot be read ({_line(error)}); fetch the model again") from error

    def tensor(name: str) -> np.ndarray:
        try:
            return np.asarray(tensors.get_tensor(name), np.float32)
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:  # such as a type of eight bits
            raise UserError(f"{file}: weight {name} cannot be read ({_line(error)}); fetch the model again") from error

    return {name: functools.partial(tensor, name) for name in tensors.keys()}  # noqa: SIM118 (not a mapping)


def _flax_weights(file: Path) -> dict[str, Callable[[], np.ndarray]]:
    """Reads the Flax format of transformers, whose paths have the number of a layer as a part of its own: `layer/0`."""
    try:
        tree = flatten_dict(msgpack_restore(file.read_bytes()))
    except Exception as error:  # msgpack, Flax and numpy raise exceptions of many kinds on damaged bytes
        raise UserError(f"{file} cannot be read ({_line(error)}); fetch the model again") from error
    if wrong := [path for path, value in tree.items() if not isinstance(value, np.ndarray | np.number)]:
        raise UserError(f"{file} holds no array as {'.'.join(map(str, wrong[0]))}; fetch the model again")

    def array(path: tuple[str, ...], value: Any) -> np.ndarray:
        value = np.asarray(value, np.float32)
        return _transposed(value) if path[-1] == "kernel" else value

    return {_published_name(path): functools.partial(array, path, value) for path, value in tree.items()}


def _line(error: Exception) -> str:
    return next(itertools.chain(str(error).strip().splitlines(), [type(error).__name__]))
