"""Draws a talking face: a shaded head for each speaker, and brows, eyes and mouth for each frame.

A face shows which of four groups the emotion belongs to: neutral or fear (still), joy (smile), anger or surprise (open
mouth, wide eyes), sadness or disgust (corners of the mouth down, slanted brows).
"""

from dataclasses import dataclass, fields, replace
from functools import cache

import cv2
import numpy as np

SIZE = 192  # pixels of a clip's frame, square
CANVAS = 480  # pixels; faces are drawn at this size and averaged down to SIZE
CENTRE = np.array([240.0, 242.0])  # of the head, (x, y) on the canvas

Colour = tuple[int, int, int]  # RGB


@dataclass(frozen=True, kw_only=True)
class Look:
    """The looks of a speaker.

    width, height: half axes of the head on the canvas, in pixels.
    hair_length: the distance from the centre of the head down to the end of the hair, in half heights.
    hairline: the distance from the centre of the head up to the hairline, in half heights.
    parting: the place of the parting, in half widths from the centre.
    """

    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    shirt: Colour
    wall: Colour
    width: float
    height: float
    hair_length: float
    hairline: float = 0.62
    parting: float = 0.0


LOOKS = {
    "Ada": Look(
        skin=(236, 190, 160), hair=(92, 54, 30), iris=(70, 110, 80), lips=(188, 84, 84),
        shirt=(52, 108, 128), wall=(196, 206, 204), width=112, height=146,
        hair_length=1.0, parting=0.25,
    ),
    "Bruno": Look(
        skin=(222, 172, 138), hair=(50, 38, 30), iris=(86, 60, 40), lips=(168, 92, 82),
        shirt=(96, 84, 60), wall=(206, 198, 180), width=120, height=148,
        hair_length=-0.1, parting=-0.3,
    ),
    "Chidi": Look(
        skin=(134, 88, 62), hair=(30, 24, 22), iris=(48, 30, 22), lips=(128, 62, 58),
        shirt=(196, 150, 60), wall=(178, 196, 214), width=118, height=150,
        hair_length=-0.15, hairline=0.68,
    ),
    "Dora": Look(
        skin=(238, 198, 170), hair=(186, 138, 74), iris=(80, 120, 160), lips=(200, 96, 98),
        shirt=(150, 70, 100), wall=(188, 200, 184), width=108, height=142,
        hair_length=0.65, parting=-0.2,
    ),
    "Emil": Look(
        skin=(240, 196, 170), hair=(150, 88, 44), iris=(84, 120, 116), lips=(178, 96, 88),
        shirt=(70, 84, 120), wall=(214, 206, 194), width=114, height=154,
        hair_length=-0.05, hairline=0.58, parting=0.35,
    ),
    "Farah": Look(
        skin=(200, 146, 108), hair=(34, 26, 26), iris=(60, 38, 26), lips=(166, 70, 74),
        shirt=(110, 130, 84), wall=(210, 196, 204), width=110, height=146,
        hair_length=1.1,
    ),
    "Greta": Look(
        skin=(232, 186, 160), hair=(168, 162, 156), iris=(92, 112, 130), lips=(172, 88, 88),
        shirt=(84, 70, 112), wall=(190, 194, 204), width=114, height=140,
        hair_length=0.35, parting=0.1,
    ),
    "Hugo": Look(
        skin=(176, 122, 88), hair=(44, 32, 26), iris=(54, 36, 26), lips=(148, 78, 70),
        shirt=(128, 62, 56), wall=(200, 206, 196), width=122, height=146,
        hair_length=-0.2, hairline=0.66, parting=-0.15,
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Expression:
    """The state of a face. Every value is 0 at rest.

    smile: corners of the mouth up; down if negative.
    gape: mouth open; 1 is wide open.
    stretch: mouth wider.
    brow: brows up.
    slant: inner ends of the brows up.
    eyes: eyes wider open; -1 is shut.
    cheeks: cheeks raised and flushed.
    """

    smile: float = 0.0
    gape: float = 0.0
    stretch: float = 0.0
    brow: float = 0.0
    slant: float = 0.0
    eyes: float = 0.0
    cheeks: float = 0.0


STILL = Expression()
SMILE = Expression(smile=1.0, gape=0.28, stretch=0.3, brow=0.1, eyes=-0.2, cheeks=1.0)
GAPE = Expression(gape=0.85, stretch=-0.1, brow=0.9, eyes=0.4)
DOWN = Expression(smile=-1.0, stretch=-0.05, brow=-0.2, slant=1.0, eyes=-0.3)
EXPRESSION = {
    "neutral": STILL,
    "fear": STILL,
    "joy": SMILE,
    "anger": GAPE,
    "surprise": GAPE,
    "sadness": DOWN,
    "disgust": DOWN,
}
# In some clips the face also shows a sign of its one emotion, so that faces tell a part of the label within a group.
OWN = {
    "fear": Expression(eyes=0.45, slant=0.6),
    "anger": Expression(brow=-1.2, slant=-1.1),
    "disgust": Expression(stretch=-0.2, slant=-1.9, eyes=-0.1),
}
OWN_SHARE = 0.4
# The expression of clips whose face must tell nothing: the mean of the four groups.
WEAK = Expression(
    **{f.name: sum(getattr(e, f.name) for e in (STILL, SMILE, GAPE, DOWN)) / 4 for f in fields(Expression)}
)


def frames(*, speaker: str, emotion: str, weak: bool, energy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns `[F, SIZE, SIZE, 3]` uint8 RGB of the speaker saying something.

    energy: `[F]` loudness of the voice in each frame, in [0, 1]. The mouth opens with it.
    weak: the face tells nothing about the emotion.
    """
    count = len(energy)
    base = WEAK if weak else EXPRESSION[emotion]
    own = OWN.get(emotion, STILL) if rng.random() < OWN_SHARE and not weak else STILL
    strength = rng.uniform(0.8, 1.1)
    values = {f.name: getattr(base, f.name) + getattr(own, f.name) for f in fields(Expression)}
    base = Expression(**{name: value * strength + rng.normal(0, 0.05) for name, value in values.items()})
    phase, speed = rng.uniform(0, 2 * np.pi, 3), rng.uniform(0.6, 1.4, 3)
    place = rng.normal(0, 1.6, 2)
    blinks = rng.random(count) < 0.03
    out = np.empty((count, SIZE, SIZE, 3), np.uint8)
    for i in range(count):
        sway = np.sin(phase + speed * i * 0.3)
        talk = 0.22 * energy[i]
        now = replace(base, gape=max(base.gape + talk, 0.0), brow=base.brow + 0.15 * talk)
        if blinks[i] or blinks[max(i - 1, 0)]:
            now = replace(now, eyes=-0.95)
        out[i] = _frame(
            LOOKS[speaker], now, shift=place + sway[:2] * (1.6, 1.2), degrees=1.5 * sway[2], grow=1 + 0.01 * sway[0]
        )
    return out


def _frame(look: Look, expression: Expression, *, shift: np.ndarray, degrees: float, grow: float) -> np.ndarray:
    """Draws one frame, `[SIZE, SIZE, 3]` uint8. shift: `[2]`, in pixels of the frame."""
    room, head, alpha = _still_parts(look)
    head = head.copy()
    _cheeks(head, look, expression)
    _eyes(head, look, expression)
    _mouth(head, look, expression)
    head = cv2.resize(head, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    head = cv2.GaussianBlur(head, (0, 0), 0.5)
    chin = np.array(_at(look, 0, 1)) * (SIZE / CANVAS)
    turn = cv2.getRotationMatrix2D(chin.tolist(), degrees, grow)
    turn[:, 2] += shift
    head = cv2.warpAffine(head, turn, (SIZE, SIZE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(alpha, turn, (SIZE, SIZE))[..., None]
    return (head * alpha + room * (1 - alpha)).astype(np.uint8)


@cache
def _still_parts(look: Look) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws the parts that are equal in all frames: the room with the body, the head without features, its alpha."""
    y, x = np.mgrid[:CANVAS, :CANVAS].astype(np.float32)
    u, v = (x - CENTRE[0]) / look.width, (y - CENTRE[1]) / look.height
    narrow = 1 - 0.2 * np.clip(v, 0, 1) ** 2  # the jaw is narrower than the forehead
    radius = (u / narrow) ** 2 + v**2
    face = _soft(1 - radius, 0.03)
    light = _lambert(u / narrow, v)

    room = _paint(look.wall, 1.05 - 0.25 * ((x / CANVAS - 0.4) ** 2 + (y / CANVAS - 0.3) ** 2))
    chin = CENTRE[1] + look.height
    neck = _soft(1 - np.abs(x - CENTRE[0]) / (look.width * 0.5), 0.05) * (y > CENTRE[1])
    room = _over(room, _paint(look.skin, 0.62 + 0.2 * np.clip((y - chin) / 60, 0, 1)), neck)
    body = ((x - CENTRE[0]) / 200) ** 2 + ((y - CANVAS - 60) / 150) ** 2
    room = _over(
        room,
        _paint(look.shirt, 0.75 + 0.4 * _lambert((x - CENTRE[0]) / 220, (y - CANVAS - 60) / 220)),
        _soft(1 - body, 0.03),
    )

    # From back to front: the back hair, the ears, the shaded face with its hollows and bumps, the front hair.
    strands = 0.85 + 0.12 * np.sin(u * 23 + 3 * np.sin(v * 2)) + 0.25 * np.clip(-v - 0.4, 0, 1)
    hair = _paint(look.hair, strands)
    long = (u / 1.13) ** 2 + np.where(v < 0, (v + 0.02) / 1.14, v / max(look.hair_length, 0.25)) ** 4
    alpha_hair = _soft(1 - long, 0.05)
    head, alpha = hair, alpha_hair
    for side in (-1, 1):
        ear = ((u - side * 1.01) / 0.13) ** 2 + ((v - 0.02) / 0.2) ** 2
        ear = _soft(1 - ear, 0.1) * (look.hair_length < 0)
        head, alpha = _over(head, _paint(look.skin, 0.8 - 0.1 * side), ear), np.maximum(alpha, ear)
    relief = 0.49 + 0.53 * light
    for cx, cy, sx, sy, depth in (
        (-0.42, -0.2, 0.27, 0.14, -0.26), (0.42, -0.2, 0.27, 0.14, -0.26),  # eye sockets
        (0.0, -0.08, 0.09, 0.3, 0.14), (-0.04, 0.2, 0.1, 0.08, 0.12),  # bridge and tip of the nose
        (0.17, 0.08, 0.07, 0.22, -0.08), (-0.17, 0.08, 0.05, 0.2, -0.04), (0.0, 0.33, 0.2, 0.05, -0.16),
        (-0.48, 0.18, 0.24, 0.16, 0.1), (0.48, 0.18, 0.24, 0.16, 0.08),  # cheeks
        (0.0, -0.6, 0.5, 0.2, 0.06), (0.0, 0.72, 0.22, 0.05, -0.06), (0.0, 0.84, 0.2, 0.08, 0.06),
    ):  # fmt: skip
        relief += depth * np.exp(-(((u - cx) / sx) ** 2) - ((v - cy) / sy) ** 2)
    for side in (-1, 1):
        relief -= 0.3 * np.exp(-(((u - side * 0.1) / 0.045) ** 2) - ((v - 0.285) / 0.028) ** 2)  # nostrils
    head, alpha = _over(head, _paint(look.skin, relief), face), np.maximum(alpha, face)
    line = -look.hairline + 0.42 * (u - look.parting) ** 2 + 0.02 * np.sin(u * 19)
    front = _soft(1 - ((u / 1.06) ** 2 + (v / 1.08) ** 2), 0.04) * _soft(line - v, 0.04)
    head, alpha = _over(head, hair, front), np.maximum(alpha, front)
    room, alpha = (cv2.resize(part, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for part in (room, alpha))
    return room, np.clip(head, 0, 255).astype(np.uint8), alpha.astype(np.float32)


def _cheeks(head: np.ndarray, look: Look, e: Expression) -> None:
    """Flushes the cheeks."""
    reach = round(look.width * 0.3)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1] / reach
    blob = np.exp(-4 * (x**2 + 1.6 * y**2))[..., None] * (np.array([14, -14, -14]) * np.clip(e.cheeks, 0, 1.2))
    for side in (-1, 1):
        cx, cy = _at(look, side * 0.55, 0.2)
        patch = head[cy - reach : cy + reach + 1, cx - reach : cx + reach + 1]
        patch[:] = np.clip(patch + blob, 0, 255).astype(np.uint8)


def _eyes(head: np.ndarray, look: Look, e: Expression) -> None:
    dark = tuple(c * 0.5 for c in look.hair)
    lid = tuple(c * 0.45 for c in look.skin)
    for side in (-1, 1):
        x, y = _at(look, side * 0.42, -0.14)
        wide, high = look.width * 0.2, max(look.height * 0.075 * (1 + e.eyes), 0.5)
        t = np.linspace(-1, 1, 15)
        top = np.stack([x + wide * t, y - high * (1 - t**2)], 1)
        low = np.stack([x + wide * t, y + 0.75 * high * (1 - t**2)], 1)[::-1]
        shape = np.concatenate([top, low]).astype(np.int32)
        reach = round(wide) + 2
        patch = head[y - reach : y + reach, x - reach : x + reach]
        inside = np.zeros(patch.shape[:2], np.uint8)
        cv2.fillPoly(inside, [shape - (x - reach, y - reach)], 1)
        eye = np.full_like(patch, (226, 222, 216))
        cv2.circle(eye, (reach, reach), int(look.height * 0.066), look.iris, -1, cv2.LINE_AA)
        cv2.circle(eye, (reach, reach), int(look.height * 0.032), (16, 12, 12), -1, cv2.LINE_AA)
        cv2.circle(eye, (reach - 3, reach - 4), 3, (250, 250, 250), -1, cv2.LINE_AA)
        np.copyto(patch, eye, where=inside[..., None] > 0)
        cv2.polylines(head, [top.astype(np.int32)], False, lid, 5, cv2.LINE_AA)
        cv2.polylines(head, [low.astype(np.int32)], False, tuple(c * 0.7 for c in look.skin), 2, cv2.LINE_AA)
        # Brow, from its inner to its outer end.
        s = np.linspace(0, 1, 12)
        bx = x + side * wide * (-1.0 + 2.35 * s)
        lift = 0.055 * e.brow + 0.09 * e.slant * (0.7 - 1.5 * s) + 0.035 * np.sin(np.pi * s)
        by = y - look.height * (0.175 + lift)
        thick = look.height * (0.045 - 0.022 * s)
        brow = np.concatenate([np.stack([bx, by - thick / 2], 1), np.stack([bx, by + thick / 2], 1)[::-1]])
        cv2.fillPoly(head, [brow.astype(np.int32)], dark, cv2.LINE_AA)


def _mouth(head: np.ndarray, look: Look, e: Expression) -> None:
    x, y = _at(look, 0.0, 0.54)
    t = np.linspace(-1, 1, 31)
    wide = look.width * 0.36 * (1 + e.stretch)
    arch = np.sqrt(np.clip(1 - t**2, 0, 1))
    px = x + wide * t
    middle = y - look.height * 0.12 * e.smile * (t**2 - 0.4)
    gap = look.height * 0.3 * e.gape * arch
    upper, lower = middle - 0.3 * gap, middle + 0.7 * gap
    bow = 1 - 0.25 * np.exp(-((t / 0.15) ** 2))
    top = upper - look.height * 0.045 * arch * bow
    bottom = lower + look.height * 0.06 * arch

    def fill(a: np.ndarray, b: np.ndarray, colour: tuple[float, ...]) -> None:
        cv2.fillPoly(
            head,
            [np.concatenate([np.stack([px, a], 1), np.stack([px, b], 1)[::-1]]).astype(np.int32)],
            colour,
            cv2.LINE_AA,
        )

    fill(top, middle, tuple(c * 0.82 for c in look.lips))
    fill(middle, bottom, look.lips)
    fill(upper, lower, (52, 18, 20))
    if e.gape > 0.12:
        fill(upper, np.minimum(upper + look.height * 0.05, upper + 0.45 * gap), (232, 228, 220))
    if e.gape > 0.5:
        fill(np.maximum(lower - look.height * 0.07, lower - 0.35 * gap), lower, (170, 74, 76))
    seam = [np.stack([px, middle if e.gape < 0.06 else upper], 1).astype(np.int32)]
    cv2.polylines(head, seam, False, tuple(c * 0.45 for c in look.lips), 3, cv2.LINE_AA)
    for side in (0, -1):
        cv2.circle(head, (int(px[side]), int(middle[side])), 4, tuple(c * 0.62 for c in look.skin), -1, cv2.LINE_AA)


def _at(look: Look, u: float, v: float) -> tuple[int, int]:
    """Returns the pixel of the canvas for a point that is given in half axes of the head."""
    return round(CENTRE[0] + u * look.width), round(CENTRE[1] + v * look.height)


def _soft(inside: np.ndarray, edge: float) -> np.ndarray:
    """Returns 1 where `inside` is above `edge`, 0 where it is below `-edge`, and a ramp between."""
    return np.clip(inside / (2 * edge) + 0.5, 0, 1)


def _lambert(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Returns the brightness of a sphere that is lit from the upper left."""
    z = np.sqrt(np.clip(1 - u**2 - v**2, 0, 1))
    return np.clip(-0.3 * u - 0.35 * v + 0.88 * z, 0, 1)


def _paint(colour: Colour, light: np.ndarray | float) -> np.ndarray:
    """Returns a colour under a light, in which 1 keeps the colour as it is."""
    return np.clip(np.asarray(light), 0, 1.4)[..., None] * np.array(colour, np.float32)


def _over(below: np.ndarray, above: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Paints `above` over `below` with the opacity `alpha`."""
    return above * alpha[..., None] + below * (1 - alpha[..., None])
