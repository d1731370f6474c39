"""Extractors by name: from a config, and again from the spec that a dataset or a run recorded."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jmer.errors import UserError
from jmer.features.audio import LiteAudio
from jmer.features.extractor import Extractor
from jmer.features.text import HFText, LiteText
from jmer.features.video import LiteVideo

_EXTRACTORS: tuple[type[Extractor], ...] = (LiteText, HFText, LiteAudio, LiteVideo)
OFF = "none"
_HUGGING_FACE = {"text": HFText}  # what a model's name other than a kind's stands for


def from_config(modality: str, options: Mapping[str, Any]) -> Extractor | None:
    """Returns the extractor that `options["model"]` names, with those of the options that it has; None for `none`.

    Raises:
      UserError: there is no such extractor, or an option is out of range.
    """
    model = options["model"]
    if model == OFF:
        return None
    kinds = {
        cls.kind: cls for cls in _EXTRACTORS if cls.modality == modality and cls is not _HUGGING_FACE.get(modality)
    }
    cls = kinds.get(model) or _HUGGING_FACE.get(modality)
    if cls is None or not model:
        known = [*kinds, OFF] + (["a directory or hub id"] if modality in _HUGGING_FACE else [])
        raise UserError(
            f"config field '{modality}.model' is '{model}'; expected {', '.join(known[:-1])} or {known[-1]}"
        )
    if cls.kind != model and Path(model).is_dir():  # a run is used from other folders than it was made in
        options = {**options, "model": str(Path(model).resolve())}
    names = {field.name for field in dataclasses.fields(cls)}
    return cls(**{name: value for name, value in options.items() if name in names})


def build(spec: Mapping[str, Any]) -> Extractor:
    """Returns the extractor that gave `spec`.

    Raises:
      UserError: this jmer has no such extractor or another version of it, or its weights are not the same.
    """
    name = f"{spec['modality']} extractor '{spec['kind']}'"
    cls = next((c for c in _EXTRACTORS if (c.modality, c.kind) == (spec["modality"], spec["kind"])), None)
    if cls is None:
        raise UserError(f"this jmer has no {name}; use the one that made the features")
    if cls.version != spec["version"]:
        raise UserError(
            f"{name} has version {cls.version} here, and the features were made by version {spec['version']}; "
            "extract and train again, or use the jmer that made them"
        )
    extractor = cls(**spec["options"])
    if extractor.weights != spec["weights"]:
        raise UserError(
            f"{name}: the weights {spec['options'].get('model', '')} have changed since the features were made "
            f"(SHA-256 {extractor.weights[:12]}..., was {spec['weights'][:12]}...); "
            "restore them, or extract and train again"
        )
    return extractor
