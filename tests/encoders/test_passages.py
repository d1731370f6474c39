"""How the turns of a dialogue become rows of tokens."""

import numpy as np
import pytest
from tiny_encoders import WORDS, save_bert

from jmer.base.types import Turn
from jmer.encoders.passages import NONE, ContextOptions, Passage, passages
from jmer.encoders.tokenizer import Tokenizer

CLS, SEP = 2, 3


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = save_bert(tmp_path_factory.mktemp("bert"))
    return Tokenizer(folder, model=str(folder), positions=50)


def made(turns: list[Turn], tokenizer: Tokenizer, **options) -> list[Passage]:
    return passages(turns, ContextOptions(**options), tokenizer)


def id_of(word: str) -> int:
    return 5 + WORDS.index(word)


def test_a_dialogue_is_one_passage(tokenizer: Tokenizer):
    turns = [Turn("we", "why not"), Turn("you", "oh no !"), Turn("we", "so")]
    (found,) = made(turns, tokenizer, speakers="names")
    colon, text = 1, [id_of(word) for word in ("why", "not", "oh", "no", "!", "so")]
    expected = [CLS, id_of("we"), colon, *text[:2], SEP, id_of("you"), colon, *text[2:5], SEP]
    assert found.ids.tolist() == [*expected, id_of("we"), colon, text[5], SEP]
    assert found.turn.tolist() == [0] * 6 + [1] * 6 + [2] * 4
    assert found.utterance.tolist() == [-1, -1, -1, 0, 0, 0, -1, -1, 1, 1, 1, 1, -1, -1, 2, 2]
    (plain,) = made(turns, tokenizer, speakers="none")
    assert plain.ids.tolist() == [CLS, *text[:2], SEP, *text[2:5], SEP, text[5], SEP]


def test_without_a_context_each_turn_is_alone(tokenizer: Tokenizer):
    turns = [Turn("a", "why not"), Turn("b", "oh")]
    found = made(turns, tokenizer, context=0, speakers="none")
    assert [p.ids.tolist() for p in found] == [[CLS, id_of("why"), id_of("not"), SEP], [CLS, id_of("oh"), SEP]]
    assert [p.utterance.max() for p in found] == [0, 1]


def test_letters_do_not_depend_on_the_names(tokenizer: Tokenizer):
    texts = ["why not", "oh", "so", "no"]
    one = made([Turn(s, t) for s, t in zip("xyxz", texts, strict=True)], tokenizer, speakers="letters")
    other = made([Turn(s, t) for s, t in zip("qpqr", texts, strict=True)], tokenizer, speakers="letters")
    named = made([Turn(s, t) for s, t in zip(["i", "am", "i", "so"], texts, strict=True)], tokenizer, speakers="names")
    assert [p.ids.tolist() for p in one] == [p.ids.tolist() for p in other]
    assert [p.ids.tolist() for p in one] != [p.ids.tolist() for p in named]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_every_utterance_of_a_long_dialogue_is_pooled_once(tokenizer: Tokenizer, causal: bool, seed: int):
    rng = np.random.default_rng(seed)
    turns = [Turn("a", " ".join(rng.choice(WORDS[7:], rng.integers(0, 24)))) for _ in range(rng.integers(1, 40))]
    found = made(turns, tokenizer, max_tokens=32, causal=causal, speakers="none")
    pooled = [int(i) for p in found for i in np.unique(p.utterance) if i != NONE]
    assert pooled == list(range(len(turns)))
    for passage in found:
        assert len(passage.ids) <= 32
        assert passage.ids[0] == CLS
        read = passage.turn[-1] + 1
        assert (np.diff(passage.turn) >= 0).all()
        assert (passage.ids == SEP).sum() == read


def test_the_parts_of_a_long_dialogue_overlap(tokenizer: Tokenizer):
    """Of twelve turns of 5 tokens, a row of 31 holds six; half of a part has been heard, a quarter is heard ahead."""
    turns = [Turn("a", "why not oh no")] * 12
    found = made(turns, tokenizer, max_tokens=31, speakers="none")
    assert [sorted(set(p.utterance.tolist()) - {NONE}) for p in found] == [[0, 1, 2, 3, 4], [5, 6, 7], [8, 9, 10, 11]]
    causal = made(turns, tokenizer, max_tokens=31, speakers="none", causal=True)
    assert [sorted(set(p.utterance.tolist()) - {NONE}) for p in causal] == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9], [10, 11]]


def test_a_turn_that_is_longer_than_a_row_is_cut_and_said_to_be(tokenizer: Tokenizer):
    turns = [Turn("a", "oh"), Turn("b", "why not " * 30), Turn("a", "so")]
    found = made(turns, tokenizer, max_tokens=16, speakers="letters")
    assert [p.cut for p in found if p.cut] == [(1,)]
    long = next(p for p in found if p.cut)
    assert len(long.ids) == 16
    assert long.ids[-1] == SEP


def test_a_text_without_tokens_has_its_separator(tokenizer: Tokenizer):
    (found,) = made([Turn("a", "\u200b"), Turn("b", "")], tokenizer, speakers="none")
    assert found.ids.tolist() == [CLS, SEP, SEP]
    assert found.utterance.tolist() == [NONE, 0, 1]
