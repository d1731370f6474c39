"""Compares the text and image encoders with Hugging Face's PyTorch ones (fixtures), packed rows and adapters too."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny import apply
from tiny_encoders import run as run_network

from jmer.base.errors import UserError
from jmer.encoders import bert, layers, published
from jmer.encoders.image import ImageEncoder
from jmer.encoders.layers import Sees
from jmer.encoders.running import Running
from jmer.encoders.text import TextEncoder

FIXTURES = np.load(Path(__file__).parents[1] / "fixtures" / "encoders.npz")
TEXTS = ["bert", "roberta", "xlm_roberta", "camembert", "distilbert"]
MASK = FIXTURES["mask"].astype(bool)


def write(case: str, folder: Path, *, prefix: str = "") -> Path:
    """Writes a model of the fixtures as it would be published."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(str(FIXTURES[f"{case}/config"]))
    start = f"{case}/weight/"
    names = [key for key in FIXTURES.files if key.startswith(start)]
    weights = {prefix + key.removeprefix(start): FIXTURES[key].astype(np.float32) for key in names}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def run(encoder: TextEncoder, *, ids: Any, kind: Any, sees: Sees, position: Any = None, **running: Any) -> list:
    network = bert.Bert(config=encoder.config, running=Running(**running))
    position = np.broadcast_to(np.arange(ids.shape[1]), ids.shape) if position is None else position
    return jax.jit(lambda *xs: apply(network, *xs, (0, 1, 2)))(encoder.params(2), ids, position, kind, sees)


@pytest.mark.parametrize("case", TEXTS)
def test_every_layer_equals_pytorch(case: str, tmp_path: Path):
    encoder = TextEncoder(str(write(case, tmp_path, prefix="bert." if case == "bert" else "")))
    assert (encoder.dim, encoder.layers) == (16, 2)
    sees = Sees(segment=MASK.astype(np.int32))
    for running in ({}, {"remat": True}):
        found = run(encoder, ids=FIXTURES["ids"], kind=FIXTURES["kind"], sees=sees, **running)
        for layer, states in enumerate(found):
            np.testing.assert_allclose(states[MASK], FIXTURES[f"{case}/state/{layer}"][MASK], atol=1e-5)


def test_vit_equals_pytorch(tmp_path: Path):
    encoder = ImageEncoder(str(write("vit", tmp_path, prefix="vit.")))
    for layer in range(3):
        found = encoder.encode(FIXTURES["pictures"], layers=(layer,), places=3)
        np.testing.assert_allclose(found, FIXTURES[f"vit/state/{layer}"], atol=1e-5)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    return TextEncoder(str(write("bert", tmp_path_factory.mktemp("bert"))))


def packed(lengths: list[int], *, width: int) -> dict[str, np.ndarray]:
    """Returns a row of several segments with random tokens."""
    rng = np.random.default_rng(1)
    row = {name: np.zeros((1, width), np.int32) for name in ("ids", "position", "segment")}
    start = 0
    for number, length in enumerate(lengths, 1):
        here = slice(start, start + length)
        row["ids"][0, here] = rng.integers(5, 40, length)
        row["position"][0, here], row["segment"][0, here] = np.arange(length), number
        start += length
    return row


def states_of(encoder: TextEncoder, row: dict[str, np.ndarray], **sees: Any) -> np.ndarray:
    kind = np.zeros_like(row["ids"])
    found = run(encoder, ids=row["ids"], kind=kind, position=row["position"], sees=Sees(segment=row["segment"], **sees))
    return np.asarray(found[-1][0])


def test_a_row_of_several_segments_equals_each_alone(tiny: TextEncoder):
    row = packed([7, 3, 9], width=24)
    together, start = states_of(tiny, row), 0
    for length in (7, 3, 9):
        here = slice(start, start + length)
        alone = {name: x[:, here] for name, x in row.items()}
        np.testing.assert_allclose(together[here], states_of(tiny, alone), atol=1e-5)
        start += length


def test_no_segment_sees_another_in_value_or_gradient(tiny: TextEncoder):
    row = packed([7, 3, 9], width=24)
    other = {name: x.copy() for name, x in row.items()}
    other["ids"][0, 7:10] += 1
    mine = row["segment"][0] != 2
    np.testing.assert_array_equal(states_of(tiny, row)[mine], states_of(tiny, other)[mine])

    def first_segment(table: Any) -> Any:
        params = tiny.params(2)["params"]
        name = "embeddings.word_embeddings"
        variables = {"params": {**params, name: {"embedding": table}}}
        sees = Sees(segment=jnp.asarray(row["segment"]))
        zeros = jnp.zeros_like(sees.segment)
        (states,) = run_network(tiny.network, variables, row["ids"], row["position"], zeros, sees, (2,))
        return (states[0, :7] ** 2).sum()

    table = tiny.params(2)["params"]["embeddings.word_embeddings"]["embedding"]
    gradient = np.asarray(jax.grad(first_segment)(table))
    own = np.unique(row["ids"][0, :7])
    assert np.abs(gradient[own]).max() > 1e-3
    np.testing.assert_array_equal(np.delete(gradient, own, axis=0), 0)


@pytest.mark.parametrize(
    ("sees", "seen"),
    [
        ({}, [0, 1, 2, 3]),
        ({"causal": True}, [0, 1, 2]),
        ({"reach": 1}, [1, 2, 3]),
        ({"reach": 0}, [2]),
        ({"reach": 1, "causal": True}, [1, 2]),
    ],
)
def test_turns_see_the_turns_that_they_may(sees: dict, seen: list[int]):
    turn = np.repeat(np.arange(4, dtype=np.int32), 3)[None]
    made = Sees(segment=jnp.ones_like(turn), turn=jnp.asarray(turn), **sees)
    mask = np.asarray(made.bias(6, 3) == 0)[:, 0]  # the queries of turn 2
    assert mask.shape == (1, 3, 12)
    np.testing.assert_array_equal(mask, np.broadcast_to(np.isin(turn, seen)[:, None], mask.shape))


@pytest.mark.parametrize("tokens", [300, 512, 600])
def test_blocks_of_queries_give_the_same(tokens: int, monkeypatch: pytest.MonkeyPatch):
    keys = jax.random.split(jax.random.key(0), 4)
    query, key, value = (jax.random.normal(k, (2, 3, tokens, 8)) for k in keys[:3])
    segment = jnp.broadcast_to(jnp.arange(tokens) // 150, (2, tokens))
    bias = jax.random.normal(keys[3], (2, 3, tokens, tokens))

    def attended(*arrays: Any) -> Any:
        return layers.attend(*arrays[:3], sees=Sees(segment=segment), bias=arrays[3])

    def both() -> tuple[Any, Any]:
        loss = jax.jit(jax.value_and_grad(lambda *a: (attended(*a) ** 2).sum(), (0, 1, 2, 3)))
        return loss(query, key, value, bias)

    blocks = both()
    monkeypatch.setattr(layers, "_QUERIES", 10_000)
    for a, b in zip(jax.tree.leaves(blocks), jax.tree.leaves(both()), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_bfloat16_products_are_close(tiny: TextEncoder):
    given = {"ids": FIXTURES["ids"], "kind": FIXTURES["kind"], "sees": Sees(segment=MASK.astype(np.int32))}
    exact, rounded = run(tiny, **given)[-1], run(tiny, **given, precision="bfloat16")[-1]
    assert 1e-4 < np.abs(np.asarray(exact) - np.asarray(rounded))[MASK].max() < 0.2


def test_weights_with_tensorflows_names(tmp_path: Path, tiny: TextEncoder):
    folder = write("bert", tmp_path)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    weights = load_file(folder / "model.safetensors")
    for new, name in old.items():
        weights = {key.replace(new, name): x for key, x in weights.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    jax.tree.map(np.testing.assert_array_equal, TextEncoder(str(folder)).params(2), tiny.params(2))


def test_saved_weights_are_the_published_ones(tmp_path: Path):
    """Heads and other weights that the network does not use are kept."""
    folder = write("roberta", tmp_path / "old", prefix="roberta.")
    before = load_file(folder / "model.safetensors") | {"classifier.dense.weight": np.ones((2, 3), np.float32)}
    save_file(before, folder / "model.safetensors", metadata={"format": "pt"})
    params = TextEncoder(str(folder)).params(2)["params"]
    published.save(tmp_path / "new.safetensors", params, like=folder)
    after = load_file(tmp_path / "new.safetensors")
    assert after.keys() == before.keys()
    for name, x in before.items():
        np.testing.assert_array_equal(after[name], x)


@pytest.mark.parametrize(
    ("case", "old", "new", "expected"),
    [
        ("bert", '"bert"', '"deberta"', "model_type is 'deberta'; expected bert, roberta, xlm-roberta"),
        ("bert", '"absolute"', '"relative_key"', "position_embedding_type is 'relative_key'; jmer covers 'absolute'"),
        ("bert", '"gelu_new"', '"mish"', "hidden_act is 'mish'; jmer covers 'gelu', "),
        ("distilbert", '"n_layers": 2,', "", "num_hidden_layers is missing"),
        ("vit", '"qkv_bias": true', '"qkv_bias": false', "qkv_bias is False; jmer covers True only"),
    ],
)
def test_what_is_not_covered_is_said(case: str, old: str, new: str, expected: str, tmp_path: Path):
    config = write(case, tmp_path) / "config.json"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(UserError, match=expected):
        ImageEncoder(str(tmp_path)) if case == "vit" else TextEncoder(str(tmp_path))


def test_real_minilm_equals_pytorch(shared: Path):
    fixture = np.load(Path(__file__).parents[1] / "fixtures" / "shared_encoders.npz")
    encoder = TextEncoder(str(shared / "weights" / "minilm-l6-v2"))
    tokens = [encoder.tokenize(str(text), limit=128) for text in fixture["minilm_texts"]]
    states = encoder.encode([(t.ids, t.own) for t in tokens], layers=(6,), exact=False)
    for found, expected in zip(states, fixture["minilm"], strict=True):
        np.testing.assert_allclose(found.mean(axis=0), expected, atol=1e-5)
