"""Writes the dialogues: speakers, texts, emotions and times. The result depends on the seed alone."""

import itertools
import random
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from phrases import GROUP, OWN, SHARED, WEAK

SPEAKERS = ("Ada", "Bruno", "Chidi", "Dora", "Emil", "Farah", "Greta", "Hugo")

# Utterances of each emotion, and dialogue lengths, by split.
COUNTS = {
    "train": {"neutral": 44, "joy": 29, "anger": 27, "surprise": 25, "sadness": 24, "disgust": 21, "fear": 20},
    "dev": {"neutral": 12, "joy": 8, "anger": 7, "surprise": 7, "sadness": 7, "disgust": 6, "fear": 5},
    "test": {"neutral": 16, "joy": 11, "anger": 10, "surprise": 9, "sadness": 9, "disgust": 8, "fear": 7},
}
LENGTHS = {
    "train": (3, 4, 5, 5, 6, 6, 7, 7, 7, 8, 8, 8, 8, 8, 8, 9, 9, 9, 10, 10, 11, 11, 11, 12),
    "dev": (5, 7, 8, 9, 11, 12),
    "test": (3, 5, 6, 6, 7, 7, 8, 8, 9, 11),
}
SENTIMENT = {"neutral": "neutral", "joy": "positive", "surprise": "positive"}  # every other emotion: negative

LINES_A_GROUP = 6  # lines that each topic has for each group
OWN_SHARE = 0.35  # share of utterances whose phrase belongs to their one emotion
BARE_SHARE = 0.1  # share of utterances without a phrase
WEAK_SHARE = 0.02  # for each modality, the share of utterances in which it tells nothing
SECONDS_A_FRAME = 0.08  # clips last a whole number of frames


@dataclass(frozen=True, kw_only=True)
class Line:
    """One utterance.

    dialogue, utterance: numbers as in MELD; in each split, dialogues are numbered from 0.
    start: when the utterance begins in its episode, in seconds.
    seconds: duration of the clip.
    weak: the modality whose cue is missing (text, audio or video); empty for none.
    """

    split: str
    dialogue: int
    utterance: int
    speaker: str
    text: str
    emotion: str
    start: float
    seconds: float
    weak: str

    @property
    def sentiment(self) -> str:
        return SENTIMENT.get(self.emotion, "negative")

    @property
    def name(self) -> str:
        return f"dia{self.dialogue}_utt{self.utterance}"


def write(seed: int) -> list[Line]:
    """Returns the whole corpus, split by split, in spoken order."""
    rng = random.Random(seed)
    topics = tomllib.loads((Path(__file__).parent / "topics.toml").read_text(encoding="utf-8"))["topic"]
    said: set[str] = set()  # no two utterances of the corpus are the same
    lines = []
    for split, lengths in LENGTHS.items():
        lengths = rng.sample(lengths, len(lengths))
        for number, emotions in enumerate(_deal(rng, COUNTS[split], lengths)):
            topic = topics[number % len(topics)]
            lines += _dialogue(rng, split=split, number=number, emotions=emotions, topic=topic, said=said)
    return lines


def _deal(rng: random.Random, counts: dict[str, int], lengths: list[int]) -> list[list[str]]:
    """Deals exactly `counts` emotions to dialogues of `lengths`.

    No dialogue gets more utterances of a group than a topic has lines for. A dialogue opens with a neutral utterance if
    it has one. Its good news all comes before or all after its bad news, so that the talk has a direction. The other
    neutral utterances lie anywhere.
    """
    deck = [emotion for emotion, count in counts.items() for _ in range(count)]
    while True:
        rng.shuffle(deck)
        cards = iter(deck)
        hands = [list(itertools.islice(cards, length)) for length in lengths]
        if all(max(Counter(GROUP[emotion] for emotion in hand).values()) <= LINES_A_GROUP for hand in hands):
            break
    for hand in hands:
        good, bad = rng.sample(((0, 1), (1, 2)), 2)
        place = {"plain": (0, 2), "bright": good, "harsh": bad, "low": bad}
        hand.sort(key=lambda emotion, place=place: rng.uniform(*place[GROUP[emotion]]))
        if "neutral" in hand:
            hand.insert(0, hand.pop(hand.index("neutral")))
    return hands


def _dialogue(
    rng: random.Random, *, split: str, number: int, emotions: list[str], topic: dict, said: set[str]
) -> Iterator[Line]:
    cast = rng.sample(SPEAKERS, min(rng.choice((2, 2, 3, 3, 4)), len(emotions)))
    slots = {"x": rng.choice(topic["x"]), "y": rng.choice(topic["y"])}
    unused = {group: rng.sample(lines, len(lines)) for group, lines in topic.items() if group not in slots}
    opened: set[str] = set()
    clock = rng.uniform(60, 1200)
    speaker = ""
    for utterance, emotion in enumerate(emotions):
        # First everyone of the cast speaks once. After that, the speaker usually changes from turn to turn.
        others = [name for name in cast if name != speaker]
        speaker = cast[utterance] if utterance < len(cast) else rng.choice([*others, *others, speaker])
        roll = rng.random()
        weak = next((m for i, m in enumerate(("text", "audio", "video")) if roll < (i + 1) * WEAK_SHARE), "")
        text = _text(rng, emotion=emotion, weak=weak == "text", slots=slots, unused=unused, opened=opened, said=said)
        seconds = _seconds(text, emotion)
        yield Line(
            split=split,
            dialogue=number,
            utterance=utterance,
            speaker=speaker,
            text=text,
            emotion=emotion,
            start=round(clock, 3),
            seconds=seconds,
            weak=weak,
        )
        clock += seconds + rng.uniform(0.1, 0.9)


def _text(
    rng: random.Random, *, emotion: str, weak: bool, slots: dict, unused: dict, opened: set[str], said: set[str]
) -> str:
    """Joins a phrase and a line of the topic, both new to the dialogue, to a text that is new to the corpus."""
    group = GROUP[emotion]
    line = "" if weak else unused[group].pop()
    while True:
        phrase = ""
        if weak:
            phrase = rng.choice(WEAK)
        elif rng.random() >= BARE_SHARE:
            phrase = rng.choice(OWN[emotion] if OWN[emotion] and rng.random() < OWN_SHARE else SHARED[group])
        words = f"{phrase} {line}".strip().format(**slots)
        # Slots may start a sentence: "the vet" becomes "The vet" there.
        text = re.sub(r"(^|[.!?] )(\w)", lambda match: match[1] + match[2].upper(), words)
        if text not in said and phrase not in opened - {""}:
            said.add(text)
            opened.add(phrase)
            return text


def _seconds(text: str, emotion: str) -> float:
    """Returns the duration of the clip. It follows from the text, so no table depends on a version of espeak-ng."""
    raw = 0.4 + len(text) / (12.5 if emotion == "sadness" else 17.0)
    return round(round(raw / SECONDS_A_FRAME) * SECONDS_A_FRAME, 2)
