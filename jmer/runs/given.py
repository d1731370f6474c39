"""The dialogues that a user gives to predict: strings, mappings or `jmer.Dialogue`, each checked field by field."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from jmer.base.errors import UserError, did_you_mean
from jmer.base.types import MODALITIES, UNNAMED, Dialogue, Utterance

Given: TypeAlias = Dialogue | str | Sequence[str | Mapping[str, Any]]

_FIELDS = ("id", "speaker", "text", "clip", "start", "end", "features")
_EXPECTED = (
    "expected a text, a list of texts, a list of mappings such as {'speaker': 'Ada', 'text': 'Hello.'}, or a "
    "jmer.Dialogue"
)


def dialogue_of(given: Given) -> Dialogue:
    """Returns what a user gave as a dialogue without labels.

    Raises:
      UserError: it is of another type, or an utterance has an unknown field or a value of another type.
    """
    if isinstance(given, Dialogue):
        checked = tuple(_checked(u) for u in given.utterances)
        return replace(given, utterances=checked)
    if isinstance(given, str):
        given = [given]
    if isinstance(given, Mapping):
        raise UserError(f"predict was given one mapping; put the utterances of a dialogue in a list: {_EXPECTED}")
    if not isinstance(given, Sequence):
        raise UserError(f"predict was given {_kind(given)}; {_EXPECTED}")
    return Dialogue(id="dialogue", utterances=tuple(utterance_of(i, u) for i, u in enumerate(given)))


def utterance_of(number: int, given: Utterance | str | Mapping[str, Any]) -> Utterance:
    """Returns what a user gave as an utterance without labels; the errors are those of `dialogue_of`."""
    if isinstance(given, Utterance):
        return _checked(given)
    if isinstance(given, str):
        given = {"text": given}
    if not isinstance(given, Mapping):
        raise UserError(f"utterance {number}: is {_kind(given)}; {_EXPECTED}")
    name = str(given.get("id", f"utt{number}"))
    for key in given:
        if key not in _FIELDS:
            hint = did_you_mean(str(key), _FIELDS) or f"; it may have {', '.join(_FIELDS)}"
            raise UserError(f"utterance {name}: unknown field '{key}'{hint}")
    clip = given.get("clip") or None
    if clip is not None and not isinstance(clip, str | Path):
        raise UserError(f"utterance {name}: clip is {_kind(clip)}; expected the path of a video or audio file")
    return _checked(
        Utterance(
            id=name,
            speaker=_text(given, "speaker", UNNAMED, name),
            text=_text(given, "text", "", name),
            clip=None if clip is None else Path(clip),
            start=_seconds(given, "start", name),
            end=_seconds(given, "end", name),
            features=given.get("features") or {},
        )
    )


def _checked(utterance: Utterance) -> Utterance:
    """Returns an utterance without its targets, after a check of its times and ready features."""
    name, start, end = utterance.id, utterance.start, utterance.end
    if (start is None) != (end is None):
        raise UserError(f"utterance {name}: has only one of start and end; give both, or neither for the whole clip")
    if start is not None and end is not None and not 0 <= start < end:
        raise UserError(f"utterance {name}: goes from {start:g} to {end:g} s; expected 0 <= start < end")
    if not isinstance(utterance.features, Mapping):
        raise UserError(f"utterance {name}: features is {_kind(utterance.features)}; expected modality -> vector")
    for modality in utterance.features:
        if modality not in MODALITIES:
            raise UserError(f"utterance {name}: features of '{modality}'; expected {', '.join(MODALITIES)}")
    features = {modality: _vector(x, modality, name) for modality, x in utterance.features.items()}
    return replace(utterance, features=features, label=None, sentiment=None)


def _text(given: Mapping[str, Any], key: str, default: str, name: str) -> str:
    value = given.get(key)
    if value is None:
        return default
    if not isinstance(value, str):
        raise UserError(f"utterance {name}: {key} is {_kind(value)}; expected a string")
    return value


def _seconds(given: Mapping[str, Any], key: str, name: str) -> float | None:
    value = given.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise UserError(f"utterance {name}: {key} is {value!r}; expected a finite number of seconds")
    return float(value)


def _vector(value: Any, modality: str, name: str) -> np.ndarray:
    try:
        return np.asarray(value, np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f"utterance {name}: features of {modality} are no vector of numbers ({error})") from error


def _kind(value: Any) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"
