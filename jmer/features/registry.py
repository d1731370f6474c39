"""Extractors by name: their options for a config, and extractors from a config or from a recorded spec."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jmer.base import forms
from jmer.base.errors import UserError
from jmer.base.options import Field, option
from jmer.features.audio.encoder import HFAudio
from jmer.features.audio.lite import MFCC, LiteAudio, LogMel, Prosody
from jmer.features.audio.tuned import TunedAudio
from jmer.features.extractor import Extractor
from jmer.features.ready import ReadyAudio, ReadyText, ReadyVideo
from jmer.features.text.encoder import HFText
from jmer.features.text.glove import Glove
from jmer.features.text.lite import LiteText, Vader
from jmer.features.text.tuned import TunedText
from jmer.features.video.embedding import OnnxVideo
from jmer.features.video.encoder import HFVideo
from jmer.features.video.lite import LiteVideo

# `config.MODALITY.model` names a kind, or else a file or id, which goes to the first extractor here that reads it.
EXTRACTORS: tuple[type[Extractor], ...] = (
    LiteText,
    Vader,
    ReadyText,  # before Glove, to which it leaves those .npz that hold word vectors
    Glove,
    TunedText,
    HFText,
    LiteAudio,
    MFCC,
    LogMel,
    Prosody,
    ReadyAudio,
    TunedAudio,
    HFAudio,
    LiteVideo,
    OnnxVideo,
    ReadyVideo,
    HFVideo,
)
OFF = "none"  # the model of a modality that is left out


def options_of(modality: str) -> type:
    """Returns the options class of a config's group: `model`, and the options of all extractors of the modality.

    Options of one name have one default and one help; their choices are united, as each extractor checks its own.
    """
    return _options_class(modality, _classes(modality))


@functools.cache
def _options_class(modality: str, classes: tuple[type[Extractor], ...]) -> type:
    model = option("lite", f"Extractor of {modality}: {_listed(_names(classes))}.")
    fields: dict[str, tuple[Any, Any]] = {"model": (str, model)}
    united: dict[str, Field] = {}
    for cls in classes:
        for name, (kind, default, field) in cls.own_options().items():
            known = united.get(name, field)
            choices = tuple(dict.fromkeys((*known.choices, *field.choices)))
            united[name] = dataclasses.replace(known, choices=choices)
            fields[name] = kind, dataclasses.field(default=default, metadata={"option": united[name]})
    declared = [(name, kind, field) for name, (kind, field) in fields.items()]
    return dataclasses.make_dataclass(f"{modality.title()}Options", declared, frozen=True, kw_only=True)


def from_options(modality: str, chosen: Any, *, sequence_frames: int) -> Extractor | None:
    """Returns the extractor that a config's group chooses; None where the group switches the modality off.

    Args:
      chosen: an instance of `options_of(modality)`.
      sequence_frames: as in `jmer.features.extractor.SequenceOptions`.

    Raises:
      UserError: there is no such extractor, it lacks an option that is set, or an option is out of range.
    """
    if chosen.model == OFF:
        return None
    cls = _class_of(modality, chosen.model)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    given = {}
    for field in dataclasses.fields(chosen):
        value = getattr(chosen, field.name)
        if field.name in fields:
            is_file = fields[field.name].metadata.get("locates") == "file"
            given[field.name] = _absolute(value) if is_file else value
        elif field.name != "model" and value != field.default:
            have = ", ".join(cls.own_options()) or "no options"
            raise UserError(
                f"config.{modality}.{field.name} is set, but {modality}.model={chosen.model} has no such option (it "
                f"has {have}); leave it out"
            )
    return cls(**given, sequence_frames=sequence_frames)


def build(spec: Mapping[str, Any]) -> Extractor:
    """Returns the extractor that gave `spec`.

    Raises:
      UserError: this jmer has no such extractor, has another version of it, or finds other weights; or the description
        has another form.
    """
    if fault := forms.fault(spec, _FORM, at="its description"):
        raise UserError(f"an extractor cannot be made: {fault}; use the jmer that made the features")
    name = f"{spec['modality']} extractor '{spec['kind']}'"
    cls = next((c for c in _classes(spec["modality"]) if c.kind == spec["kind"]), None)
    if cls is None:
        raise UserError(f"this jmer has no {name}; use the jmer that made the features")
    if cls.version != spec["version"]:
        raise UserError(
            f"{name} has version {cls.version} here, and the features were made by version {spec['version']}; "
            "extract and train again, or use the jmer that made them"
        )
    if unknown := spec["options"].keys() - {field.name for field in dataclasses.fields(cls)}:
        raise UserError(f"{name} has no option '{min(unknown)}' here; use the jmer that made the features")
    if wrong := [field.name for field in dataclasses.fields(cls) if not _has_type(field, spec["options"])]:
        raise UserError(f"{name} has a wrong or no option '{wrong[0]}'; use the jmer that made the features")
    extractor = cls(**spec["options"])
    if extractor.weights != spec["weights"]:
        raise UserError(
            f"{name}: the weights {spec['options'].get('model', '')} have changed since the features were made "
            f"(SHA-256 {extractor.weights[:12]}..., was {spec['weights'][:12]}...); "
            "restore them, or extract and train again"
        )
    if {**extractor.spec, "options": spec["options"]} != spec:
        raise UserError(
            f"{name} would give other features than those that were recorded; extract and train again, or use the jmer "
            "that made them"
        )
    return extractor


_FORM = {"modality": str, "kind": str, "version": int, "options": dict, "weights": str}


def _has_type(field: dataclasses.Field[Any], options: Mapping[str, Any]) -> bool:
    """Says whether an option is given with a value of its type, or left out and has a default."""
    if field.name not in options:
        return field.default is not dataclasses.MISSING
    return type(options[field.name]) is field.type or (field.type is float and type(options[field.name]) is int)


def _classes(modality: str) -> tuple[type[Extractor], ...]:
    return tuple(cls for cls in EXTRACTORS if cls.modality == modality)


def _class_of(modality: str, model: str) -> type[Extractor]:
    classes = _classes(modality)
    by_kind = (cls for cls in classes if not cls.named_by and cls.kind == model)
    by_file = (cls for cls in classes if cls.named_by and model and cls.reads(model))
    chosen = next(itertools.chain(by_kind, by_file), None)
    if chosen is None:
        raise UserError(f"config.{modality}.model is '{model}'; expected {_listed(_names(classes))}")
    return chosen


def _names(classes: tuple[type[Extractor], ...]) -> list[str]:
    """What `model` may be: names of kinds, then `none`, then files and ids."""
    kinds = [cls.kind for cls in classes if not cls.named_by]
    return [*kinds, OFF, *(cls.named_by for cls in classes if cls.named_by)]


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _absolute(path: str) -> str:
    """Makes the path of an existing file absolute, since a run is also used from other folders than its own."""
    return str(Path(path).resolve()) if path and Path(path).exists() else path
