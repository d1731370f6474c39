"""What must hold for the default model in training; test_properties.py holds every choice to the rest."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jmer.base.labels import SENTIMENTS
from jmer.base.types import UNLABELLED
from jmer.nn.model import _from_mean as from_mean
from jmer.nn.options import ContrastiveOptions
from jmer.training.losses import classification_loss, consistency_loss, contrastive_loss
from jmer.training.objective import Objective, specialist_labels
from jmer.training.options import ConsistencyOptions, ObjectiveOptions

SEQUENCES = {"audio": (6, tiny.SEQUENCE_DIMS["audio"])}
AUXILIARY = {"sentiment": 0.5, "specialist": "glad", "contrastive": ContrastiveOptions(weight=0.5)}
DATA = tiny.batch(tiny.dialogues([6, 3, 5]), sequences=SEQUENCES)


def random_variables(model):
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), DATA))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda p: jnp.array(rng.normal(size=p.shape) * 0.4, jnp.float32), shapes)


def test_who_speaks_matters_to_the_graph_and_to_the_transformer():
    cases: tuple[dict[str, Any], ...] = ({}, {"graph": "none", "encoder": "transformer"})
    for options in cases:
        model = tiny.model(**options)
        variables = random_variables(model)
        apply = jax.jit(lambda data, m=model, v=variables: tiny.apply(m, v, data).logits)
        merged = tiny.batch([replace(d, speakers=("one",) * len(d)) for d in tiny.dialogues([6, 3, 5])])
        assert np.abs(apply(merged) - apply(DATA)).max() > 1e-3


def test_frames_are_standardised_by_their_own_statistics():
    model = tiny.model(sequence_dims={"audio": 3}, encoder="none", graph="none")
    variables = random_variables(model)
    apply = jax.jit(lambda stats, data: tiny.apply(model, variables | {"stats": stats}, data).logits)
    mean, scale = (variables["stats"][f"audio_sequence_{name}"] for name in ("mean", "scale"))
    moved = DATA._replace(sequences={"audio": DATA.sequences["audio"] * np.float16(2) + np.float16(1)})
    along = variables["stats"] | {"audio_sequence_mean": 2 * mean + 1, "audio_sequence_scale": scale / 2}
    plain = apply(variables["stats"], DATA)
    np.testing.assert_allclose(apply(along, moved), plain, atol=0.01)
    assert np.abs(apply(variables["stats"], moved) - plain).max() > 0.1


def test_every_parameter_of_every_part_learns_and_gradients_are_finite():
    """In training, with every part and rate on, NaN under the masks, and all losses."""
    model = tiny.model(
        dims={"text": 6, "audio": 5}, sequence_dims={"audio": 3}, fusion="hybrid", co_attention=True,
        graph_nodes="modality", learn_graph_weight=True, modality_dropout=0.1, feature_noise=0.1, mixup=0.3,
        encoder="bigru_attention", drop_node=0.1, drop_edge=0.1, linear=True, speaker_mean=True, states=(("text", 3),),
        **AUXILIARY,
    )  # fmt: skip
    options = ObjectiveOptions(consistency=ConsistencyOptions(passes=2), **AUXILIARY)
    objective = Objective(options=options, counts=(5, 3, 4), specialist=model.specialist_classes)
    variables = random_variables(model)
    nan = {m: np.where(DATA.present[m][..., None], x, np.nan) for m, x in DATA.features.items()}
    frames = {m: np.where(DATA.frame_mask[m][..., None], x, np.float16(np.nan)) for m, x in DATA.sequences.items()}

    def loss(params):
        def forward(key):
            data, rngs = DATA._replace(features=nan, sequences=frames), {"dropout": key}
            return tiny.apply(model, variables | {"params": params}, data, rngs=rngs)

        return objective(jax.vmap(forward)(jax.random.split(jax.random.key(1))), DATA)

    value, grads = jax.jit(jax.value_and_grad(loss))(variables["params"])
    assert np.isfinite(value)
    for path, g in jax.tree_util.tree_leaves_with_path(grads):
        name = jax.tree_util.keystr(path)
        assert np.isfinite(g).all(), name
        if "'key']['bias'" not in name:  # it shifts all of a query's logits alike, which softmax does not see
            assert np.abs(g).max() > 1e-9, name


def test_the_objective_is_the_sum_of_its_parts():
    auxiliary = {
        "sentiment": 0.7, "specialist": "cross,calm", "specialist_weight": 0.3,
        "contrastive": ContrastiveOptions(weight=0.4, temperature=0.2),
    }  # fmt: skip
    model = tiny.model(**auxiliary)
    output = jax.jit(lambda: tiny.apply(model, random_variables(model), DATA))()
    assert output.sentiment.shape[-1] == len(SENTIMENTS)
    options = ObjectiveOptions(
        class_weights="inverse", focal_gamma=1.5, label_smoothing=0.1, logit_adjustment=0.8,
        consistency=ConsistencyOptions(passes=2, weight=0.6, temperature=0.25, confidence=0.4), **auxiliary,
    )  # fmt: skip
    counts = np.array([6, 2, 4])
    objective = Objective(options=options, counts=(6, 2, 4), specialist=model.specialist_classes)
    rare = jnp.array([[{2: 0, 0: 1, 1: 2, -1: -1}[y] for y in row] for row in DATA.label.tolist()], jnp.int32)
    np.testing.assert_array_equal(specialist_labels(jnp.array(DATA.label), model.specialist_classes), rare)
    # 12 utterances; weights 12 / (3 n), and of the specialist's classes 4, 6 and 2 by the root.
    root = np.array([4, 6, 2]) ** -0.5 * 12 / np.sqrt([4, 6, 2]).sum()
    second = jax.tree.map(lambda x: x + 0.3 * jnp.sin(7 * x), output)._replace(prototypes=output.prototypes)
    supervised = [
        classification_loss(
            each.logits, DATA.label, class_weights=(4 / counts).tolist(), focal_gamma=1.5, label_smoothing=0.1,
            log_prior=(0.8 * np.log(counts / 12)).tolist(),
        )
        + 0.3 * classification_loss(each.specialist, rare, class_weights=root.tolist())
        + 0.7 * classification_loss(each.sentiment, DATA.sentiment)
        + 0.4 * contrastive_loss(each.embedding, DATA.label, temperature=0.2, prototypes=each.prototypes)
        for each in (output, second)
    ]  # fmt: skip
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), output, second)
    consistency = consistency_loss(both.logits, DATA.mask, temperature=0.25, confidence=0.4)
    np.testing.assert_allclose(objective(both, DATA), np.mean(supervised) + 0.6 * consistency, rtol=1e-5)


def test_without_its_options_the_objective_is_plain_cross_entropy():
    model = tiny.model()
    output = jax.tree.map(lambda x: x[None], jax.jit(lambda: tiny.apply(model, random_variables(model), DATA))())
    objective = Objective(options=ObjectiveOptions(), counts=(6, 2, 4))
    assert objective.class_weights is None
    assert objective.log_prior is None
    np.testing.assert_allclose(objective(output, DATA), classification_loss(output.logits[0], DATA.label), rtol=1e-6)


def test_dropout_works_in_training_alone():
    model = tiny.model()
    variables = random_variables(model)

    def logits(key):
        return tiny.apply(model, variables, DATA, rngs={"dropout": key}).logits

    a, b = jax.jit(jax.vmap(logits))(jax.random.split(jax.random.key(0)))
    assert (a != b).any()


def test_a_dialogue_of_any_length():
    model = tiny.model()
    variables = random_variables(model)
    long = tiny.dialogues([200])
    apply = jax.jit(lambda data: tiny.apply(model, variables, data).logits)
    a, b = (apply(tiny.batch(long, length=n))[0, :200] for n in (256, 200))
    assert np.isfinite(a).all()
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_linear_term_is_zero_at_first_and_a_linear_probe_afterwards():
    model, plain = tiny.model(linear=True, encoder="none"), tiny.model(encoder="none")
    variables: Any = jax.jit(model.init)(jax.random.key(0), DATA)
    kept = {"params": {k: v for k, v in variables["params"].items() if not k.endswith("_linear")}}
    kept |= {"stats": variables["stats"]}
    apply = jax.jit(lambda variables: tiny.apply(model, variables, DATA).logits)
    before = apply(variables)
    np.testing.assert_allclose(before, jax.jit(lambda v: tiny.apply(plain, v, DATA).logits)(kept), atol=1e-6)
    rng, expected = np.random.default_rng(0), np.array(before)
    for m in tiny.DIMS:
        kernel = rng.normal(size=(tiny.DIMS[m], len(tiny.LABELS))).astype(np.float32)
        variables["params"][f"{m}_linear"]["kernel"] = kernel
        expected += np.where(DATA.present[m][..., None], DATA.features[m], 0) @ kernel
    np.testing.assert_allclose(apply(variables), expected, atol=1e-4)


def test_hidden_states_are_weighed_by_a_softmax():
    model = tiny.model(dims={"text": 6}, states=(("text", 3),), encoder="none")
    one = tiny.model(dims={"text": 2}, encoder="none")
    variables = random_variables(model)
    chosen = np.array([-2.0, 3.0, -1.0], np.float32)  # times the steepness, so that the second state has all weight
    variables["params"]["text_states"] = jnp.asarray(chosen)
    x = {m: DATA.features[m] for m in ("text",)}
    mean, scale = (variables["stats"][f"text_{name}"] for name in ("mean", "scale"))
    alone = {"text": x["text"][..., 2:4]}
    params = {k: v for k, v in variables["params"].items() if k != "text_states"}
    stats = {"text_mean": mean[2:4], "text_scale": scale[2:4]}
    found = tiny.apply(model, variables, DATA).logits
    expected = tiny.apply(one, {"params": params, "stats": stats}, DATA._replace(features=alone)).logits
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_difference_from_the_speakers_mean_is_that_of_its_definition():
    dialogues = tiny.dialogues([6, 3, 5])
    batch = tiny.batch(dialogues, length=10, packed=True)  # the first two share a row
    x = np.where(batch.present["audio"][..., None], batch.features["audio"], 0).astype(np.float32)
    here = np.asarray(batch.present["audio"] & batch.mask)
    dialogue, speaker = np.asarray(batch.rows.dialogue), np.asarray(batch.speaker)
    for causal in (False, True):
        found = from_mean(jnp.asarray(x), jnp.asarray(here), batch.rows, causal=causal)
        for b, u in np.ndindex(here.shape):
            mates = [
                v
                for v in range(here.shape[1])
                if here[b, v]
                and (dialogue[b, v], speaker[b, v]) == (dialogue[b, u], speaker[b, u])
                and (v <= u or not causal)
            ]
            expected = x[b, u] - x[b, mates].mean(axis=0) if here[b, u] else 0 * x[b, u]
            np.testing.assert_allclose(found[b, u], expected, atol=1e-5)


@pytest.mark.parametrize("fusion", ["late", "hybrid"])
def test_each_branch_learns_by_itself_and_answers_where_the_others_are_missing(fusion):
    model = tiny.model(fusion=fusion, linear=True, encoder="none", graph="none", branch_loss=0.5)
    variables, plain = random_variables(model), ObjectiveOptions()
    output = tiny.apply(model, variables, DATA)
    assert output.branches is not None
    assert output.branch_mask is not None
    names = list(tiny.DIMS)
    if fusion == "late":
        for i, m in enumerate(names):
            alone = DATA._replace(present={n: x & (n == m) for n, x in DATA.present.items()})
            found, here = tiny.apply(model, variables, alone).logits, np.asarray(DATA.present[m] & DATA.mask)
            np.testing.assert_allclose(found[here], output.branches[:, :, i][here], atol=1e-5)
    each = []
    for i in range(len(names) + (fusion == "hybrid")):
        mask = DATA.present[names[i]] if i < len(names) else DATA.mask
        np.testing.assert_array_equal(output.branch_mask[:, :, i] & DATA.mask, mask & DATA.mask)
        labels = np.where(mask, DATA.label, UNLABELLED)
        log_p = jax.nn.log_softmax(output.branches[:, :, i])
        each.append(-np.mean([log_p[p][labels[p]] for p in zip(*np.nonzero(labels != UNLABELLED), strict=True)]))
    stacked = jax.tree.map(lambda x: x[None], output)
    with_branches = Objective(options=replace(plain, branch_loss=0.5), counts=(6, 2, 4))(stacked, DATA)
    without = Objective(options=plain, counts=(6, 2, 4))(stacked._replace(branches=None, branch_mask=None), DATA)
    np.testing.assert_allclose(with_branches - without, 0.5 * sum(each), rtol=1e-5)
