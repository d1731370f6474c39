"""Colours of emotions that people with colour blindness can tell apart.

They are those of Okabe and Ito (2008, "Color Universal Design"). A page never says anything by colour alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

_GREY = "#999999"
_CYCLE = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
# What corpora call an emotion -> its colour.
_OF_EMOTION = {
    "neutral": _GREY,
    "anger": "#D55E00",
    "angry": "#D55E00",
    "joy": "#F0E442",
    "happiness": "#F0E442",
    "happy": "#F0E442",
    "sadness": "#0072B2",
    "sad": "#0072B2",
    "fear": "#CC79A7",
    "fearful": "#CC79A7",
    "disgust": "#009E73",
    "surprise": "#56B4E9",
    "surprised": "#56B4E9",
    "calm": "#E69F00",
}


class Colour(NamedTuple):
    """The colour of a label.

    fill: as `#RRGGBB`.
    text: black or white, whichever can be read better on it.
    striped: whether another label has the same fill, so that this one is drawn with stripes.
    """

    fill: str
    text: str
    striped: bool


def colours_of(labels: Sequence[str]) -> dict[str, Colour]:
    """Returns the colour of each label. Up to 16 labels differ by their fill and stripes."""
    known = {label: _OF_EMOTION[label.lower()] for label in labels if label.lower() in _OF_EMOTION}
    taken: set[tuple[str, bool]] = set()
    found: dict[str, Colour] = {}
    for label in sorted(labels, key=lambda label: label not in known):  # known emotions choose first
        fills = (known[label],) if label in known else (*_CYCLE, _GREY)
        looks = [(fill, striped) for striped in (False, True) for fill in fills]
        fill, striped = next((look for look in looks if look not in taken), looks[-1])
        taken.add((fill, striped))
        found[label] = Colour(fill, _readable_on(fill), striped)
    return {label: found[label] for label in labels}


def _readable_on(fill: str) -> str:
    """Returns the better of black and white, by the contrast ratio of WCAG 2.1."""
    luminance = _luminance(fill)
    return "#000000" if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else "#FFFFFF"


def _luminance(fill: str) -> float:
    channels = (int(fill[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
