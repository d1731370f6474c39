"""Options of extractors in the config: declared once, beside the extractor, and found everywhere."""

from dataclasses import dataclass
from typing import Any

import fakes
import pytest

from jmer.base import options
from jmer.base.errors import UserError
from jmer.base.options import option
from jmer.base.types import MODALITIES
from jmer.dataset.options import ExtractOptions, default_config
from jmer.features import registry


@dataclass(frozen=True, kw_only=True)
class Dummy(fakes.Loudness):
    """An extractor with an option of its own, as someone would add it: in one file, and by name in the registry."""

    kind = "dummy"

    octaves: int = option(3, "Octaves that are counted.", at_least=1)


def test_an_option_is_declared_in_one_place(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registry, "EXTRACTORS", (*registry.EXTRACTORS, Dummy))
    config: Any = default_config()
    assert config.audio.octaves == 3
    config.audio.model, config.audio.octaves = "dummy", 5
    wanted = options.from_config(ExtractOptions, config)
    assert registry.from_options("audio", wanted.audio, sequence_frames=2) == Dummy(octaves=5, sequence_frames=2)
    config.audio.octaves = 0
    with pytest.raises(UserError, match=r"config\.audio\.octaves is 0; expected at least 1"):
        options.from_config(ExtractOptions, config)
    shown = {name: known.describe() for name, _, known in options.fields(ExtractOptions())}
    assert shown["audio.octaves"] == "Octaves that are counted."
    assert "lite, mfcc, logmel, prosody, dummy, none, a CSV file" in shown["audio.model"]
    config.audio.model, config.audio.octaves = "lite", 4
    wanted = options.from_config(ExtractOptions, config)
    with pytest.raises(UserError, match=r"config\.audio\.octaves is set, but audio\.model=lite has no such option"):
        registry.from_options("audio", wanted.audio, sequence_frames=0)


@pytest.mark.parametrize("modality", MODALITIES)
def test_options_of_one_name_agree(modality: str):
    """A group has one default and one help for an option, whichever extractor reads it."""
    found: dict[str, set] = {}
    for cls in registry.EXTRACTORS:
        if cls.modality == modality:
            for name, (kind, default, known) in cls.own_options().items():
                bounds = (known.at_least, known.above, known.at_most, known.below)
                found.setdefault(name, set()).add((kind, default, known.help, bounds, known.expected))
    assert found
    assert not [name for name, declared in found.items() if len(declared) > 1]
    group = registry.options_of(modality)()
    assert {name for name, *_ in options.fields(group)} == {"model", *found}
    assert not [name for name, value, known in options.fields(group) if known.complaint(value)]


def test_choices_of_a_group_are_those_of_any_extractor():
    known = {name: field for name, _, field in options.fields(registry.options_of("video")())}
    assert known["crop"].choices == ("face", "speaker", "frame")
    chosen = registry.options_of("video")(crop="frame")
    with pytest.raises(UserError, match=r"config\.video\.crop is frame; expected one of face, speaker$"):
        registry.from_options("video", chosen, sequence_frames=0)


def test_models_by_kind_by_file_and_by_id():
    def kind(modality: str, model: str) -> str:
        return registry._class_of(modality, model).kind

    assert [kind("text", model) for model in ("lite", "vader", "a/glove.txt", "b.npz", "bert-base", "c/d")] == [
        *("lite", "vader", "glove", "glove", "hf", "hf"),
    ]
    assert [kind("audio", model) for model in ("mfcc", "prosody", "facebook/wav2vec2-base")] == [
        "mfcc",
        "prosody",
        "hf",
    ]
    assert [kind("video", model) for model in ("lite", "a/b.onnx", "google/vit")] == ["lite", "onnx", "hf"]
