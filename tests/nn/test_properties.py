"""What must hold for the model whatever fills its slots: encoder x graph x fusion.

Every two choices meet in some test here. All combinations, by hand (an hour on 2 cores):

    JMER_ALL_COMBINATIONS=1 python -m pytest tests/nn/test_properties.py
"""

import itertools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jmer.base.errors import UserError
from jmer.nn.model import Model
from jmer.nn.options import GFPushOptions, ModelOptions

ALL = bool(os.environ.get("JMER_ALL_COMBINATIONS"))
CHOICES = {
    "encoder": ("none", "gru", "bigru", "bigru_attention", "transformer"),
    "graph": ("none", "rgcn", "gat", "rgcn,gat", "grnn", "gfpush"),
    "fusion": ("early", "gated", "late", "hybrid"),
    "nodes": ("utterance", "modality"),
    "co_attention": (False, True),
    "causal": (False, True),
}


def options_of(encoder, graph, fusion, nodes, co_attention, causal) -> ModelOptions:
    """The options of a choice, with every drop rate above zero and a linear term."""
    return ModelOptions(
        encoder=encoder, graph=graph, fusion=fusion, graph_nodes=nodes, co_attention=co_attention, hidden=8, heads=2,
        past=3, future=0 if causal else 2, distance_bins="1", bases=2, gfpush=GFPushOptions(order=2), drop_node=0.3,
        drop_edge=0.3, dropout=0.3, modality_dropout=0.3, feature_noise=0.3, mixup=0.3, linear=True, speaker_mean=True,
    )  # fmt: skip


def possible(encoder, graph, fusion, nodes, co_attention, causal) -> bool:
    """Whether the options allow the choice; without a graph, nodes for modalities would be the same model twice."""
    try:
        options_of(encoder, graph, fusion, nodes, co_attention, causal).check()
    except UserError:
        return False
    return graph != "none" or nodes == "utterance"


def combinations() -> list[tuple]:
    """All, or greedily some in which every possible pair of choices occurs."""
    every = [c for c in itertools.product(*CHOICES.values()) if possible(*c)]
    if ALL:
        return every
    pairs = {c: set(itertools.combinations(enumerate(c), 2)) for c in every}
    left, chosen = set().union(*pairs.values()), []
    while left:
        best = max(every, key=lambda c: len(pairs[c] & left))
        chosen.append(best)
        left -= pairs[best]
    return chosen


def name_of(choice) -> str:
    return "-".join(map(str, choice))


DIALOGUES = tiny.dialogues([6, 3, 5])
N = len(DIALOGUES[0])


def batch(dialogues, *, length=8, rows=4):
    """The first dialogue in a row of its own, the others in one.

    Sequences are padded like dialogues: with a longer length, these have more padding too.
    """
    sequences = {m: (length, d) for m, d in tiny.SEQUENCE_DIMS.items()}
    return tiny.batch(dialogues, sequences=sequences, length=length, rows=rows, packed=True)


def with_masked(data, value):
    """The batch with `value` (a number, or a generator of them) wherever a mask says that nothing is."""

    def masked(arrays, masks):
        other = value.normal if isinstance(value, np.random.Generator) else lambda size: np.full(size, value)
        return {
            m: np.where(masks[m][..., None], x, 100 * other(size=x.shape)).astype(x.dtype) for m, x in arrays.items()
        }

    frames = {m: x & data.present[m][..., None] for m, x in data.frame_mask.items()}
    return data._replace(features=masked(data.features, data.present), sequences=masked(data.sequences, frames))


def made(*choice):
    """A model and random variables of it."""
    model = Model(
        options=options_of(*choice),
        dims=tuple(tiny.DIMS.items()),
        sequence_dims=tuple(tiny.SEQUENCE_DIMS.items()),
        labels=tiny.LABELS,
        states=(("text", 2),),
    )
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), batch(DIALOGUES)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda p: jnp.array(rng.normal(size=p.shape) * 0.4, jnp.float32), shapes)
    return model, variables


def model_of(*choice):
    """The model with random parameters."""
    model, variables = made(*choice)
    return jax.jit(lambda data: tiny.apply(model, variables, data))  # without any random key


@pytest.mark.parametrize("choice", combinations()[:: 1 if ALL else 5], ids=name_of)
def test_more_padding_changes_nothing(choice):
    apply = model_of(*choice)
    a, b = (apply(batch(DIALOGUES[:1], length=n, rows=1)).logits[0, :N] for n in (8, 12))
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("choice", combinations(), ids=name_of)
def test_properties(choice):
    encoder, graph, fusion, _, co_attention, causal = choice
    apply, base, rng = model_of(*choice), batch(DIALOGUES), np.random.default_rng(1)
    whole = apply(base)
    valid = base.mask[..., None]

    def same(a, b):
        """Bit for bit, where utterances are."""
        np.testing.assert_array_equal(np.where(valid, a.logits, 0), np.where(valid, b.logits, 0))
        np.testing.assert_array_equal(np.where(valid, a.gates, 0), np.where(valid, b.gates, 0))

    assert np.isfinite(whole.logits).all()
    assert np.abs(np.diff(whole.logits[0, :N], axis=0)).max() > 1e-3  # the model does say something
    # Other dialogues and their order.
    turned = apply(batch(DIALOGUES[::-1]))
    together = ((0, 0), (1, 0), (1, 3)), ((1, 0), (0, 5), (0, 0))  # rows and columns where the dialogues begin
    for dialogue, *places in zip(DIALOGUES, *together, strict=True):
        n, alone = len(dialogue), apply(batch([dialogue])).logits[0]
        for output, (row, column) in zip((whole, turned), places, strict=True):
            np.testing.assert_allclose(output.logits[row, column : column + n], alone[:n], atol=1e-5)
    # What stands under a false mask, and what speakers are called.
    same(apply(with_masked(base, np.nan)), whole)
    same(apply(with_masked(base, rng)), whole)
    names = np.array([7, 2, 9, -1], np.int32)
    same(apply(base._replace(speaker=names[base.speaker])), whole)
    # Any subset of the modalities.
    for kept in itertools.product((False, True), repeat=3):
        present = {m: x & keep for (m, x), keep in zip(base.present.items(), kept, strict=True)}
        output = apply(with_masked(base._replace(present=present), np.nan))
        assert np.isfinite(output.logits).all()
        absent = [i for i, m in enumerate(tiny.DIMS) if not present[m].any()]
        if fusion != "early":
            assert (np.asarray(output.gates)[..., absent] == 0).all()
    # The future.
    t = 3
    features, sequences = (
        {m: np.concatenate([x[:, :t], x[:, t:] * -3 + 1], axis=1) for m, x in arrays.items()}
        for arrays in (base.features, base.sequences)
    )
    changed = apply(base._replace(features=features, sequences=sequences))
    if causal:
        np.testing.assert_array_equal(changed.logits[:, :t], whole.logits[:, :t])
    elif graph != "none" or encoder not in ("none", "gru") or co_attention:
        assert (changed.logits[0, :t] != whole.logits[0, :t]).any()
    assert (changed.logits[0, t:N] != whole.logits[0, t:N]).any()
