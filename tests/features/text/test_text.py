"""Tests text extractors: hashed features, and Hugging Face encoders, compared with calls one by one without jit."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_encoders import WORDS, save_bert, save_roberta
from tiny_encoders import text_states as hidden_states

from jmer.base.errors import UserError
from jmer.base.types import Turn
from jmer.encoders.opened import Note
from jmer.features import registry
from jmer.features.text.encoder import HFText
from jmer.features.text.lite import LiteText, Vader

TEXTS = [
    "i am happy !",
    "oh",
    "no ? why ?",
    "we never ever go today . what ? " * 3,
    "you went , we are not so sad .",
    "i am not so happy today . " * 6,
]


def lite_vectors(lite: LiteText, texts: list[str]) -> np.ndarray:
    return np.stack([encoded.vector for encoded in lite.encode(texts)])


def test_lite_rows_do_not_depend_on_their_batch():
    lite = LiteText()
    together = lite_vectors(lite, TEXTS)
    assert together.shape == (len(TEXTS), lite.dim)
    assert together.dtype == np.float32
    np.testing.assert_array_equal(together, np.concatenate([lite_vectors(lite, [text]) for text in TEXTS]))


def test_lite_sees_sentiment_marks_words_and_characters():
    lite = LiteText()
    good, bad, loud, again = lite_vectors(lite, ["I love this", "I hate this", "I LOVE this!!! sooo", "I love this"])
    assert good[3] > 0 > bad[3]  # VADER's compound score
    marks = loud[4:12]
    np.testing.assert_allclose(marks, np.log1p([3, 0, 0, 0, 0, 1, 1, 4]), rtol=1e-6)
    np.testing.assert_array_equal(good, again)
    assert (good[12:524] != bad[12:524]).any()
    assert (good[524:] != bad[524:]).any()


def test_lite_takes_whatever_is_written():
    odd = ["😀😡", "\x92s", "…", "a" * 100_000, "\n\t x", "日本語のテキスト", "?!"]
    assert np.isfinite(lite_vectors(LiteText(), odd)).all()


def test_vader_is_the_beginning_of_lite_and_sequences_go_word_by_word():
    texts = ["I love this, honestly", "no", "why would you hate me"]
    lite = LiteText(sequence_frames=3).encode(texts)
    vader = Vader(sequence_frames=3).encode(texts)
    words = LiteText().encode(["I", "love", "this,", "honestly", "no"])
    assert lite[0].sequence is not None
    assert lite[1].sequence is not None
    for one, other in zip(lite, vader, strict=True):
        assert one.sequence is not None
        assert other.sequence is not None
        np.testing.assert_array_equal(one.vector[:4], other.vector)
        np.testing.assert_array_equal(one.sequence[:, :4], other.sequence)
        assert len(one.sequence) == (1 if one is lite[1] else 3)
    thirds = [words[0].vector, (words[1].vector + words[2].vector) / 2, words[3].vector]
    np.testing.assert_allclose(lite[0].sequence, thirds, atol=1e-3)
    np.testing.assert_allclose(lite[1].sequence[0], words[4].vector, atol=1e-3)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def hidden(tiny: Path) -> list[np.ndarray]:
    return hidden_states(tiny, TEXTS)


@pytest.fixture(scope="module")
def encoder(tiny: Path) -> HFText:
    return HFText(model=str(tiny))


def encode(extractor: HFText, texts: list[str]) -> np.ndarray:
    payloads = [extractor.prepare([Turn("a", text)]).payload for text in texts]
    return np.stack([encoded.vector for encoded in extractor.encode(payloads)])


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


def test_exact_batches_give_the_same_bits_in_any_company(encoder: HFText):
    payloads = [encoder.prepare([Turn("a", text)]).payload for text in (TEXTS[0], TEXTS[2], TEXTS[1])]
    assert len({encoder.group(payload) for payload in payloads}) == 1
    together = [e.vector for e in encoder.encode(payloads, exact=True)]
    alone = [encoder.encode([payload], exact=True)[0].vector for payload in payloads]
    again = [e.vector for e in encoder.encode(payloads[::-1] * 9, exact=True)[:3]][::-1]
    for one, two, three in zip(together, alone, again, strict=True):
        assert one.tobytes() == two.tobytes() == three.tobytes()


def test_cls_is_the_first_token(tiny: Path, hidden: list[np.ndarray]):
    got = encode(HFText(model=str(tiny), pooling="cls"), TEXTS)
    np.testing.assert_allclose(got, np.stack([states[0] for states in hidden]), atol=1e-5)


def test_layers_poolings_and_sequences(tiny: Path):
    each = [hidden_states(tiny, TEXTS, layer=layer) for layer in (0, 1, 2)]
    extractor = HFText(model=str(tiny), layers="0,-2", pooling="mean,std,cls", sequence_frames=6)
    assert (extractor.dim, extractor.frame_dim, extractor.sequence_dim) == (48, 16, 16)
    encoded = extractor.encode([extractor.prepare([Turn("a", text)]).payload for text in TEXTS])
    for row, first, middle in zip(encoded, each[0], each[1], strict=True):
        states = (first + middle) / 2
        expected = np.concatenate([states.mean(axis=0), states.std(axis=0), states[0]])
        np.testing.assert_allclose(row.vector, expected, atol=1e-5)
        assert row.sequence is not None
        parts = np.array_split(states, min(6, len(states)))
        if len(states) <= 6 or len(states) % 6 == 0:
            np.testing.assert_allclose(row.sequence, [part.mean(axis=0) for part in parts], atol=5e-3)
        assert row.sequence.shape == (len(parts), 16)
    for wrong in ("3", "-4", "0,3"):
        with pytest.raises(UserError, match=rf"config.text.layers is {wrong}; expected layers from 0 .* to 2"):
            encode(HFText(model=str(tiny), layers=wrong), TEXTS)
    for wrong in ("last", "", "1.5"):
        with pytest.raises(UserError, match=rf"config.text.layers is {wrong}; expected layers such as -1 or 4,5,6"):
            HFText(model=str(tiny), layers=wrong)


def test_context_is_read_and_only_the_utterance_pooled(tiny: Path):
    turns = [Turn("we", "why not"), Turn("you", "oh no !"), Turn("we", "i am happy")]
    plain = HFText(model=str(tiny), context=2, speakers=False)
    (states,) = hidden_states(tiny, [("why not oh no !", "i am happy")])
    prepared = plain.prepare(turns)
    (encoded,) = plain.encode([prepared.payload])
    np.testing.assert_allclose(encoded.vector, states[7:10].mean(axis=0), atol=1e-5)
    (encoded,) = HFText(model=str(tiny), context=2, speakers=False, pooling="cls").encode([prepared.payload])
    np.testing.assert_allclose(encoded.vector, states[0], atol=1e-5)
    # Without turns before the text, the result is that without a context.
    assert encode(plain, TEXTS).tolist() == encode(HFText(model=str(tiny)), TEXTS).tolist()
    # The names of the speakers are read. The colon is no word of this vocabulary.
    (states,) = hidden_states(tiny, [("we : why not you : oh no !", "we : i am happy")])
    named = HFText(model=str(tiny), context=2)
    (encoded,) = named.encode([named.prepare(turns).payload])
    np.testing.assert_allclose(encoded.vector, states[11:16].mean(axis=0), atol=1e-5)
    assert named.turns_before == 2


def test_context_loses_its_beginning_before_the_utterance_loses_its_end(tiny: Path):
    extractor = HFText(model=str(tiny), context=5, speakers=False, max_tokens=12)
    (states,) = hidden_states(tiny, [("we went today oh", "i am so happy .")])
    prepared = extractor.prepare(
        [Turn("a", "why no never ever"), Turn("b", "we went today oh"), Turn("a", "i am so happy .")]
    )
    assert (prepared.status, len(prepared.payload[0])) == ("ok", 12)
    (encoded,) = extractor.encode([prepared.payload])
    np.testing.assert_allclose(encoded.vector, states[6:11].mean(axis=0), atol=1e-5)
    cut = extractor.prepare([Turn("b", "oh no"), Turn("a", "i am so happy . " * 4)])
    assert (cut.status, cut.reason) == ("degraded", "text of 23 tokens cut at 12")
    assert cut.payload[1] == slice(2, 11)


INVISIBLE = "\u200b\u00ad\u200d"  # zero-width space, soft hyphen, zero-width joiner; BERT's tokenizer removes them


def test_a_text_of_invisible_characters_after_a_context_is_absent_with_a_reason(tiny: Path):
    extractor = HFText(model=str(tiny), context=2, speakers=False)
    before = [Turn("a", "oh no !"), Turn("b", "i am happy")]
    prepared = extractor.prepare([*before, Turn("a", INVISIBLE)])
    assert (prepared.payload, prepared.status) == (None, "degraded")
    assert prepared.reason == "the text holds no token of the encoder's"
    # Such a turn can be the context of another text, even alone.
    for turns in ([Turn("a", INVISIBLE), before[0]], [Turn("a", INVISIBLE), Turn("b", INVISIBLE), before[0]]):
        (encoded,) = extractor.encode([extractor.prepare(turns).payload])
        assert np.isfinite(encoded.vector).all()


def test_a_limit_without_room_for_the_text_is_refused(tiny: Path):
    turns = [Turn("a", "oh no !"), Turn("b", "i am happy")]
    with pytest.raises(UserError, match=r"text.max_tokens is 3; expected at least 4 with a context"):
        HFText(model=str(tiny), context=1, max_tokens=3).prepare(turns)
    prepared = HFText(model=str(tiny), context=1, max_tokens=4).prepare(turns)
    assert (len(prepared.payload[0]), prepared.payload[1]) == (4, slice(2, 3))
    assert len(HFText(model=str(tiny), max_tokens=3).prepare(turns[1:]).payload[0]) == 3


def test_roberta_has_fewer_positions_than_its_config_says(tmp_path: Path):
    """Positions are numbered from the padding token's id plus 1, so that two of 18 are never used."""
    extractor = HFText(model=str(save_roberta(tmp_path, length=512, positions=18)))
    prepared = extractor.prepare([Turn("a", "i am so happy " * 9)])
    assert len(prepared.payload[0]) == 16
    assert np.isfinite(extractor.encode([prepared.payload])[0].vector).all()


def test_roberta_with_context(tmp_path: Path):
    """RoBERTa numbers its positions otherwise, has no segments, and doubles its separators."""
    folder = save_roberta(tmp_path, length=24, positions=26)
    (states,) = hidden_states(folder, [("oh no !", "i am happy")])
    extractor = HFText(model=str(folder), context=1, speakers=False)
    (encoded,) = extractor.encode([extractor.prepare([Turn("a", "oh no !"), Turn("b", "i am happy")]).payload])
    np.testing.assert_allclose(encoded.vector, states[6:9].mean(axis=0), atol=1e-5)


def test_safetensors_in_half_precision(tmp_path: Path, encoder: HFText):
    """The weights of the tiny model fit in float16, so that both files hold the same."""
    extractor = HFText(model=str(save_bert(tmp_path, half=True)))
    np.testing.assert_array_equal(encode(extractor, TEXTS), encode(encoder, TEXTS))
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(extractor._encoder.params(2)))


def test_a_vocabulary_does_instead_of_a_tokenizer_file(tiny: Path, tmp_path: Path):
    folder = shutil.copytree(tiny, tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    np.testing.assert_array_equal(encode(HFText(model=str(folder)), TEXTS), encode(HFText(model=str(tiny)), TEXTS))


def test_few_shapes_are_compiled(encoder: HFText):
    rng, before = np.random.default_rng(0), encoder._encoder.hidden((2,), False)._cache_size()
    for _ in range(6):
        texts = [" ".join(rng.choice(WORDS, rng.integers(1, 50))) for _ in range(rng.integers(100, 400))]
        encoder.encode([encoder.prepare([Turn("a", text)]).payload for text in texts], exact=True)
    assert encoder._encoder.hidden((2,), False)._cache_size() - before <= 6  # lengths: 8, 12, 16, 24, 32, 48


def test_long_text_is_cut_and_said_to_be(tiny: Path, encoder: HFText):
    text = "i am happy . " * 10
    prepared = HFText(model=str(tiny), max_tokens=8).prepare([Turn("a", text)])
    assert (prepared.status, prepared.reason) == ("degraded", "text of 42 tokens cut at 8")
    assert len(prepared.payload[0]) == 8
    assert prepared.payload[0][-1] == encoder.prepare([Turn("a", "oh")]).payload[0][-1]  # still ends in [SEP]
    assert encoder.prepare([Turn("a", text)]).status == "ok"
    longest = HFText(model=str(tiny), max_tokens=512).prepare([Turn("a", text * 10)])  # the model has 50 positions
    assert len(longest.payload[0]) == 50


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
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(UserError, match="have changed since the features were made"):
        registry.build(spec)
    with pytest.raises(UserError, match="has version 3 here, and the features were made by version 1"):
        registry.build(spec | {"version": 1})


def test_checkpoint_that_lacks_weights_is_refused(tiny: Path, tmp_path: Path):
    folder = shutil.copytree(tiny, tmp_path / "model")
    state = load_file(folder / "model.safetensors")
    without = {name: value for name, value in state.items() if "layer.0.attention.self.key" not in name}
    save_file(without, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"weight encoder.layer.0.attention.self.key.\w+ is missing"):
        encode(HFText(model=str(folder)), TEXTS)


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
    with pytest.raises(UserError, match="model_type is 'no-such-type'; expected bert, roberta") as error:
        _ = HFText(model=str(tmp_path)).dim
    assert "\n" not in str(error.value)
    (tmp_path / "config.json").write_text((tiny / "config.json").read_text())
    with pytest.raises(UserError, match=r"has no tokenizer; expected one of tokenizer.json, vocab.txt"):
        encode(HFText(model=str(tmp_path)), TEXTS)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny / name).read_bytes())
    with pytest.raises(UserError, match="safetensors cannot be read"):
        encode(HFText(model=str(tmp_path)), TEXTS)


CODE = """
from pathlib import Path
Path({marker!r}).touch()
from transformers import BertConfig as Config, BertTokenizerFast as Fast
"""


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_in_a_model_directory_is_not_run(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, known: bool
):
    """known: transformers has a class of its own for the model or tokenizer that the directory has code for."""
    marker, folder = tmp_path / "ran", shutil.copytree(tiny, tmp_path / "model")
    (folder / "evil.py").write_text(CODE.format(marker=str(marker)))
    content = json.loads((folder / file).read_text())
    if file == "config.json":
        content["auto_map"] = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
        content |= {} if known else {"model_type": "evil"}
    else:
        content["auto_map"] = {"AutoTokenizer": ["evil.Fast", "evil.Fast"]}
        content |= {} if known else {"tokenizer_class": "EvilTokenizer"}
    (folder / file).write_text(json.dumps(content))

    questions = []
    monkeypatch.setattr("builtins.input", lambda question="": questions.append(question) or "y")
    # transformers 5 reads tokenizer.json whatever class the directory names.
    if known or (file == "tokenizer_config.json" and int(version("transformers").split(".")[0]) > 4):
        np.testing.assert_array_equal(encode(HFText(model=str(folder)), TEXTS), encode(HFText(model=str(tiny)), TEXTS))
    else:
        refused = "model_type is 'evil'" if file == "config.json" else r"is Python code in the directory"
        with pytest.raises(UserError, match=refused):
            encode(HFText(model=str(folder)), TEXTS)
    assert not questions
    assert not marker.exists()


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
    assert [name for name, _ in asked] == ["some/bert"]
    assert "model*.safetensors" in asked[0][1]["allow_patterns"]
    assert not any(name.endswith(".bin") for _, kw in asked for name in kw["allow_patterns"])


def test_a_fine_tuned_encoder_from_the_hub_is_not_read_without_its_context(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import huggingface_hub

    folder = shutil.copytree(tiny, tmp_path / "model")
    Note(modality="text", labels=("calm", "glad"), layer=2).write(folder)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **kw: str(folder))
    with pytest.raises(UserError, match="some/tuned was fine-tuned by jmer on dialogues; give the directory"):
        _ = HFText(model="some/tuned").dim


def test_options_out_of_range():
    with pytest.raises(UserError, match=r"config.text.pooling is max; expected some of mean, std, cls"):
        HFText(model="x", pooling="max")
    with pytest.raises(UserError, match=r"config.text.pooling is ; expected at least one"):
        HFText(model="x", pooling="")
    with pytest.raises(UserError, match=r"config.text.max_tokens is 2; expected at least 3"):
        HFText(model="x", max_tokens=2)
    with pytest.raises(UserError, match=r"config.text.context is -1; expected at least 0"):
        HFText(model="x", context=-1)
    with pytest.raises(UserError, match=r"config.sequence_frames is -1; expected at least 0"):
        HFText(model="x", sequence_frames=-1)


def test_minilm_equals_pytorch(shared: Path, root: Path):
    fixture = np.load(root / "tests" / "fixtures" / "shared_encoders.npz")
    texts = [str(text) for text in fixture["minilm_texts"]]
    others = ["Someone plays a guitar.", "The train leaves at nine."]
    folder = shared / "weights" / "minilm-l6-v2"
    got = encode(HFText(model=str(folder)), texts + others)
    np.testing.assert_allclose(got[: len(texts)], fixture["minilm"], atol=1e-5)
    unit = got / np.linalg.norm(got, axis=1, keepdims=True)
    assert unit[0] @ unit[-2] > 0.3 + unit[0] @ unit[-1]


def test_all_hidden_states_lie_end_to_end(tmp_path: Path):
    folder = str(save_bert(tmp_path / "bert"))
    all_states, each = HFText(model=folder, layers="all", pooling="mean,std"), []
    payloads = [all_states.prepare([Turn("a", text)]).payload for text in TEXTS[:3]]
    for layer in ("0", "1", "2"):
        single = HFText(model=folder, layers=layer, pooling="mean,std")
        each.append([encoded.vector for encoded in single.encode(payloads)])
    assert (all_states.states, all_states.dim) == (3, 3 * 2 * 16)
    found = np.stack([encoded.vector for encoded in all_states.encode(payloads)])
    np.testing.assert_allclose(found, np.concatenate(each, axis=1), atol=1e-5)
    with pytest.raises(UserError, match=r"config.text.layers is all, and config.sequence_frames is 4"):
        HFText(model=folder, layers="all", sequence_frames=4)
