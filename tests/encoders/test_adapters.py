"""Low-rank adapters: fresh ones change nothing, merged ones equal those beside the kernels, files are checked."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_encoders import run, save_bert

from jmer.base.errors import UserError
from jmer.encoders import adapters, bert, published
from jmer.encoders.adapters import Adapters
from jmer.encoders.layers import Sees
from jmer.encoders.opened import Note
from jmer.encoders.running import Running
from jmer.encoders.text import TextEncoder

RANK, SCALE = 3, 2.0


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("encoders") / "base")


@pytest.fixture(scope="module")
def encoder(base: Path) -> TextEncoder:
    return TextEncoder(str(base))


def inputs() -> tuple:
    ids = np.arange(5, 25, dtype=np.int32).reshape(2, 10)
    position = np.broadcast_to(np.arange(10, dtype=np.int32), ids.shape)
    return ids, position, np.zeros_like(ids), Sees(segment=np.ones_like(ids)), (2,)


def adapted(encoder: TextEncoder, *, second: float) -> tuple[bert.Bert, Any]:
    """Returns the network with adapters, and its variables; the second factors are random times `second`."""
    network = bert.Bert(config=encoder.config, running=Running(rank=RANK, scale=SCALE))
    made: Any = network.init(jax.random.key(0), *jax.tree.map(jnp.asarray, inputs()[:-1]), (2,))
    keys = iter(jax.random.split(jax.random.key(1), 100))

    def filled(path: Any, x: jax.Array) -> jax.Array:
        return x + second * jax.random.normal(next(keys), x.shape) if path[-1].key == "second" else x

    return network, {**encoder.params(2), "adapters": jax.tree_util.tree_map_with_path(filled, made["adapters"])}


def factors(variables: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    named = published.named(variables["adapters"])
    stems = [name.removesuffix(".first") for name in named if name.endswith(".first")]
    return {f"{s}.weight": (np.asarray(named[f"{s}.first"][1]), np.asarray(named[f"{s}.second"][1])) for s in stems}


def test_fresh_adapters_change_no_bit(encoder: TextEncoder):
    """Operation by operation; compiled as one, the additions of zeros are fused, which may round otherwise."""
    network, variables = adapted(encoder, second=0.0)
    (found,) = run(network, variables, *inputs())
    (expected,) = run(encoder.network, encoder.params(2), *inputs())
    np.testing.assert_array_equal(found, expected)
    fresh = Adapters(base="", scale=SCALE, factors=factors(variables))
    merged = published.with_adapters(encoder.params(2), fresh, field="text.model")
    jax.tree.map(np.testing.assert_array_equal, merged, encoder.params(2))


def test_gradients_of_fresh_adapters_reach_the_second_factors_only(encoder: TextEncoder):
    network, variables = adapted(encoder, second=0.0)

    def loss(trained: Any) -> Any:
        return (run(network, {**variables, "adapters": trained}, *inputs())[0] ** 3).sum()

    gradients = published.named(jax.grad(loss)(variables["adapters"]))
    for name, (_, x) in gradients.items():
        assert (np.abs(np.asarray(x)).max() > 0) == name.endswith("second"), name


def write(folder: Path, base: Path, variables: Any, encoder: TextEncoder) -> Path:
    folder.mkdir(parents=True)
    made = Adapters(base=str(base), scale=SCALE, factors=factors(variables))
    adapters.write(folder, made, rank=RANK)
    sha256 = published.sha256_of_halves(encoder.published(2)["params"])
    Note(modality="text", labels=("calm", "glad"), layer=2, base_sha256=sha256).write(folder)
    return folder


def test_merged_adapters_equal_those_beside_the_kernels(encoder: TextEncoder, base: Path, tmp_path: Path):
    network, variables = adapted(encoder, second=0.1)
    (expected,) = run(network, variables, *inputs())
    opened = TextEncoder(str(write(tmp_path / "adapters", base, variables, encoder)))
    (found,) = run(opened.network, opened.params(2), *inputs())
    np.testing.assert_allclose(found, expected, atol=1e-5)
    (plain,) = run(encoder.network, encoder.params(2), *inputs())
    assert np.abs(np.asarray(found) - np.asarray(plain)).max() > 0.1
    assert opened.sha256 != encoder.sha256


def test_a_base_that_moved_is_found_by_the_environment(
    encoder: TextEncoder, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _, variables = adapted(encoder, second=0.1)
    folder = write(tmp_path / "adapters", tmp_path / "gone" / base.name, variables, encoder)
    with pytest.raises(UserError, match=r"the base of the adapters in .*: no directory .*/gone/base"):
        TextEncoder(str(folder))
    monkeypatch.setenv("JMER_ENCODERS", str(base.parent))
    assert TextEncoder(str(folder)).opened.folder == base


def test_a_base_in_half_precision_is_the_same_and_another_is_refused(encoder: TextEncoder, base: Path, tmp_path: Path):
    _, variables = adapted(encoder, second=0.1)
    halves, other = save_bert(tmp_path / "halves", half=True), save_bert(tmp_path / "other", seed=9)
    folder = write(tmp_path / "adapters", halves, variables, encoder)
    TextEncoder(str(folder)).params(2)
    config = json.loads((folder / adapters.CONFIG).read_text())
    (folder / adapters.CONFIG).write_text(json.dumps(config | {"base_model_name_or_path": str(other)}))
    with pytest.raises(UserError, match="were trained on other weights than those in"):
        TextEncoder(str(folder)).params(2)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; jmer covers 'LORA' only"),
        ({"use_dora": True}, "use_dora is True"),
        ({"r": 4}, "the factors of .* do not fit"),
        ({"r": None}, "lacks r, lora_alpha or base_model_name_or_path"),
    ],
)
def test_adapters_that_are_not_covered(encoder: TextEncoder, base: Path, tmp_path: Path, change: dict, expected: str):
    _, variables = adapted(encoder, second=0.1)
    folder = write(tmp_path / "adapters", base, variables, encoder)
    config = json.loads((folder / adapters.CONFIG).read_text())
    (folder / adapters.CONFIG).write_text(json.dumps(config | change))
    with pytest.raises(UserError, match=expected):
        TextEncoder(str(folder))


def test_adapters_below_a_head_are_found_and_those_of_another_network_refused(
    encoder: TextEncoder, base: Path, tmp_path: Path
):
    """PEFT puts the encoder's own name before the layers' where it adapts a model with a head."""
    _, variables = adapted(encoder, second=0.1)
    expected = TextEncoder(str(write(tmp_path / "plain", base, variables, encoder))).params(2)
    folder = write(tmp_path / "adapters", base, variables, encoder)
    tensors = load_file(folder / adapters.WEIGHTS)
    for start in ("bert.", "decoder."):
        renamed = {name.replace("model.encoder.", f"model.{start}encoder."): x for name, x in tensors.items()}
        save_file(renamed, folder / adapters.WEIGHTS)
        if start == "bert.":
            jax.tree.map(np.testing.assert_array_equal, TextEncoder(str(folder)).params(2), expected)
    with pytest.raises(UserError, match=r"none of the adapters is for a kernel of the base .*decoder\.encoder"):
        TextEncoder(str(folder)).params(2)


def test_damaged_adapter_files(encoder: TextEncoder, base: Path, tmp_path: Path):
    _, variables = adapted(encoder, second=0.1)
    folder = write(tmp_path / "adapters", base, variables, encoder)
    tensors = load_file(folder / adapters.WEIGHTS)
    save_file(tensors | {"modules_to_save.head": np.zeros(3, np.float32)}, folder / adapters.WEIGHTS)
    with pytest.raises(UserError, match="holds more than the factors of matrices"):
        TextEncoder(str(folder))
    (folder / adapters.WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"adapter_model.safetensors cannot be read"):
        TextEncoder(str(folder))
    (folder / "jmer.json").write_text('{"format": 2}')
    with pytest.raises(UserError, match=r"jmer.json is damaged"):
        TextEncoder(str(folder))
    (folder / "jmer.json").write_text('{"format": 99}')
    with pytest.raises(UserError, match="has format 99, but this version of jmer reads format 2"):
        TextEncoder(str(folder))


def test_size_beside_minilm(shared: Path):
    """Adapters of rank 8 beside the whole MiniLM stay below 2 MB."""
    encoder = TextEncoder(str(shared / "weights" / "minilm-l6-v2"), running=Running(rank=8))
    made = jax.eval_shape(
        lambda: encoder.network.init(jax.random.key(0), *jax.tree.map(jnp.asarray, inputs()[:-1]), (2,))
    )
    assert 4 * sum(x.size for x in jax.tree.leaves(made["adapters"])) < 2e6
