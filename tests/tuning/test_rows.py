"""Rows of tokens: every passage once, in its own segment, with its own labels."""

import numpy as np
import pytest
from tiny_encoders import WORDS, save_bert

from jmer.base.types import UNLABELLED, Dialogue, Utterance
from jmer.encoders.passages import NONE, ContextOptions
from jmer.encoders.tokenizer import Tokenizer
from jmer.tuning.rows import TokenSplit, batches, shape_of, token_split

LABELS = ("calm", "glad", "cross")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = save_bert(tmp_path_factory.mktemp("bert"))
    return Tokenizer(folder, model=str(folder), positions=50)


def dialogues(count: int, *, seed: int = 0) -> list[Dialogue]:
    rng = np.random.default_rng(seed)
    return [
        Dialogue(
            id=f"d{i}",
            utterances=tuple(
                Utterance(
                    id=f"u{j}",
                    speaker="ab"[rng.integers(2)],
                    text=" ".join(rng.choice(WORDS[7:], rng.integers(0, 9))),
                    label=None if rng.random() < 0.1 else LABELS[rng.integers(3)],
                    sentiment=[None, "negative", "positive"][rng.integers(3)],
                )
                for j in range(rng.integers(1, 8))
            ),
        )
        for i in range(count)
    ]


def split_of(given: list[Dialogue], tokenizer: Tokenizer, **options) -> TokenSplit:
    return token_split(given, labels=LABELS, options=ContextOptions(max_tokens=40, **options), tokenizer=tokenizer)


@pytest.mark.parametrize("context", [-1, 0, 2])
@pytest.mark.parametrize("shuffled", [False, True])
def test_every_utterance_is_in_one_row_with_its_labels_and_tokens(tokenizer: Tokenizer, context: int, shuffled: bool):
    given = dialogues(30)
    split = split_of(given, tokenizer, context=context)
    utterances = [u for d in given for u in d.utterances]
    shape = shape_of([split], width=40, batch_tokens=160)
    assert (shape.rows, shape.width) == (4, 40)
    seen, segments = [], 0
    for batch in batches(split, shape, rng=np.random.default_rng(3) if shuffled else None):
        assert batch.ids.shape == batch.slot.shape == (4, 40)
        assert batch.utterance.shape == batch.label.shape == (4, shape.slots)
        for row in range(4):
            used = batch.segment[row] > 0
            assert (np.diff(batch.segment[row][used]) >= 0).all()
            segments += batch.segment[row].max()
            for number in range(1, batch.segment[row].max() + 1):
                here = batch.segment[row] == number
                assert batch.position[row][here].tolist() == list(range(here.sum()))
            for slot, i in enumerate(batch.utterance[row]):
                own = batch.slot[row] == slot
                if i == len(utterances):
                    assert not own.any()
                    assert batch.label[row, slot] == batch.sentiment[row, slot] == UNLABELLED
                    continue
                label, words = utterances[i].label, utterances[i].text.split()
                assert batch.label[row, slot] == (UNLABELLED if label is None else LABELS.index(label))
                assert batch.ids[row][own].tolist() == [*(5 + WORDS.index(w) for w in words), 3]
                seen.append(i)
            assert (batch.slot[row][~used] == NONE).all()
    assert sorted(seen) == list(range(len(utterances)))
    assert segments == len(split.passages)


def test_shuffled_epochs_differ_and_repeat(tokenizer: Tokenizer):
    split = split_of(dialogues(30), tokenizer)
    shape = shape_of([split], width=40, batch_tokens=160)

    def epoch(seed: int) -> bytes:
        return b"".join(b.ids.tobytes() for b in batches(split, shape, rng=np.random.default_rng(seed)))

    assert epoch(1) == epoch(1) != epoch(2)


def test_rows_are_nearly_full(tokenizer: Tokenizer):
    split = split_of(dialogues(200), tokenizer)
    shape = shape_of([split], width=160, batch_tokens=320)
    filled = np.concatenate([(b.segment > 0).reshape(-1) for b in batches(split, shape, rng=np.random.default_rng(0))])
    assert filled.mean() > 0.85


def test_updates_mask_a_share_of_the_utterances_tokens_and_scores_see_all(tokenizer: Tokenizer):
    split = split_of(dialogues(200), tokenizer, speakers="letters")
    shape = shape_of([split], width=40, batch_tokens=160)
    whole, masked = (list(batches(split, shape, masked=m, rng=np.random.default_rng(1))) for m in (0.0, 0.25))
    ids, seen = (np.concatenate([batch.ids for batch in each]) for each in (whole, masked))
    own, hidden = np.concatenate([batch.slot for batch in whole]) != NONE, seen != ids
    assert (seen[hidden] == tokenizer.mask).all()
    assert not hidden[~own].any()  # prefixes, the first token, padding
    assert 0.22 < hidden[own].mean() < 0.28
    for a, b in zip(batches(split, shape), batches(split, shape, masked=0.25), strict=True):
        np.testing.assert_array_equal(a.ids, b.ids)
