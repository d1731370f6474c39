"""What must hold for the default model in training; test_properties.py holds every choice to the rest."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import tiny

from jmer.base.labels import SENTIMENTS
from jmer.nn.speaker_graph import GraphOptions
from jmer.training.losses import classification_loss
from jmer.training.objective import Objective, specialist_labels

SEQUENCES = {"audio": (6, tiny.SEQUENCE_DIMS["audio"])}
DATA = tiny.batch(tiny.dialogues([6, 3, 5]), sequences=SEQUENCES)


def random_variables(model):
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), DATA, train=False))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda p: jnp.array(rng.normal(size=p.shape) * 0.4, jnp.float32), shapes)


def test_who_speaks_matters_to_the_graph_and_to_the_transformer():
    for options in ({}, {"graph": None, "encoder": "transformer"}):
        model = tiny.model(**options)
        variables = random_variables(model)
        apply = jax.jit(lambda data, m=model, v=variables: tiny.apply(m, v, data, train=False).logits)
        merged = tiny.batch([replace(d, speakers=("one",) * len(d)) for d in tiny.dialogues([6, 3, 5])])
        assert np.abs(apply(merged) - apply(DATA)).max() > 1e-3


def test_frames_are_standardised_by_their_own_statistics():
    model = tiny.model(sequence_dims=(("audio", 3),), encoder="none", graph=None)
    variables = random_variables(model)
    apply = jax.jit(lambda stats, data: tiny.apply(model, variables | {"stats": stats}, data, train=False).logits)
    mean, scale = (variables["stats"][f"audio_sequence_{name}"] for name in ("mean", "scale"))
    moved = DATA._replace(sequences={"audio": DATA.sequences["audio"] * np.float16(2) + np.float16(1)})
    along = variables["stats"] | {"audio_sequence_mean": 2 * mean + 1, "audio_sequence_scale": scale / 2}
    plain = apply(variables["stats"], DATA)
    np.testing.assert_allclose(apply(along, moved), plain, atol=0.01)
    assert np.abs(apply(variables["stats"], moved) - plain).max() > 0.1


def test_every_parameter_of_every_part_learns_and_gradients_are_finite():
    """In training, with every part and rate on, NaN under the masks, and all losses."""
    model = tiny.model(
        dims=(("text", 6), ("audio", 5)), sequence_dims=(("audio", 3),), fusion="hybrid", co_attention=True,
        graph_nodes="modality",
        learn_graph_weight=True, sentiment=True, specialist=(1,), embedding=True, prototypes=True, modality_dropout=0.1,
        feature_noise=0.1, mixup=0.3, encoder="bigru_attention",
        graph=GraphOptions(layers=("rgcn", "gat"), heads=2, drop_node=0.1, drop_edge=0.1),
    )  # fmt: skip
    objective = Objective(
        specialist=(1,), specialist_weight=0.5, sentiment_weight=0.5, contrastive_weight=0.5, augmentations=2,
        consistency_weight=1.0,
    )  # fmt: skip
    variables = random_variables(model)
    nan = {m: np.where(DATA.present[m][..., None], x, np.nan) for m, x in DATA.features.items()}
    frames = {m: np.where(DATA.frames[m][..., None], x, np.float16(np.nan)) for m, x in DATA.sequences.items()}

    def loss(params):
        def forward(key):
            data, rngs = DATA._replace(features=nan, sequences=frames), {"dropout": key}
            return tiny.apply(model, variables | {"params": params}, data, train=True, rngs=rngs)

        return objective(jax.vmap(forward)(jax.random.split(jax.random.key(1))), DATA)

    value, grads = jax.jit(jax.value_and_grad(loss))(variables["params"])
    assert np.isfinite(value)
    for path, g in jax.tree_util.tree_leaves_with_path(grads):
        name = jax.tree_util.keystr(path)
        assert np.isfinite(g).all(), name
        if "'key']['bias'" not in name:  # it shifts all of a query's logits alike, which softmax does not see
            assert np.abs(g).max() > 1e-9, name


def test_the_objective_is_the_sum_of_its_parts():
    model = tiny.model(sentiment=True, specialist=(2, 0))
    output = jax.jit(lambda: tiny.apply(model, random_variables(model), DATA, train=False))()
    assert output.sentiment.shape[-1] == len(SENTIMENTS)
    objective = Objective(
        class_weights=(1.0, 2.0, 0.5), sentiment_weight=0.7, specialist=(2, 0), specialist_weight=0.3,
        specialist_class_weights=(2.0, 1.0, 0.5),
    )  # fmt: skip
    rare = jnp.array([[{2: 0, 0: 1, 1: 2, -1: -1}[y] for y in row] for row in DATA.label.tolist()], jnp.int32)
    np.testing.assert_array_equal(specialist_labels(jnp.array(DATA.label), (2, 0)), rare)
    expected = (
        classification_loss(output.logits, DATA.label, class_weights=(1.0, 2.0, 0.5))
        + 0.3 * classification_loss(output.specialist, rare, class_weights=(2.0, 1.0, 0.5))
        + 0.7 * classification_loss(output.sentiment, DATA.sentiment)
    )
    found = objective(jax.tree.map(lambda x: x[None], output), DATA)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_dropout_works_in_training_alone():
    model = tiny.model()
    variables = random_variables(model)

    def logits(key):
        return tiny.apply(model, variables, DATA, train=True, rngs={"dropout": key}).logits

    a, b = jax.jit(jax.vmap(logits))(jax.random.split(jax.random.key(0)))
    assert (a != b).any()


def test_a_dialogue_of_any_length():
    model = tiny.model()
    variables = random_variables(model)
    long = tiny.dialogues([200])
    apply = jax.jit(lambda data: tiny.apply(model, variables, data, train=False).logits)
    a, b = (apply(tiny.batch(long, length=n))[0, :200] for n in (256, 200))
    assert np.isfinite(a).all()
    np.testing.assert_allclose(a, b, atol=1e-5)
