"""The config of training: which values are refused, and with which message."""

from typing import Any

import pytest

from jmer.base import cli
from jmer.base.errors import UserError
from jmer.base.options import from_config
from jmer.config import base
from jmer.training.options import TrainOptions

DATA: dict[str, Any] = {
    "modalities": ("text", "audio"),
    "sequences": ("audio",),
    "labels": ("calm", "glad", "cross"),
    "sentiments": True,
}


def configured(data=(), **fields) -> TrainOptions:
    """The options that a config with these fields describes, checked alone and against the data."""
    config = base()
    for name, value in fields.items():
        cli.set_field(config, name.replace("__", "."), str(value))
    options = from_config(TrainOptions, config)
    options.check_fit(**DATA | dict(data))
    return options


def refusal(data=(), **fields) -> str:
    with pytest.raises(UserError) as error:
        configured(data, **fields)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_defaults_and_every_choice_pass():
    for fields in (
        {}, {"graph": "none"}, {"graph": "grnn, gfpush"}, {"distance_bins": "2,10"}, {"specialist": "glad, cross"},
        {"future": 0, "encoder": "gru"}, {"future": 0, "encoder": "transformer"}, {"sentiment": 0.5},
        {"fusion": "hybrid", "co_attention": True}, {"fusion": "late", "graph_nodes": "modality"},
        {"keep_epochs": 3, "merge_epochs": "average"}, {"sequences": " audio ", "mixup": 0.2},
    ):  # fmt: skip
        configured(**fields)
    assert configured(graph="rgcn, gat").graph_layers == ("rgcn", "gat")
    assert configured(graph="none").graph_layers == ()


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("encoder", "lstm", "one of none, gru, transformer"),
        ("fusion", "middle", "one of early, gated"),
        ("graph", "gcn", "some of rgcn, gat, grnn, gfpush"),
        ("graph", "", "none, or some of rgcn"),
        ("distance_bins", "5,2", "ascending"),
        ("distance_bins", "near", "ascending"),
        ("class_weights", "balanced", "one of none, inverse"),
        ("gfpush__scheme", "rand", "one of ppr"),
        ("gfpush__alpha", 1.5, "at most 1"),
        ("specialist_weight", 1.0, "below 1"),
        ("consistency__passes", 0, "at least 1"),
        ("contrastive__temperature", 0, "above 0"),
        ("keep_epochs", 20, "at most config.patience"),
        ("merge_epochs", "sum", "one of vote, average"),
    ],
)
def test_fields_out_of_range_are_refused_by_name(field, value, expected):
    message = refusal(**{field: value})
    assert message.startswith(f"config.{field.replace('__', '.')} is ")
    assert expected in message


def test_what_cannot_go_together_is_refused_with_the_reason():
    assert "encoder=bigru also reads the dialogue from its end" in refusal(future=0)
    assert "encoder=bigru_attention also reads" in refusal(future=0, encoder="bigru_attention")
    assert "joins the modalities before" in refusal(fusion="early", graph_nodes="modality")
    assert "joins the modalities before" in refusal(fusion="early", co_attention=True)
    one = {"modalities": ("text",)}
    assert "there is only text" in refusal(one, graph_nodes="modality")
    assert "there is only text" in refusal(one, co_attention=True)
    assert "'fear' is not one of the dataset's labels (calm, glad, cross)" in refusal(specialist="cross,fear")
    assert "not all, each once" in refusal(specialist="cross,cross")
    assert "not all, each once" in refusal(specialist="cross,calm,glad")
    assert "'video' is not one of the modalities to train on (text, audio)" in refusal(sequences="audio,video")
    assert "sequences of text, but the train split has none; extract them with --config.sequence_frames=" in refusal(
        sequences="audio,text"
    )
    assert "no utterance of the train split has a sentiment" in refusal({"sentiments": False}, sentiment=0.3)
