"""Low-rank adapters on disk, in the layout of Hugging Face's PEFT: `adapter_config.json`, `adapter_model.safetensors`.

A directory of adapters names its base encoder and holds no weights of the base. This file does not import JAX.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from jmer.base import files, forms
from jmer.base.errors import UserError
from jmer.base.forms import at_least
from jmer.encoders import hub

CONFIG = hub.ADAPTERS
WEIGHTS = "adapter_model.safetensors"

_FORM = {"r": at_least(1), "lora_alpha": float, "base_model_name_or_path": str}
_START = "base_model.model."
_FIRST, _SECOND = ".lora_A.weight", ".lora_B.weight"

# The published name of a kernel -> the two factors of its change, `[in, rank]` and `[rank, out]`.
Factors = Mapping[str, tuple[Float32[np.ndarray, "D rank"], Float32[np.ndarray, "rank D_out"]]]


@dataclass(frozen=True, kw_only=True)
class Adapters:
    """Adapters beside kernels of a base encoder: each kernel changes by `scale * first @ second`.

    base: the directory of the base, or its id on the hub.
    """

    base: str
    scale: float
    factors: Factors


def write(folder: Path, adapters: Adapters, *, rank: int) -> None:
    """Writes adapters into a directory that exists."""
    modules = sorted({_suffix(name) for name in adapters.factors})
    files.save_json(
        folder / CONFIG,
        {
            "peft_type": "LORA",
            "task_type": "FEATURE_EXTRACTION",
            "base_model_name_or_path": adapters.base,
            "r": rank,
            "lora_alpha": adapters.scale * rank,
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": modules,
            "inference_mode": True,
        },
    )
    tensors = {}
    for name, (first, second) in adapters.factors.items():
        stem = _START + name.removesuffix(".weight")
        tensors[stem + _FIRST] = np.ascontiguousarray(first.T, np.float32)
        tensors[stem + _SECOND] = np.ascontiguousarray(second.T, np.float32)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def read(folder: Path, *, field: str) -> Adapters:
    """Reads adapters that `write` or PEFT wrote.

    Args:
      field: the config field that names the directory, for messages.

    Raises:
      UserError: a file is missing or damaged, or the adapters are of a kind that jmer does not cover.
    """
    config = hub.read_json(folder, CONFIG, field=field)
    where = f"{field}: {folder / CONFIG}"
    covered = {"peft_type": "LORA", "bias": "none", "use_dora": False, "use_rslora": False, "fan_in_fan_out": False}
    for name, value in covered.items():
        if config.get(name, value) != value:
            raise UserError(
                f"{where}: {name} is {config[name]!r}; jmer covers {value!r} only; merge them into the base"
            )
    if forms.fault(config, _FORM) or not math.isfinite(config["lora_alpha"]):
        raise UserError(f"{where} lacks r, lora_alpha or base_model_name_or_path; fetch the adapters again")
    rank, alpha, base = (config[name] for name in _FORM)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:  # the last three for types of F8
        raise UserError(f"{field}: {folder / WEIGHTS} cannot be read ({error}); fetch the adapters again") from error
    factors = {}
    for name, first in tensors.items():
        if not name.endswith(_FIRST):
            continue
        stem = name.removesuffix(_FIRST)
        second = tensors.get(stem + _SECOND)
        if second is None or first.ndim != 2 or len(first) != rank or second.shape[1:] != (rank,):
            raise UserError(f"{field}: {folder / WEIGHTS}: the factors of {stem} do not fit; fetch the adapters again")
        factors[stem.removeprefix(_START) + ".weight"] = first.T.astype(np.float32), second.T.astype(np.float32)
    if 2 * len(factors) != len(tensors):
        raise UserError(
            f"{field}: {folder / WEIGHTS} holds more than the factors of matrices, which jmer does not cover; merge "
            "the adapters into the base"
        )
    return Adapters(base=base, scale=alpha / rank, factors=factors)


def merged(kernels: Mapping[str, Any], adapters: Adapters, *, field: str) -> dict[str, np.ndarray]:
    """Returns the changed kernels, by published name.

    Args:
      kernels: name -> the base's kernel in Flax's order, `[in, out]`, of the kernels in use.

    Raises:
      UserError: an adapter does not fit its kernel.
    """
    changed = {}
    for name, (first, second) in adapters.factors.items():
        if name not in kernels:
            continue
        kernel = np.asarray(kernels[name])
        if kernel.shape != (len(first), second.shape[1]):
            raise UserError(
                f"{field}: the adapter of {name} is for a kernel of {len(first)} x {second.shape[1]}, and the base has "
                f"{' x '.join(map(str, kernel.shape))}; give the base that the adapters were trained on"
            )
        changed[name] = kernel + adapters.scale * (first @ second)
    return changed


def _suffix(name: str) -> str:
    """Returns the part of a kernel's name that PEFT matches modules by."""
    return re.sub(r"^.*\blayers?\.\d+\.", "", name).removesuffix(".weight")
