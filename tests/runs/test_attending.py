"""How much an utterance attends to the others, as predictions tell it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import jmer
from jmer.base.types import Rows
from jmer.graph import FORMS, relation_names, speaker_graph
from jmer.nn.graph_layers import ATTENTION, GAT
from jmer.nn.options import GraphOptions
from jmer.runs import directory
from jmer.runs.voting import Voters, attention_of


@pytest.mark.parametrize("form", FORMS)
def test_the_weights_are_those_by_which_values_are_added_up(form):
    """With one head, the output of a layer is the weights times the projected nodes."""
    rng = np.random.default_rng(0)
    present = jnp.array(rng.random((2, 7, 2)) < 0.8)
    dialogue = jnp.array([[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0]], jnp.int32)
    mask = jnp.array([[True] * 7, [True] * 5 + [False] * 2])
    rows = Rows(mask=mask, dialogue=dialogue, speaker=jnp.where(mask, jnp.array(rng.integers(2, size=(2, 7))), -1))
    graph = speaker_graph(present & mask[..., None], rows, past=2, future=1, form=form)
    layer = GAT(options=GraphOptions(heads=1), features=5, relations=len(relation_names(streams=2)))
    nodes = jnp.array(rng.normal(size=(2, 7, 2, 4)), jnp.float32)
    params: Any = jax.jit(lambda: layer.init(jax.random.key(0), graph, nodes))()["params"]
    asked: Any = jax.jit(lambda p: tiny.apply(layer, {"params": p}, graph, nodes, mutable=[ATTENTION]))
    out, found = asked(params)
    (weights,) = found[ATTENTION]["weights"]  # [V, B, U, M]
    sent = (nodes @ params["project"]["kernel"]).reshape(2, 14, 5)
    expected = np.einsum("vbum,bvd->bumd", weights, sent) + np.asarray(params["bias"])
    np.testing.assert_allclose(expected, out, atol=1e-5)
    np.testing.assert_allclose(weights.sum(axis=0), 1, atol=1e-5)
    assert not np.asarray(weights).reshape(7, 2, 2, 7, 2)[4:, :, 0, :4].any()  # no other dialogue is seen
    alone: Any = jax.jit(lambda p: tiny.apply(layer, {"params": p}, graph, nodes, mutable=["stats"]))
    plain, nothing = alone(params)
    np.testing.assert_array_equal(plain, out)
    assert not nothing


def test_a_dialogue_has_a_row_for_each_utterance(trained):
    run, single = directory.load(trained), tiny.dialogue(7, np.random.default_rng(0))
    weights = attention_of(run, single)
    assert weights.shape == (7, 7)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    members = [run, dataclasses.replace(run)]
    voted: Any = Voters(members, vote=True).attention(single)
    np.testing.assert_allclose(voted, weights, atol=1e-6)
    without = dataclasses.replace(run.options, graph="rgcn")
    assert Voters([dataclasses.replace(run, options=without)], vote=True).attention(single) is None

    predictor = jmer.load(trained, vote=True)
    utterances = [{"id": f"u{i}", "features": {"text": np.ones(6, np.float32) * i}} for i in range(3)]
    (said,) = predictor.predict_all([utterances], attention=True)
    assert [list(p.attention) for p in said] == [["u0", "u1", "u2"]] * 3
    np.testing.assert_allclose([sum(p.attention.values()) for p in said], 1, atol=1e-5)
    assert predictor.predict(utterances)[0].attention == {}
