"""Layers that PyTorch Geometric does not have, against NumPy loops in float64; test_parity.py has the others."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jmer.base.options import fields
from jmer.base.types import Rows
from jmer.graph import FORMS, Segments, gfpush, relation_names, speaker_graph
from jmer.nn import mixing, options
from jmer.nn import speaker_graph as graph_slot
from jmer.nn.attention import Attention, Block, CoAttention, dialogue_pairs
from jmer.nn.fusion import GatedFusion, LateFusion, drop_modality
from jmer.nn.graph_layers import GRNN, GFPush
from jmer.nn.model import merge_specialist
from jmer.nn.options import EncoderOptions, FusionOptions, GFPushOptions, GraphOptions


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def run(layer, *args, **kwargs):
    """The layer's output with random parameters, biases too, and these in float64."""
    shapes = jax.eval_shape(lambda: layer.init(jax.random.key(0), *args, **kwargs))["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda p: jnp.array(rng.normal(size=p.shape) * 0.5, jnp.float32), shapes)
    out = jax.jit(lambda params: tiny.apply(layer, {"params": params}, *args, **kwargs))(params)
    return out, jax.tree.map(lambda a: np.asarray(a, np.float64), params)


def dense(x, p):
    return x @ p["kernel"] + p["bias"]


@pytest.fixture(scope="module")
def graph():
    rng = np.random.default_rng(1)
    mask = jnp.array(np.arange(6) < np.array([6, 4, 1])[:, None])
    speaker = jnp.where(mask, jnp.array(rng.integers(2, size=(3, 6)), jnp.int32), -1)
    nodes = jnp.array(rng.normal(size=(3, 6, 1, 4)), jnp.float32)
    rows = Rows(mask=mask, dialogue=jnp.zeros_like(speaker), speaker=speaker)
    return speaker_graph(mask[..., None], rows, past=2, future=3, form="segments"), nodes


@pytest.mark.parametrize("bases", [0, 2])
def test_grnn_equals_its_equations(graph, bases):
    relations = len(relation_names())
    edges, nodes = graph
    out, p = run(GRNN(options=GraphOptions(bases=bases), features=4, relations=relations), edges, nodes)
    w = np.einsum("rk,kdf->rdf", p["coefficients"], p["bases"]) if bases else p["w"]
    assert isinstance(edges, Segments)
    x, columns = np.asarray(nodes, np.float64).reshape(18, 4), (edges.senders, edges.receivers, edges.relation)
    triples = [tuple(int(a[i]) for a in columns) for i in np.flatnonzero(edges.mask)]
    for _ in range(2):
        new = np.empty_like(x)
        for i, state in enumerate(x):
            message = np.zeros(4)
            for r in range(relations):
                near = [j for j, to, relation in triples if to == i and relation == r]
                message += x[near].mean(0) @ w[r] if near else 0
            c = p["cell"]
            reset = sigmoid(dense(message, c["ir"]) + state @ c["hr"]["kernel"])
            update = sigmoid(dense(message, c["iz"]) + state @ c["hz"]["kernel"])
            candidate = np.tanh(dense(message, c["in"]) + reset * dense(state, c["hn"]))
            new[i] = (1 - update) * candidate + update * state
        x = new
    np.testing.assert_allclose(out.reshape(18, 4), x, atol=1e-5)


def test_gfpush_layer_mixes_by_the_library_function():
    rng = np.random.default_rng(6)
    nodes, present = rng.normal(size=(2, 6, 1, 4)), np.arange(6) < np.array([6, 4])[:, None]
    given = GraphOptions(gfpush=GFPushOptions(order=3, alpha=0.3, rmax=0.05, top_k=3))
    layer = GFPush(options=given, features=5, relations=4)
    edges = speaker_graph(jnp.array(present)[..., None], one_speaker(present), past=2, future=2, form="dense")
    out, p = run(layer, edges, jnp.array(nodes, jnp.float32))
    distance = np.abs(np.arange(6)[:, None] - np.arange(6))
    for b, n in enumerate((6, 4)):
        joined = ((distance > 0) & (distance <= 2))[:n, :n].astype(np.float32)
        weights = np.asarray(gfpush(joined, order=3, alpha=0.3, rmax=0.05, top_k=3))
        np.testing.assert_allclose(out[b, :n, 0], dense(weights @ nodes[b, :n, 0], p["out"]), atol=1e-5)


def one_speaker(mask):
    """Rows of one dialogue each, in which one person speaks."""
    zeros = jnp.zeros(mask.shape, jnp.int32)
    return Rows(mask=jnp.array(mask), dialogue=zeros, speaker=zeros)


def rotated(x, position):
    half = len(x) // 2
    angle = position / 10_000 ** (np.arange(half) / half)
    a, b = x[:half], x[half : 2 * half]
    return np.r_[a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)]


@pytest.mark.parametrize("causal", [False, True])
def test_attention_equals_its_equations(causal):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(2, 5, 8))
    mask, speaker = np.arange(5) < np.array([5, 3])[:, None], rng.integers(2, size=(2, 5))
    pairs = dialogue_pairs(one_speaker(mask)._replace(speaker=jnp.array(speaker)), causal=causal)
    given = jnp.array(x, jnp.float32)
    out, p = run(Attention(options=EncoderOptions(heads=2)), given, given, pairs)
    for b, i in zip(*np.nonzero(mask), strict=True):
        allowed = [j for j in range(5) if mask[b, j] and (j <= i or not causal)]
        heads = []
        for h in range(2):
            part = slice(4 * h, 4 * h + 4)
            q = dense(x[b, i], p["query"])[part]
            logits = []
            for j in allowed:
                key = dense(x[b, j], p["key"])[part]
                who = p["speaker"][0 if speaker[b, i] == speaker[b, j] else 1, h]
                logits.append((rotated(q, i) @ rotated(key, j) + q @ who) / 2)
            values = np.stack([dense(x[b, j], p["value"])[part] for j in allowed])
            heads.append(softmax(np.array(logits)) @ values)
        np.testing.assert_allclose(out[b, i], dense(np.concatenate(heads), p["out"]), atol=1e-5)


def test_attention_looks_at_distance_not_at_place():
    """Rotary positions: the same dialogue some places later gives the same outputs."""
    rng = np.random.default_rng(3)
    x, mask = rng.normal(size=(1, 4, 8)), np.ones((1, 4), np.bool_)
    later = np.pad(x, ((0, 0), (3, 0), (0, 0))), np.pad(mask, ((0, 0), (3, 0)))
    outs = []
    for features, valid in ((x, mask), later):
        given = jnp.array(features, jnp.float32)
        pairs = dialogue_pairs(one_speaker(valid), causal=False)
        outs.append(run(Attention(options=EncoderOptions(heads=2)), given, given, pairs)[0])
    np.testing.assert_allclose(outs[1][:, 3:], outs[0], atol=1e-5)


def test_co_attention_asks_the_other_modalities_only_where_they_are():
    rng = np.random.default_rng(4)
    x = jnp.array(rng.normal(size=(1, 4, 3, 8)), jnp.float32)
    rows, layer = one_speaker(np.ones((1, 4), np.bool_)), CoAttention(options=EncoderOptions(heads=2))
    present = jnp.ones((1, 4, 3), jnp.bool_).at[0, 1, 2].set(False)

    def outputs(x, present):
        return run(layer, x, present, rows)[0]

    base = outputs(x, present)
    absent = outputs(x.at[0, 1, 2].multiply(-3.0), present)  # nobody asks there, but it asks itself
    changed = np.abs(np.asarray(absent - base)).max(axis=-1)[0] > 0
    np.testing.assert_array_equal(changed, np.arange(12).reshape(4, 3) == 5)
    heard = np.abs(np.asarray(outputs(x.at[0, 0, 2].multiply(-3.0), present) - base)).max(axis=-1)[0] > 1e-4
    assert heard[:, :2].all()  # text and audio hear the video, at every utterance
    assert not heard[1:, 2].any()  # the video does not attend to itself
    alone = outputs(x, jnp.zeros_like(present).at[..., 0].set(True))
    assert np.isfinite(alone).all()


def test_a_transformer_block_with_zero_weights_is_the_identity():
    x, rows = jnp.arange(24.0).reshape(1, 3, 8), one_speaker(np.ones((1, 3), np.bool_))
    given = x, None, dialogue_pairs(rows, causal=False)
    layer = Block(options=EncoderOptions(heads=2), feed_forward=True)
    params = jax.eval_shape(lambda: layer.init(jax.random.key(0), *given))
    zeros = jax.tree.map(lambda p: jnp.zeros(p.shape), params)
    np.testing.assert_array_equal(tiny.apply(layer, zeros, *given), x)


def test_gates_sum_to_one_over_the_present_modalities_and_mix_the_candidates():
    rng = np.random.default_rng(2)
    encoded = jnp.array(rng.normal(size=(1, 4, 3, 5)), jnp.float32)
    present = jnp.array([[[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]]], jnp.bool_)
    (fused, gates), params = run(GatedFusion(options=FusionOptions()), encoded, present)
    np.testing.assert_allclose(gates.sum(-1), [[1, 1, 1, 0]], atol=1e-6)
    assert (gates[~present] == 0).all()
    x = np.where(np.asarray(present)[..., None], np.asarray(encoded, np.float64), 0)
    logits = dense(x.reshape(4, 15), params["gate"]).reshape(4, 3, 5)
    for i in range(3):
        there = np.nonzero(np.asarray(present)[0, i])[0]
        share = softmax(logits[i, there].T).T
        candidates = np.tanh(np.einsum("md,mdf->mf", x[0, i, there], params["w"][there]))
        np.testing.assert_allclose(fused[0, i], (share * candidates).sum(0), atol=1e-5)
        np.testing.assert_allclose(gates[0, i, there], share.mean(-1), atol=1e-5)
    assert (fused[0, 3] == 0).all()


def test_late_fusion_shares_its_weights_out_among_the_present():
    present = jnp.array([[[1, 1, 1], [0, 1, 1], [0, 0, 0]]], jnp.bool_)
    weights, params = run(LateFusion(), present)
    each = np.exp(params["weight"])
    expected = [each / each.sum(), np.r_[0, each[1:] / each[1:].sum()], np.zeros(3)]
    np.testing.assert_allclose(weights[0], expected, atol=1e-6)


def test_modality_dropout_never_takes_all():
    present = jnp.broadcast_to(jnp.array([[1, 1, 1], [1, 0, 0], [0, 0, 0]], jnp.bool_), (5000, 3, 3))
    kept = np.asarray(drop_modality(jax.random.key(0), present, rate=0.5))
    assert not (kept & ~np.asarray(present)).any()
    assert kept[:, :2].any(axis=-1).all()
    np.testing.assert_allclose(kept[:, 0].mean(), (0.5 * 7 / 8 + 1 / 8 * 1) + 0.5 / 8, atol=0.02)


def test_mixup_stays_within_class_and_modality():
    label = np.array([[0, 0, 0, 1, -1], [1, 2, 0, 1, 0]])
    present = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 1, 0]], np.bool_)
    label[~present] = 0
    x = np.zeros((2, 5, 3), np.float32)  # a corner of its own for each class, another for what must not be mixed in
    x[..., 0], x[..., 1], x[..., 2] = label == 0, label == 1, label == 2
    x[~present] = 100
    mix = functools.partial(mixing.mixup, alpha=0.5)
    mixed = jax.jit(mix)(jax.random.key(0), x, present, jnp.array(label, jnp.int32))
    np.testing.assert_allclose(mixed, x, atol=1e-5)
    spread = x + np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    moved = np.abs(np.asarray(jax.jit(mix)(jax.random.key(1), spread, present, jnp.array(label, jnp.int32))) - spread)
    moved = moved.max(-1) > 1e-6
    assert moved[(label >= 0) & (label != 2) & present].mean() > 0.4
    assert not moved[(label == 2) | (label < 0) | ~present].any()


def test_mixup_never_takes_the_utterance_itself():
    """Of two utterances of a class, each is mixed with the other; an utterance that is alone keeps its features."""
    label, present = jnp.array([[0, 0, 1, -1]], jnp.int32), jnp.ones((1, 4), jnp.bool_)
    x = jnp.array([[[1.0], [-1.0], [5.0], [7.0]]])
    mix = functools.partial(mixing.mixup, alpha=5.0)  # shares near 1/2
    mixed = jax.vmap(lambda key: mix(key, x, present, label))(jax.random.split(jax.random.key(0), 200))
    assert (np.abs(mixed[:, 0, :2, 0]) < 0.999).all()
    np.testing.assert_array_equal(mixed[:, 0, 2:, 0], np.broadcast_to([5.0, 7.0], (200, 2)))


def test_every_choice_of_the_options_has_code():
    assert set(options.GRAPH_LAYERS) == set(graph_slot.LAYERS)
    form = next(field for name, _, field in fields(GraphOptions()) if name == "graph_form")
    assert form.choices == ("auto", *FORMS)


def test_noise_has_the_scale():
    x = jnp.full((4, 500, 3), 2.0)
    noisy = np.asarray(mixing.noise(jax.random.key(0), x, scale=0.3))
    assert noisy.mean() == pytest.approx(2.0, abs=0.02)
    assert noisy.std() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("weight", [0.3, 1e-6, 1 - 1e-6])
def test_a_merged_specialist_gives_the_mixture(weight):
    rng = np.random.default_rng(5)
    logits, specialist = rng.normal(size=(2, 3, 5)) * 3, rng.normal(size=(2, 3, 3)) * 3
    merged = merge_specialist(jnp.array(logits, jnp.float32), jnp.array(specialist, jnp.float32), (3, 1), weight=weight)
    p, s = softmax(logits), softmax(specialist)
    q = np.empty_like(p)
    q[..., 3], q[..., 1] = s[..., 0], s[..., 1]
    common = [0, 2, 4]
    q[..., common] = s[..., 2:] * p[..., common] / p[..., common].sum(-1, keepdims=True)
    expected = (1 - weight) * p + weight * q
    np.testing.assert_allclose(expected.sum(-1), 1)
    np.testing.assert_allclose(np.exp(merged), expected, atol=1e-5)
    np.testing.assert_allclose(nn.softmax(merged), expected, atol=1e-5)
