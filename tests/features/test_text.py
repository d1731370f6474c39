"""Text extractors: hashed features, and Hugging Face encoders against unjitted calls one by one."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from jmer.errors import UserError
from jmer.features import registry
from jmer.features.text import HFText, LiteText

WORDS = [
    *"?!.,",
    "##s",
    "##ing",
    "i",
    "am",
    "not",
    "so",
    "happy",
    "sad",
    "today",
    "oh",
    "no",
    "we",
    "never",
    "ever",
    "what",
]
WORDS += ["why", "you", "are", "go", "went"]
TEXTS = [
    "i am happy !",
    "oh",
    "no ? why ?",
    "we never ever go today . what ? " * 3,
    "you went , we are not so sad .",
    "i am not so happy today . " * 6,
]


def test_lite_rows_do_not_depend_on_their_batch():
    lite = LiteText()
    together = lite.encode(TEXTS)
    assert together.shape == (len(TEXTS), lite.dim)
    assert together.dtype == np.float32
    np.testing.assert_array_equal(together, np.concatenate([lite.encode([text]) for text in TEXTS]))


def test_lite_sees_sentiment_marks_words_and_characters():
    lite = LiteText()
    good, bad, loud, again = lite.encode(["I love this", "I hate this", "I LOVE this!!! sooo", "I love this"])
    assert good[3] > 0 > bad[3]  # VADER's compound score
    marks = loud[4:12]
    np.testing.assert_allclose(marks, np.log1p([3, 0, 0, 0, 0, 1, 1, 4]), rtol=1e-6)
    np.testing.assert_array_equal(good, again)
    assert (good[12:524] != bad[12:524]).any()
    assert (good[524:] != bad[524:]).any()


def test_lite_takes_whatever_is_written():
    odd = ["😀😡", "\x92s", "…", "a" * 100_000, "\n\t x", "日本語のテキスト", "?!"]
    assert np.isfinite(LiteText().encode(odd)).all()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of one layer with its tokenizer, as Flax would save it."""
    from transformers import BertConfig, BertTokenizerFast, FlaxBertModel

    folder = tmp_path_factory.mktemp("tiny")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=50,
    )
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        FlaxBertModel(config, seed=3).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny_torch(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in PyTorch's names and layout, as safetensors in float16."""
    from flax.serialization import msgpack_restore
    from flax.traverse_util import flatten_dict

    folder = tmp_path_factory.mktemp("torch")
    for name in ("config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).write_bytes((tiny / name).read_bytes())
    params: Any = msgpack_restore((tiny / "flax_model.msgpack").read_bytes())
    state = {}
    for key, value in flatten_dict(params).items():
        name, value = ".".join(key), np.asarray(value, np.float16)
        if key[-1] == "kernel":
            name, value = name.replace("kernel", "weight"), value.T
        for flax_name in ("embedding", "scale"):
            if key[-1] == flax_name:
                name = ".".join((*key[:-1], "weight"))
        state[name] = np.ascontiguousarray(value)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def hidden_states(folder: Path, texts: list[str], limit: int = 50) -> list[np.ndarray]:
    """As anyone would write it with transformers: one by one, without batches, padding or jit."""
    from transformers import AutoTokenizer, FlaxAutoModel

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = FlaxAutoModel.from_pretrained(folder)
        params = model.to_fp32(model.params)
        inputs = [tokenizer(text, return_tensors="np", truncation=True, max_length=limit) for text in texts]
        return [np.asarray(model(**one, params=params).last_hidden_state[0]) for one in inputs]


@pytest.fixture(scope="module")
def hidden(tiny: Path) -> list[np.ndarray]:
    return hidden_states(tiny, TEXTS)


@pytest.fixture(scope="module")
def encoder(tiny: Path) -> HFText:
    return HFText(model=str(tiny))


def encode(extractor: HFText, texts: list[str]) -> np.ndarray:
    return extractor.encode([extractor.prepare(text).payload for text in texts])


def test_mean_equals_unjitted_calls_one_by_one(encoder: HFText, hidden: list[np.ndarray]):
    expected = np.stack([states.mean(axis=0) for states in hidden])
    assert encoder.dim == expected.shape[1] == 16
    got = encode(encoder, TEXTS)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-5)
    many = TEXTS * 60  # several batches of each length
    np.testing.assert_allclose(encode(encoder, many[::-1]), np.tile(expected, (60, 1))[::-1], atol=1e-5)
    for text, row in zip(TEXTS, expected, strict=True):
        np.testing.assert_allclose(encode(encoder, [text])[0], row, atol=1e-5)


def test_cls_is_the_first_token(tiny: Path, hidden: list[np.ndarray]):
    got = encode(HFText(model=str(tiny), pooling="cls"), TEXTS)
    np.testing.assert_allclose(got, np.stack([states[0] for states in hidden]), atol=1e-5)


def test_torch_safetensors_in_half_precision_load_without_torch(tiny_torch: Path, encoder: HFText):
    extractor = HFText(model=str(tiny_torch))
    got = encode(extractor, TEXTS)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(extractor._encoder._params))
    np.testing.assert_allclose(got[1], hidden_states(tiny_torch, TEXTS[1:2])[0].mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(got, encode(encoder, TEXTS), atol=2e-2)  # the file's float16 was rounded


def test_few_shapes_are_compiled(encoder: HFText):
    rng = np.random.default_rng(0)
    for _ in range(6):
        texts = [" ".join(rng.choice(WORDS, rng.integers(1, 50))) for _ in range(rng.integers(100, 400))]
        encode(encoder, texts)
    assert encoder._encoder._pooled._cache_size() <= 10  # 3 lengths, some with unfilled batches


def test_long_text_is_cut_and_said_to_be(tiny: Path, encoder: HFText):
    text = "i am happy . " * 10
    prepared = HFText(model=str(tiny), max_tokens=8).prepare(text)
    assert (prepared.status, prepared.reason) == ("degraded", "text of 42 tokens cut at 8")
    assert len(prepared.payload) == 8
    assert prepared.payload[-1] == encoder.prepare("oh").payload[-1]  # still ends in [SEP]
    assert encoder.prepare(text).status == "ok"
    longest = HFText(model=str(tiny), max_tokens=512).prepare(text * 10)  # the model has 50 positions
    assert len(longest.payload) == 50


def test_spec_rebuilds_and_notices_other_weights(tiny: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in tiny.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    original, moved = HFText(model=str(tiny)), HFText(model=str(copy))
    assert moved.fingerprint == original.fingerprint  # the place does not count
    assert HFText(model=str(copy), pooling="cls").fingerprint != original.fingerprint
    spec = json.loads(json.dumps(moved.spec))
    assert registry.build(spec) == moved
    weights = copy / "flax_model.msgpack"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(UserError, match="have changed since the features were made"):
        registry.build(spec)
    with pytest.raises(UserError, match="has version 1 here, and the features were made by version 2"):
        registry.build(spec | {"version": 2})


def test_checkpoint_that_lacks_weights_is_refused(tiny_torch: Path, tmp_path: Path):
    from safetensors.numpy import load_file

    for file in tiny_torch.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    without_pooler = {name: value for name, value in state.items() if "pooler" not in name}
    save_file(without_pooler, tmp_path / "model.safetensors", metadata={"format": "pt"})
    np.testing.assert_array_equal(
        encode(HFText(model=str(tmp_path)), TEXTS), encode(HFText(model=str(tiny_torch)), TEXTS)
    )
    without_layer = {name: value for name, value in state.items() if "layer.0.attention.self.key" not in name}
    save_file(without_layer, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"2 weights are missing, such as encoder.layer.0.attention.self.key.bias"):
        encode(HFText(model=str(tmp_path)), TEXTS)


def test_folders_that_are_no_encoder(tiny: Path, tmp_path: Path):
    with pytest.raises(UserError, match="no directory /no/such/folder"):
        _ = HFText(model="/no/such/folder").dim
    with pytest.raises(UserError, match=r"has no config.json"):
        _ = HFText(model=str(tmp_path)).dim
    (tmp_path / "config.json").write_text((tiny / "config.json").read_text())
    with pytest.raises(UserError, match="has no weights"):
        _ = HFText(model=str(tmp_path)).dim
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"has only pytorch_model.bin; expected .*safe_serialization"):
        _ = HFText(model=str(tmp_path)).dim
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "no-such-type", "hidden_size": 4}')
    with pytest.raises(UserError, match="cannot be loaded") as error:
        _ = HFText(model=str(tmp_path)).dim
    assert "\n" not in str(error.value)


def test_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*_: Any, **__: Any):
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(UserError, match="no directory bert-base-uncased, and the Hugging Face hub cannot be reached"):
        _ = HFText(model="bert-base-uncased").dim


def test_hub_model_is_used_where_it_was_fetched(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **kw: asked.append((name, kw)) or str(tiny))
    assert HFText(model="some/bert").dim == 16
    assert [name for name, _ in asked] == ["some/bert", "some/bert"]  # safetensors, then, as there are none, Flax's own
    assert "model.safetensors" in asked[0][1]["allow_patterns"]
    assert "flax_model.msgpack" in asked[1][1]["allow_patterns"]
    assert not any(name.endswith(".bin") for _, kw in asked for name in kw["allow_patterns"])


def test_options_out_of_range():
    with pytest.raises(UserError, match=r"text.pooling is 'max'; expected mean or cls"):
        HFText(model="x", pooling="max")
    with pytest.raises(UserError, match=r"text.max_tokens is 2"):
        HFText(model="x", max_tokens=2)


def test_minilm_equals_unjitted_calls(shared: Path):
    folder = shared / "weights" / "minilm-l6-v2"
    texts = ["A man is playing the guitar.", "Someone plays a guitar.", "No. " * 90, "The train leaves at nine."]
    got = encode(HFText(model=str(folder)), texts)
    expected = np.stack([states.mean(axis=0) for states in hidden_states(folder, texts[:3], limit=128)])
    np.testing.assert_allclose(got[:3], expected, atol=1e-5)
    unit = got / np.linalg.norm(got, axis=1, keepdims=True)
    assert unit[0] @ unit[1] > 0.3 + unit[0] @ unit[3]
