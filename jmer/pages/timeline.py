"""A page with what was said, by whom and with which emotion, beside the video or sound."""

import base64
import math
import mimetypes
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jmer.base.errors import UserError
from jmer.base.types import UNNAMED, Prediction
from jmer.pages.colours import Colour, colours_of
from jmer.pages.render import clock, render

_MOST_EMBEDDED = 200 << 20  # bytes of media in one page, which grow by a third; browsers hold the page in memory
_CUE = 44  # pixels that a cue has on average, so that its emotion can be read
_TICKS = 10  # the most marks of an axis
_ARCS = 3  # the strongest links of an utterance that are drawn, if they have this share at the least:
_LEAST_SHARE = 0.05

# What browsers call the files of a suffix, where Python knows no or another name.
_TYPES = {".mkv": "video/x-matroska", ".m4a": "audio/mp4", ".opus": "audio/ogg", ".flac": "audio/flac"}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A dialogue on the page.

    clips: the video or sound of each utterance; None where there is none, and empty where no utterance has one.
    """

    title: str
    predictions: Sequence[Prediction]
    clips: Sequence[Path | None] = field(default=())


def timeline(
    dialogues: Sequence[Shown],
    *,
    title: str,
    source: Callable[[Path], str],
    links: Sequence[tuple[str, str]] = (),
) -> str:
    """Returns the page.

    Args:
      source: gives the address by which the page plays a video or sound: `beside`, or `embedded`.
      links: texts and addresses that stand above the timeline.
    """
    labels = list(dict.fromkeys(label for d in dialogues for p in d.predictions for label in p.probs))
    colours = colours_of(labels)
    clips = dict.fromkeys(clip for d in dialogues for clip in d.clips if clip is not None and clip.is_file())
    sources = {clip: source(clip) for clip in clips}
    return render(
        "timeline",
        script="timeline",
        title=title,
        legend=colours,
        links=links,
        dialogues=[_dialogue(dialogue, colours, sources) for dialogue in dialogues],
    )


def beside(folder: Path) -> Callable[[Path], str]:
    """Returns what gives the address of a clip for a page in `folder`: the way from there to where the clip lies."""
    return lambda clip: quote(os.path.relpath(clip, folder).replace(os.sep, "/"))


def embedded(clips: Iterable[Path]) -> Callable[[Path], str]:
    """Returns what gives the content of a clip as an address, so that the page holds it itself.

    Args:
      clips: all that the page will hold.

    Raises:
      UserError: they are too large. Of the result: a clip cannot be read.
    """
    size = sum(clip.stat().st_size for clip in set(clips) if clip.is_file())
    if size > _MOST_EMBEDDED:
        raise UserError(
            f"the videos and sounds have {size >> 20} MiB, and a page may embed {_MOST_EMBEDDED >> 20} MiB; leave out "
            "--embed, so that the page plays them from where they lie"
        )

    def content(clip: Path) -> str:
        try:
            return f"data:{_type(clip)};base64,{base64.b64encode(clip.read_bytes()).decode()}"
        except OSError as error:
            raise UserError(f"{clip}: cannot be embedded ({error.strerror}); leave out --embed") from error

    return content


def _type(clip: Path) -> str:
    suffix = clip.suffix.lower()
    return _TYPES.get(suffix) or mimetypes.guess_type(f"x{suffix}")[0] or "video/mp4"


def _dialogue(shown: Shown, colours: Mapping[str, Colour], sources: Mapping[Path, str]) -> dict[str, Any]:
    """Returns what the template shows of a dialogue, and the script reads."""
    said = shown.predictions
    spans, end, timed = _spans(said)
    media = list(dict.fromkeys(clip for clip in shown.clips if clip is not None and clip in sources))
    place = {p.utterance_id: i for i, p in enumerate(said)}
    cues = []
    for i, (p, (start, stop)) in enumerate(zip(said, spans, strict=True)):
        clip = shown.clips[i] if shown.clips else None
        time = f"{clock(p.start)} to {clock(p.end)}" if p.start is not None and p.end is not None else ""
        links = sorted(((w, place[name]) for name, w in p.attention.items() if name in place and place[name] != i))
        cues.append({
            "number": i,
            "left": 100 * start / end,
            "width": 100 * (stop - start) / end,
            "time": time,
            "start": p.start,
            "end": p.end,
            "media": media.index(clip) if clip in media else None,
            "speaker": p.speaker or UNNAMED,
            "text": p.text,
            "label": p.label,
            "probs": sorted(p.probs.items(), key=lambda item: -item[1]),
            "shares": [(m, share) for m, share in p.gates.items() if share > 0 or m in p.modalities],
            "modalities": list(p.modalities),
            "status": p.status,
            "reason": p.reason,
            "links": [[j, w] for w, j in reversed(links[-_ARCS:]) if w >= _LEAST_SHARE],
        })  # fmt: skip
    lanes: dict[str, list[dict[str, Any]]] = {}
    for cue in cues:
        lanes.setdefault(cue["speaker"], []).append(cue)
    return {
        "title": shown.title,
        "timed": timed,
        "media": [{"source": sources[clip], "name": clip.name, "type": _type(clip)} for clip in media],
        "lanes": lanes,
        "cues": cues,
        "least_width": _CUE * len(cues),
        "ticks": _ticks(end, timed=timed, count=len(cues)),
        "arcs": [_arc(cues, i, j, w) for i, cue in enumerate(cues) for j, w in cue["links"]],
        "data": {
            "cues": cues,
            "media": [{"source": sources[clip], "name": clip.name} for clip in media],
            "colours": {label: [c.fill, c.striped] for label, c in colours.items()},
        },
    }


def _spans(said: Sequence[Prediction]) -> tuple[list[tuple[float, float]], float, bool]:
    """Returns where each utterance begins and ends, the end of the axis, and whether the axis is one of seconds.

    Where an utterance has no time, the axis counts utterances.
    """
    spans = [(p.start, p.end) for p in said if p.start is not None and p.end is not None]
    if said and len(spans) == len(said):
        return spans, max(max(end for _, end in spans), 1e-3), True
    return [(i, i + 1) for i in range(len(said))], max(len(said), 1), False


def _ticks(end: float, *, timed: bool, count: int) -> list[tuple[float, str]]:
    """Returns the marks of the axis: percent of its length, and text."""
    if not timed:
        step = math.ceil(count / _TICKS) or 1
        return [(100 * (i + 0.5) / count, str(i + 1)) for i in range(0, count, step)]
    steps = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
    step = next((s for s in steps if end / s <= _TICKS), 7200)
    marks = range(int(end / step) + 1)
    return [(100 * i * step / end, clock(i * step).removesuffix(".0")) for i in marks if i * step < 0.97 * end]


def _arc(cues: Sequence[Mapping[str, Any]], receiver: int, sender: int, share: float) -> dict[str, Any]:
    """Returns the curve from the utterance that is looked at to the one that looks, in a box of 1000 by 70."""
    x, y = (10 * (cues[i]["left"] + cues[i]["width"] / 2) for i in (sender, receiver))
    height = min(64, 14 + abs(x - y) / 6)
    return {
        "path": f"M{x:.1f} 70 Q{(x + y) / 2:.1f} {70 - 2 * height + 6:.1f} {y:.1f} 70",
        "width": 1 + 5 * share,
        "of": receiver,
    }
