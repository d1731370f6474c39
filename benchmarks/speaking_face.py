"""Measures how often jmer finds the speaking face, in two clips of talking faces side by side with the sound of one.

    python benchmarks/speaking_face.py --grid=DIR [--rates=4,8,12.5,25]

DIR holds clips of one talking face each, such as GRID's (Cooke et al. 2006). Of each pair of clips, either one is heard
once. The heard face is on the left in half of the cases. Chance is .5. There are two kinds of pairs:

    both speak   The other clip is played as it is. GRID's talkers say sentences of one form at nearly the same time, so
                 only the detail of the movement tells them apart. This is harder than any conversation.
    one silent   Of the other clip only the first 0.4 s are played, forwards and backwards. In them nobody speaks yet.

The parameters of `jmer.media.vision.speaking` were chosen on the pairs of the first, third, fifth, ... clip
(`chosen on`). The pairs of the second, fourth, ... clip (`others`) were looked at, but nothing was chosen on them.
`all` also has the pairs with one clip of each kind.

Also printed are the share of frames in which a face is found, and the cost: CPU seconds for decoding and for finding
the speaker, for each second of a clip.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from jmer.base import cli
from jmer.base.errors import UserError
from jmer.base.types import Media
from jmer.media import decoding
from jmer.media.vision import speaking

QUIET = 0.4  # seconds


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--grid", type=Path, required=True, help="folder of clips")
    parser.add_argument("--rates", default="4,8,12.5,25", help="frames a second to look at")
    args = parser.parse_args(argv)
    if not args.grid.is_dir():
        raise UserError(f"--grid={args.grid}: there is no such folder; give one with clips of talking faces")
    clips = sorted(path for path in args.grid.iterdir() if decoding.is_media(path))
    if len(clips) < 4:
        raise UserError(f"--grid={args.grid}: holds {len(clips)} clips; expected at least 4; add some")
    cv2.setNumThreads(1)
    print(f"{len(clips)} clips, {len(clips) * (len(clips) - 1)} ordered pairs\n")
    print(f"{'frames a s':>10} {'pairs':<12}{'chosen on':>10}{'others':>8}{'all':>6}  {'rules'}")
    for rate in map(float, args.rates.split(",")):
        decoded = [decoding.decode(clip, frames=round(rate * decoding.seconds(clip))) for clip in clips]
        for kind, other in (("both speak", lambda clip: clip), ("one silent", silent)):
            _print_row(rate, kind, decoded, [other(clip) for clip in decoded])
    print()
    for rate in (2.5, 12.5):
        _print_cost(rate, clips)
    return cli.EXIT_OK


def silent(clip: Media) -> Media:
    """Returns a clip of the same length that plays the first moments forwards and backwards, without sound."""
    assert clip.frames is not None
    assert clip.frame_times is not None
    count = max(2, int(np.sum(clip.frame_times < QUIET)))
    there_and_back = np.concatenate([np.arange(count), np.arange(count - 2, 0, -1)])
    return Media(
        wave=None,
        frames=clip.frames[np.resize(there_and_back, len(clip.frames))],
        frame_times=clip.frame_times,
        seconds=clip.seconds,
    )


def heard_is_found(heard: Media, other: Media, *, left: bool) -> tuple[bool, str]:
    """Returns whether the heard face is chosen, and by which rule."""
    assert heard.frames is not None
    assert other.frames is not None
    assert heard.frame_times is not None
    count = min(len(heard.frames), len(other.frames))
    pair = (heard.frames[:count], other.frames[:count])
    frames = np.concatenate(pair if left else pair[::-1], axis=2)
    speaker = speaking.find_speaker(frames, heard.frame_times[:count], heard.wave)
    if speaker.track is None:
        return False, speaker.rule
    middle = np.median(speaker.track.boxes[:, 0] + speaker.track.boxes[:, 2] / 2)
    return bool((middle < pair[0 if left else 1].shape[2]) == left), speaker.rule


def _print_row(rate: float, kind: str, heard: list[Media], others: list[Media]) -> None:
    results = {}
    rules: dict[str, int] = {}
    for i in range(len(heard)):
        for j in range(len(others)):
            if i != j:
                results[i, j], rule = heard_is_found(heard[i], others[j], left=(i + j) % 2 == 0)
                rules[rule] = rules.get(rule, 0) + 1
    shares = [np.mean([ok for (i, j), ok in results.items() if i % 2 == j % 2 == parity]) for parity in (0, 1)]
    counts = ", ".join(f"{count} {rule}" for rule, count in rules.items())
    print(
        f"{rate:>10g} {kind:<12}{shares[0]:>10.2f}{shares[1]:>8.2f}{np.mean(list(results.values())):>6.2f}  {counts}",
        flush=True,
    )


def _print_cost(rate: float, clips: Sequence[Path]) -> None:
    seconds = decode_time = finding = 0.0
    found = looked = 0
    for clip in clips:
        start = time.process_time()
        decoded = decoding.decode(clip, frames=round(rate * decoding.seconds(clip)))
        decode_time += time.process_time() - start
        assert decoded.frames is not None
        assert decoded.frame_times is not None
        start = time.process_time()
        speaker = speaking.find_speaker(decoded.frames, decoded.frame_times, decoded.wave)
        finding += time.process_time() - start
        seconds += decoded.seconds
        looked += len(decoded.frames)
        found += 0 if speaker.track is None else len(speaker.track)
    print(
        f"{rate:g} frames a second: a face in {found / looked:.1%} of {looked} frames; "
        f"{decode_time / seconds:.3f} + {finding / seconds:.3f} CPU s a second of clip, "
        f"{seconds / (decode_time + finding):.1f} times real time"
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
