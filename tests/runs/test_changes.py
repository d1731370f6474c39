"""Which settings of a run may change, and how the others are named."""

from dataclasses import replace

import pytest

from jmer.base.options import fields
from jmer.nn.options import GFPushOptions
from jmer.runs.changes import AFTER_DIVERGENCE, option_changes
from jmer.runs.inputs import Inputs, Modality
from jmer.training.options import TrainOptions

OLD = TrainOptions(dataset="data/x", epochs=5, graph="rgcn,gat")
TEXT = Modality(dim=6, extractor={"model": "a/b"}, fingerprint="f" * 64)
INPUTS = Inputs(
    labels=("calm", "glad"),
    dataset_fingerprint="d" * 64,
    modalities={"text": TEXT, "audio": replace(TEXT, dim=5)},
    sequence_dims={},
)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("dataset", "./data/x", "config.dataset was data/x, is ./data/x"),
        ("vote", True, "config.vote was False, is True"),
        ("merge_epochs", "average", "config.merge_epochs was vote, is average"),
        ("data_mode", "streamed", "config.data_mode was auto, is streamed"),
        ("devices", 2, "config.devices was 0, is 2"),
        ("epochs", 6, "config.epochs was 5, is 6"),
    ],
)
def test_what_keeps_the_result_is_accepted(name, value, said):
    changes = option_changes(OLD, replace(OLD, **{name: value}), diverged=False)
    assert (changes.accepted, changes.refused) == ((said,), ())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lr": 0.01}, "config.lr was 0.001, is 0.01"),
        ({"epochs": 4}, "config.epochs was 5, is 4"),
        ({"keep_epochs": 2}, "config.keep_epochs was 1, is 2"),
        ({"seeds": 2}, "config.seeds was 1, is 2"),
        ({"specialist": "glad"}, "config.specialist was '', is glad"),
        ({"graph": "gat,rgcn"}, "config.graph was rgcn,gat, is gat,rgcn"),
        ({"gfpush": GFPushOptions(alpha=0.5)}, "config.gfpush.alpha was 0.2, is 0.5"),
    ],
)
def test_what_changes_the_result_is_refused_with_both_values(change, said):
    changes = option_changes(OLD, replace(OLD, **change), diverged=False)
    assert (changes.accepted, changes.refused) == ((), (said,))


def test_another_spelling_of_a_list_is_no_change():
    changes = option_changes(OLD, replace(OLD, graph=" rgcn, gat"), diverged=False)
    assert (changes.accepted, changes.refused) == ((), ())


def test_every_option_is_compared():
    for name, value, _ in fields(OLD):
        if name == "modalities" or "." in name:
            continue
        different = not value if isinstance(value, bool) else value + 1 if isinstance(value, int | float) else "x"
        changes = option_changes(OLD, replace(OLD, **{name: different}), diverged=False)
        assert len(changes.accepted + changes.refused) == 1, name


def test_after_a_divergence_the_optimiser_may_be_tamed():
    tamed = replace(OLD, lr=1e-4, warmup=0.2, clip_norm=0.5)
    assert len(option_changes(OLD, tamed, diverged=True).accepted) == len(AFTER_DIVERGENCE)
    assert option_changes(OLD, replace(tamed, hidden=64), diverged=True).refused == ("config.hidden was 128, is 64",)


def test_inputs_are_compared_by_fingerprint():
    moved = replace(INPUTS, modalities={**INPUTS.modalities, "text": replace(TEXT, extractor={"model": "new/b"})})
    assert moved.changes_from(INPUTS) == ()
    for other, said in (
        ({"labels": ("calm", "cross")}, "the labels were calm, glad, are calm, cross"),
        ({"dataset_fingerprint": "e" * 64}, "the dataset's fingerprint was dddddddddddd, is eeeeeeeeeeee"),
        ({"modalities": {"text": TEXT}}, "config.modalities was text,audio, is text"),
        ({"sequence_dims": {"text": 4}}, "the sequences had dims {}, have {'text': 4}"),
        (
            {"modalities": {**INPUTS.modalities, "text": replace(TEXT, fingerprint="0" * 64)}},
            "the text extractor was ffffffffffff of 6 features, is 000000000000 of 6",
        ),
    ):
        assert replace(INPUTS, **other).changes_from(INPUTS) == (said,)
