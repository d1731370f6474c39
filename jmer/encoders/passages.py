"""Dialogues as token ids: which turns an encoder of text reads around an utterance, and how they are joined.

A `Passage` is the input of one utterance or of a whole dialogue, every utterance of which is then encoded in one pass:

    [CLS] A: Where were you? [SEP] B: At home. [SEP] A: Really? [SEP]

The vector of an utterance pools the tokens of its own text and the separator after it. This file does not import JAX.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from jmer.base.options import option
from jmer.base.types import Turn
from jmer.encoders.tokenizer import Tokenizer

WHOLE = -1  # the value of `context` for the whole dialogue
NONE = -1  # the number of the utterance of a token that belongs to none


@dataclass(frozen=True, kw_only=True)
class ContextOptions:
    """What an encoder of text reads around an utterance."""

    context: int = option(WHOLE, "Turns around an utterance that its tokens read; -1 for the dialogue, 0 for none.",
                          at_least=-1)  # fmt: skip
    causal: bool = option(False, "Tokens read no later turns.")
    speakers: str = option("letters", "What a turn begins with: nothing, its speaker's letter (A for the first to "
                           "speak), or the speaker's name.", choices=("none", "letters", "names"))  # fmt: skip
    max_tokens: int = option(256, "Tokens of a row; a longer dialogue is cut between turns into overlapping parts.",
                             at_least=8)  # fmt: skip


class Passage(NamedTuple):
    """A segment of token ids.

    ids: `[T]` int32.
    turn: `[T]` int32, the number of the turn that the token belongs to, from 0; the first token belongs to turn 0.
    utterance: `[T]` int32, the utterance into whose vector the token is pooled, as its number in the dialogue; `NONE`
      for a token that is only read.
    cut: the utterances that lost tokens because they are longer than a row.
    """

    ids: Int[np.ndarray, " T"]
    turn: Int[np.ndarray, " T"]
    utterance: Int[np.ndarray, " T"]
    cut: tuple[int, ...] = ()


def passages(turns: Sequence[Turn], options: ContextOptions, tokenizer: Tokenizer) -> list[Passage]:
    """Returns the passages of a dialogue; each of its utterances is pooled in exactly one of them.

    A dialogue that does not fit in a row is cut between turns. Each part begins with turns that were pooled in the part
    before, up to half of the row, and unless tokens read no later turns, the last quarter of a part is pooled in the
    next one.
    """
    limit = min(options.max_tokens, tokenizer.limit)
    prefixes = _prefixes([turn.speaker for turn in turns], options.speakers)
    tokens = [tokenizer.turn(prefix, turn.text) for prefix, turn in zip(prefixes, turns, strict=True)]
    room = limit - 1  # beside the first token of all
    cut = {i for i, (prefix, own) in enumerate(tokens) if len(prefix) + len(own) + 1 > room}
    tokens = [(prefix, own[: max(room - 1 - len(prefix), 0)]) for prefix, own in tokens]
    lengths = [len(prefix) + len(own) + 1 for prefix, own in tokens]
    if options.context == 0:
        parts = [(i, i, i + 1, i + 1) for i in range(len(turns))]
    else:
        parts = _parts(lengths, room, causal=options.causal)
    found = []
    for start, first, last, stop in parts:
        ids, turn, utterance = [tokenizer.first], [0], [NONE]
        for i in range(start, stop):
            prefix, own = tokens[i]
            ids += [*prefix, *own, tokenizer.separator]
            turn += [i - start] * lengths[i]
            utterance += [NONE] * len(prefix) + [i if first <= i < last else NONE] * (len(own) + 1)
        pooled = tuple(i for i in range(first, last) if i in cut)
        arrays = (np.array(x, np.int32) for x in (ids, turn, utterance))
        found.append(Passage(next(arrays), next(arrays), next(arrays), pooled))
    return found


def _parts(lengths: Sequence[int], room: int, *, causal: bool) -> list[tuple[int, int, int, int]]:
    """Cuts a dialogue into parts: the first turn that is read, the range that is pooled, and the end of the reading."""
    parts, first = [], 0
    while first < len(lengths):
        start, used = first, lengths[first]
        while start and used + lengths[start - 1] <= max(room // 2, lengths[first]):
            start -= 1
            used += lengths[start]
        stop = first + 1
        while stop < len(lengths) and used + lengths[stop] <= room:
            used += lengths[stop]
            stop += 1
        last, ahead = stop, 0
        while not causal and stop < len(lengths) and last > first + 1 and ahead + lengths[last - 1] <= room // 4:
            last -= 1
            ahead += lengths[last]
        parts.append((start, first, last, stop))
        first = last
    return parts


def _prefixes(speakers: Sequence[str], how: str) -> list[str]:
    """Returns what each turn begins with."""
    if how == "none":
        return [""] * len(speakers)
    names = {name: name if how == "names" else _letter(i) for i, name in enumerate(dict.fromkeys(speakers))}
    return [f"{names[speaker]}: " for speaker in speakers]


def _letter(number: int) -> str:
    """Returns A to Z, then AA, AB and so on."""
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters
