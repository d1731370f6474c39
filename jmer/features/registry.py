"""Extractors by name: from a config, and again from the spec that a dataset or a run recorded."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jmer.base.errors import UserError
from jmer.features.audio.encoder import HFAudio
from jmer.features.audio.lite import MFCC, LiteAudio, LogMel, Prosody
from jmer.features.extractor import Extractor
from jmer.features.text import glove
from jmer.features.text.encoder import HFText
from jmer.features.text.glove import Glove
from jmer.features.text.lite import LiteText, Vader
from jmer.features.video.embedding import OnnxVideo
from jmer.features.video.encoder import HFVideo
from jmer.features.video.lite import LiteVideo

_EXTRACTORS: tuple[type[Extractor], ...] = (
    LiteText,
    Vader,
    Glove,
    HFText,
    LiteAudio,
    MFCC,
    LogMel,
    Prosody,
    HFAudio,
    LiteVideo,
    HFVideo,
    OnnxVideo,
)
OFF = "none"


def from_config(modality: str, options: Mapping[str, Any], *, defaults: Mapping[str, Any]) -> Extractor | None:
    """Returns the extractor that `options["model"]` names, with those of the options that it has; None for `none`.

    Args:
      defaults: of the options; one that the extractor does not have must have been left at it.

    Raises:
      UserError: there is no such extractor, it lacks an option that is set, or an option is out of range.
    """
    model = options["model"]
    if model == OFF:
        return None
    cls = _class_of(modality, model)
    names = {field.name for field in dataclasses.fields(cls)}
    for name in names & {"model", "detector"}:
        if options[name] and Path(options[name]).exists():  # a run is used from other folders than it was made in
            options = {**options, name: str(Path(options[name]).resolve())}
    for name, value in options.items():
        if name not in names | {"model"} and value != defaults[name]:
            have = ", ".join(sorted(names - {"model"})) or "no options"
            raise UserError(
                f"config field '{modality}.{name}' is set, but {modality}.model={model} has no such option (it has "
                f"{have}); leave it out"
            )
    return cls(**{name: value for name, value in options.items() if name in names})


def _class_of(modality: str, model: str) -> type[Extractor]:
    """The extractor that a model's name stands for: a kind's own, or by what sort of file or folder it is."""
    kinds = {cls.kind: cls for cls in _EXTRACTORS if cls.modality == modality}
    named = {kind: cls for kind, cls in kinds.items() if "model" not in {f.name for f in dataclasses.fields(cls)}}
    if model in named:
        return named[model]
    if "glove" in kinds and Path(model).suffix in glove.SUFFIXES:
        return kinds["glove"]
    if "onnx" in kinds and Path(model).suffix == ".onnx":
        return kinds["onnx"]
    if "hf" in kinds and model:
        return kinds["hf"]
    others = {"glove": "a file of word vectors", "onnx": "an ONNX file", "hf": "a directory or hub id"}
    known = [*named, OFF, *(what for kind, what in others.items() if kind in kinds)]
    raise UserError(f"config field '{modality}.model' is '{model}'; expected {', '.join(known[:-1])} or {known[-1]}")


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
