"""Reads the transcript of one recording as a dialogue: subtitles, tables, Whisper's JSON and plain text.

    .srt .vtt  cues with times. The lines of a cue are joined by blanks, and markup such as `<i>` or `{\\an8}` is
               removed. A cue in which two people speak, each after a dash, is one utterance
    .csv .tsv  a header and one row an utterance, with the columns text, start, end, speaker and utterance, of which
               only text must be there. Usual other names such as `Utterance` or `StartTime` are known too
    .json      a list of objects with text, start, end, speaker and id, or an object that holds the list as `segments`,
               as Whisper and WhisperX write it. Only text must be there
    .txt       one utterance a line, without times

Times in tables and JSON are seconds or `[HH:]MM:SS.mmm`. Whisper's tables and some JSON hold milliseconds instead.
Plain numbers are taken for milliseconds where all are whole and half of the utterances would last 200 seconds or more.

The speaker is that of the column, of the field or of the voice tag `<v Ada>`. Subtitles without voice tags and plain
text may also name the speaker before the text, as in `ANA: Hi`, `Dr. Green: Hi` or `[SPEAKER_00]: Hi`. Such a name has
at most three words, each with a capital, and `Note: this` looks the same. All such names are therefore taken where at
least half of the utterances begin with one. Elsewhere a name is taken if it occurs twice or stands in brackets. An
utterance without a speaker has the speaker of the utterance before it in the file, and `speaker` if there is none.
"""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jmer.base.errors import UserError
from jmer.base.types import UNNAMED, Dialogue, Utterance
from jmer.corpora import csvfile, cuefile
from jmer.corpora.cuefile import Cue, noted

SUFFIXES = tuple(cuefile.EXPECTED)

_PREFIXED = (".srt", ".vtt", ".txt")  # the kinds of file that may name the speaker before the text
_PREFIX = re.compile(r"(?:[-–—]\s*|>>\s*)?(?:\[([^\[\]]{1,30})\]|([^\s\[:：][^:：]{0,29}))(?::(?=\s|$)|：)\s*")
_FIRST_WORD = re.compile(r"[^\W\d_][\w.'’&-]*")
_LATER_WORD = re.compile(r"[#\w][\w.'’&-]*")


def read(path: Path, *, clip: Path | None = None) -> tuple[Dialogue, tuple[str, ...]]:
    """Reads the transcript of one recording.

    The utterances are in the order of time. An utterance without times comes after the one that the file has before it.
    The ids are those of the file where every utterance has one and all differ; otherwise they are `utt0`, `utt1`, ...

    clip: the recording. Utterances with times become parts of it. Without times, it is the clip of the only utterance.

    Returns:
      The dialogue, whose id is the file's name without suffix, and notes: what was noticed, one sentence each.

    Raises:
      UserError: the file is of another kind, cannot be read, holds no utterance, or has a wrong time.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(
            f"{path}: is no kind of transcript that jmer reads; expected a name that ends in {', '.join(SUFFIXES)}"
        )
    given, notes = cuefile.read(path)
    cues = [replace(cue, text=csvfile.repair(cue.text), speaker=csvfile.repair(cue.speaker)) for cue in given]
    if repaired := [cue for cue, before in zip(cues, given, strict=True) if cue != before]:
        notes.append(noted(repaired, "had characters damaged by cp1252, which were repaired"))
    if suffix in _PREFIXED:
        cues = _without_prefixes(cues, notes)
    cues = _with_speakers(cues, notes)
    timeless = all(cue.start is None and cue.end is None for cue in cues)
    cues = cues if timeless else _in_time(cues, notes)
    if silent := [cue for cue in cues if not cue.text and cue.start is None]:
        notes.append(noted(silent, "had neither text nor usable times and {were} left out"))
        cues = [cue for cue in cues if cue.text or cue.start is not None]
    if not cues:
        raise UserError(f"{path}: no utterance has text or usable times; write the words or the times into the file")
    ids = _ids(cues, notes)
    if clip and timeless and len(cues) > 1:
        notes.append(f"{path.name} has no times, so that {clip.name} cannot be divided and only the texts are used")
    whole = clip if timeless and len(cues) == 1 else None
    utterances = tuple(
        Utterance(
            id=name,
            speaker=cue.speaker,
            text=cue.text,
            start=cue.start,
            end=cue.end,
            clip=whole if cue.start is None else clip,
        )
        for name, cue in zip(ids, cues, strict=True)
    )
    return Dialogue(id=path.stem, utterances=utterances), tuple(notes)


def _without_prefixes(cues: list[Cue], notes: list[str]) -> list[Cue]:
    """Moves names before the text into `speaker`, by the rule in the docstring of this module; adds to the notes."""
    if any(cue.speaker for cue in cues):
        return cues
    prefixes = [_prefix(cue.text) for cue in cues]
    times = Counter(name for name, _, _ in prefixes if name)
    common = 2 * times.total() >= sum(bool(cue.text) for cue in cues)
    named, left = [], []
    for cue, (name, certain, rest) in zip(cues, prefixes, strict=True):
        if name and (common or certain or times[name] > 1):
            named.append(replace(cue, speaker=name, text=rest))
        else:
            named.append(cue)
            left += [cue] if name else []
    if left:
        notes.append(noted(left, "began with a word and a colon, which {were} kept as text and not read as a speaker"))
    return named


def _prefix(text: str) -> tuple[str, bool, str]:
    """Returns the name before a text, whether it must be a name, and the rest; an empty name where there is none."""
    match = _PREFIX.match(text)
    if match is None:
        return "", False, text
    bracketed, name = match.groups(default="")
    first, *later = name.split() or [""]
    named = _FIRST_WORD.fullmatch(first) and len(later) < 3 and all(map(_LATER_WORD.fullmatch, later))
    if bracketed or (named and not any(word[0].islower() for word in (first, *later))):
        return (bracketed or name).strip(), bool(bracketed), text[match.end() :]
    return "", False, text


def _with_speakers(cues: list[Cue], notes: list[str]) -> list[Cue]:
    """Gives each cue a speaker; adds to the notes."""
    if not any(cue.speaker for cue in cues):
        return [replace(cue, speaker=UNNAMED) for cue in cues]
    if unnamed := [cue for cue in cues if not cue.speaker]:
        notes.append(noted(unnamed, "named no speaker and {were} given the speaker before"))
    spoken, speaker = [], UNNAMED
    for cue in cues:
        speaker = cue.speaker or speaker
        spoken.append(replace(cue, speaker=speaker))
    return spoken


def _in_time(cues: list[Cue], notes: list[str]) -> list[Cue]:
    """Brings cues into the order of time. A cue whose times cannot be used has none; adds to the notes."""
    if early := [cue for cue in cues if min(cue.start or 0, cue.end or 0) < 0]:
        notes.append(noted(early, "had times before the start of the recording, which were set to 0"))
    cues = [replace(cue, start=_not_negative(cue.start), end=_not_negative(cue.end)) for cue in cues]

    timed = [cue for cue in cues if cue.start is not None]
    keys, key = [], -1.0  # a cue without a start stays behind the cue before it
    for cue in cues:
        key = key if cue.start is None else cue.start
        keys.append(key)
    if keys != sorted(keys):
        notes.append("the utterances were not in the order of time and were sorted")
        cues = [cue for _, cue in sorted(zip(keys, cues, strict=True), key=lambda pair: pair[0])]

    starts = sorted({cue.start for cue in timed if cue.start is not None})
    following = dict(itertools.pairwise(starts))
    used, untimed, open_ended, last, backwards, overlapping = [], [], [], [], [], []
    reached = 0.0
    for cue in cues:
        start, end = cue.start, cue.end
        if start is not None and end is None:
            end = following.get(start)
            (last if end is None else open_ended).append(cue)
        elif start is None:
            untimed.append(cue)
        elif end is not None and end <= start:
            backwards.append(cue)
        if start is None or end is None or end <= start:
            used.append(replace(cue, start=None, end=None))
            continue
        used.append(replace(cue, end=end))
        if start < reached:
            overlapping.append(cue)
        reached = max(reached, end)
    for group, finding in (
        (overlapping, "began before an earlier one had ended; both were kept"),
        (open_ended, "had no end and {were} taken to last until the next one begins"),
        (last, "had no end and nothing after it, and {were} read as text alone"),
        (backwards, "did not end after the start and {were} read as text alone"),
        (untimed, "had no start and {were} read as text alone"),
    ):
        notes += [noted(group, finding)] if group else []
    return used


def _not_negative(time: float | None) -> float | None:
    return None if time is None else max(time, 0.0)


def _ids(cues: Sequence[Cue], notes: list[str]) -> list[str]:
    """Returns the ids of the file if they can be used, and numbers otherwise; adds to the notes."""
    own = [cue.id for cue in cues]
    if all(own) and len(set(own)) == len(own):
        return own
    if any(own):
        twice = [name for name, count in Counter(own).items() if name and count > 1]
        fault = f"repeat ({csvfile.listing(twice)})" if twice else "are not given for all utterances"
        notes.append(f"the ids of the file {fault}, so that the utterances are numbered instead")
    return [f"utt{i}" for i in range(len(cues))]
