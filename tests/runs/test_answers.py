"""Predictions on the screen and in files, which programs other than jmer read back."""

import csv
import itertools
import json
import math
import os
import random
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pysubs2
import pytest
from praatio import textgrid

from jmer.base.errors import StorageError, UserError
from jmer.base.types import Prediction
from jmer.corpora import transcript
from jmer.pages.timeline import Shown
from jmer.runs import answers

JOY = Prediction(
    utterance_id="utt0",
    speaker="Ana",
    text="Hi there",
    start=61.25,
    end=62.5,
    label="joy",
    probs={"joy": 0.75, "fear": 0.25},
    gates={"text": 0.62, "audio": 0.38, "video": 0.0},
    modalities=("text", "audio"),
)
FAILED = Prediction(
    utterance_id="utt1", speaker="Ben", start=63.0, end=64.0, label="", probs={}, gates={}, status="failed",
    reason="there is neither text nor sound",
)  # fmt: skip
TIMED = (".srt", ".vtt", ".rttm", ".TextGrid")
NASTY = (
    'say "hi" & <b>bold</b> --> {\\an8} &lt; a<b 3<4',
    "two\n\nblank lines\r\nand\ttabs\x0b\u2028end",
    "日本語 👩‍👩‍👧 é e\u0301 \u202eleft",
    "1984",
    "NOTE this",
    "00:00:01,000 --> 00:00:02,000",
    "C:\\new\\Names {smile}",
    "",
)


def one_line(text: str) -> str:
    return " ".join(text.split())


def write(file: Path, predictions: Sequence[Prediction]) -> None:
    answers.write(file, [Shown(title="", predictions=predictions)])


@pytest.fixture
def written(tmp_path: Path):
    """A function that writes predictions with a suffix and returns the file."""

    def written(suffix: str, *predictions: Prediction) -> Path:
        file = tmp_path / f"my film{suffix}"
        write(file, predictions)
        assert [path.name for path in tmp_path.iterdir()] == [file.name]
        file.read_bytes().decode("utf-8")
        return file

    return written


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch):
    """A function that sets the width of the terminal."""

    def terminal(columns: int) -> None:
        monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((columns, 24)))

    terminal(80)
    return terminal


# The screen.


@pytest.mark.usefixtures("terminal")
def test_table():
    degraded = replace(JOY, start=5.04, label="fear", status="degraded", reason="no face", gates={"joint": 1.0})
    assert answers.table([degraded, JOY, FAILED]).splitlines() == [
        "  time  speaker  emotion       modalities          text",
        "0:05.0  Ana      fear     25%  joint 100%          Hi there  degraded: no face",
        "1:01.2  Ana      joy      75%  text 62% audio 38%  Hi there",
        "1:03.0  Ben      -                                 failed: there is neither text nor sound",
    ]


@pytest.mark.usefixtures("terminal")
def test_table_without_times_and_shares():
    early = replace(JOY, start=None, end=None, gates={}, speaker="")
    assert answers.table([early]).splitlines() == [
        "emotion       modalities  text",
        "joy      75%  text audio  Hi there",
    ]
    assert answers.table([]).strip() == "text"


def test_texts_are_cut_to_the_terminal_and_reasons_are_not(terminal):
    long = replace(JOY, text="word " * 100, speaker="A name of more than sixteen letters")
    reason = replace(long, status="degraded", reason="the sound ends before the utterance does")
    for columns in (60, 80, 200):
        terminal(columns)
        _, line, other = answers.table([long, reason]).splitlines()
        room = max(columns - line.index("word"), 12)  # but never less than a few words
        assert room - 1 <= len(line) - line.index("word") <= room
        assert line.endswith("…")
        assert "A name of more…" in line
        assert other.endswith("…  degraded: the sound ends before the utterance does")
    terminal(10_000)
    assert answers.table([long]).endswith("word word")


@pytest.mark.usefixtures("terminal")
def test_columns_are_aligned_and_nothing_steers_the_terminal():
    wide = replace(JOY, speaker="安娜", text="\x1b[31mred\n\nline\x07 日本" + "語" * 99)
    accent = replace(JOY, speaker="e\u0301e")
    head, *lines = answers.table([JOY, wide, accent]).splitlines()
    assert len(lines) == 3
    assert not any(char < " " for line in lines for char in line)
    at = head.index("emotion")
    assert [line.index("joy") for line in lines] == [at, at - 2, at + 1]  # two wide characters, one combining one
    assert "[31mred line 日本語語" in lines[1]


# Tables and JSON.


def test_csv(written):
    with written(".csv", JOY, FAILED).open(newline="") as stream:
        first, second = csv.DictReader(stream)
    assert first == {
        "utterance": "utt0", "speaker": "Ana", "start": "61.250", "end": "62.500", "text": "Hi there", "label": "joy",
        "p_joy": "0.750000", "p_fear": "0.250000", "share_text": "0.620000", "share_audio": "0.380000",
        "share_video": "0.000000", "modalities": "text audio", "status": "ok", "reason": "",
    }  # fmt: skip
    assert "".join(second.values()) == "utt1Ben63.00064.000failedthere is neither text nor sound"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", '=HYPERLINK("a";"b")'])
def test_spreadsheets_run_no_text_as_a_formula(written, text: str):
    nasty = replace(JOY, utterance_id=text, speaker=text, text=text, label=text, reason=text)
    with written(".csv", nasty).open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert {row[name] for name in ("utterance", "speaker", "text", "label", "reason")} == {f"'{text}"}
    assert float(row["p_joy"]) == 0.75


def test_json(written):
    value = json.loads(written(".json", JOY, FAILED).read_text(encoding="utf-8"))
    assert value["labels"] == ["joy", "fear"]
    first, second = value["utterances"]
    assert first == {
        "utterance": "utt0", "speaker": "Ana", "start": 61.25, "end": 62.5, "text": "Hi there", "label": "joy",
        "probs": {"joy": 0.75, "fear": 0.25}, "shares": {"text": 0.62, "audio": 0.38, "video": 0.0},
        "modalities": ["text", "audio"], "status": "ok", "reason": "",
    }  # fmt: skip
    assert (second["label"], second["probs"], second["status"]) == ("", {}, "failed")
    untimed = json.loads(written(".json", replace(JOY, start=None, end=None)).read_text())
    assert untimed["utterances"][0]["start"] is None


def test_every_text_survives_csv(written):
    predictions = [replace(JOY, text=text, speaker=text) for text in NASTY]
    with written(".csv", *predictions).open(newline="", encoding="utf-8") as stream:
        assert [(row["text"], row["speaker"]) for row in csv.DictReader(stream)] == [(text, text) for text in NASTY]


def test_every_text_survives_json(written):
    value = json.loads(written(".json", *(replace(JOY, text=text) for text in NASTY)).read_text(encoding="utf-8"))
    assert [u["text"] for u in value["utterances"]] == list(NASTY)


def test_half_a_character_is_replaced(written):
    assert "Hi ?" in written(".csv", replace(JOY, text="Hi \ud800")).read_text(encoding="utf-8")


# Subtitles.


def test_srt(written):
    text = written(".srt", JOY, FAILED).read_text(encoding="utf-8")
    assert text == (
        "1\n00:01:01,250 --> 00:01:02,500\n[joy] Ana: Hi there\n\n2\n00:01:03,000 --> 00:01:04,000\nBen:\n\n"
    )
    assert "\n[joy] Hi there\n" in written(".srt", JOY).read_text(encoding="utf-8")  # one speaker needs no name


def test_vtt(written):
    assert written(".vtt", JOY, FAILED).read_text(encoding="utf-8") == (
        "WEBVTT\n\n00:01:01.250 --> 00:01:02.500\n<v Ana>[joy] Hi there\n\n"
        "00:01:03.000 --> 00:01:04.000\n<v Ben>\n\n"
    )  # fmt: skip


@pytest.mark.parametrize("suffix", [".srt", ".vtt"])
def test_pysubs2_reads_the_cues_in_the_order_of_time(written, suffix: str):
    chance = random.Random(1)
    predictions = []
    for i in range(300):
        start = chance.random() * 9000
        text = chance.choice(["Hi there", "R&D", "I <3 you", "日本", "why?"])
        end = start + chance.random() + 0.001
        predictions.append(replace(JOY, start=start, end=end, text=text, speaker=f"S {i % 3}"))
    file = pysubs2.load(str(written(suffix, *predictions)))
    expected = sorted(predictions, key=lambda p: p.start or 0)
    assert [event.start for event in file] == [round((p.start or 0) * 1000) for p in expected]
    assert [event.end for event in file] == [round((p.end or 0) * 1000) for p in expected]
    for event, p in zip(file, expected, strict=True):
        name = f"{p.speaker}: " if suffix == ".srt" else ""
        plain = event.plaintext.replace("&amp;", "&").replace("&lt;", "<")
        assert plain == f"[joy] {name}{p.text}"


def test_every_text_survives_subtitles(tmp_path: Path):
    for suffix in (".srt", ".vtt"):
        texts = [text.replace("{\\an8}", "") for text in NASTY]  # subtitles have no way to write this as text
        predictions = [
            replace(JOY, start=float(i), end=i + 0.5, text=text, speaker="A & <b>") for i, text in enumerate(texts)
        ]
        write(tmp_path / f"out{suffix}", predictions)
        dialogue, notes = transcript.read(tmp_path / f"out{suffix}")
        assert [u.text for u in dialogue.utterances] == [one_line(f"[joy] {text}") for text in texts]
        assert {u.speaker for u in dialogue.utterances} == {"speaker" if suffix == ".srt" else "A & <b>"}
        assert notes == ()
        assert (tmp_path / f"out{suffix}").read_text(encoding="utf-8").count("-->") == len(texts)  # those of the times


def test_an_utterance_lasts_at_least_a_millisecond(written):
    (event,) = pysubs2.load(str(written(".srt", replace(JOY, start=1.0001, end=1.0002))))
    assert (event.start, event.end) == (1000, 1001)


# RTTM and TextGrid.


def test_rttm(written):
    labelled = replace(JOY, label="very glad", probs={"very glad": 1.0})
    assert written(".rttm", labelled, FAILED).read_text() == (
        "SPEAKER my_film 1 61.250 1.250 <NA> <NA> very_glad 1.000000 <NA>\n"
        "SPEAKER my_film 1 63.000 1.000 <NA> <NA> <NA> <NA> <NA>\n"
    )


def tiers(file: Path) -> Mapping[str, list[tuple[float, float, str]]]:
    """The intervals of each tier, as praatio reads them; they must fill the tier without gaps."""
    grid = textgrid.openTextgrid(str(file), includeEmptyIntervals=True)
    found = {}
    for tier in grid.tiers:
        entries = [tuple(entry) for entry in tier.entries]
        assert entries[0][0] == grid.minTimestamp == 0
        assert entries[-1][1] == grid.maxTimestamp
        assert all(before[1] == after[0] for before, after in itertools.pairwise(entries))
        found[tier.name] = entries
    return found


def test_textgrid(written):
    second = replace(JOY, start=62.5, end=63.5, label="fear")
    assert tiers(written(".TextGrid", JOY, second, FAILED)) == {
        "Ana": [(0, 61.25, ""), (61.25, 62.5, "joy"), (62.5, 63.5, "fear"), (63.5, 64, "")],
        "Ben": [(0, 63, ""), (63, 64, "")],
    }


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ("0 2 a, 1 3 b", [(0, 1, "a"), (1, 3, "b")]),
        ("0 9 a, 1 2 b", [(0, 1, "a"), (1, 2, "b"), (2, 9, "")]),
        ("0 2 b, 0 1 a", [(0, 1, "a"), (1, 2, "b")]),
        ("0 1 a, 0 1 b, 0 1 c", [(0, 1, "a / b / c")]),
        ("1 2 b, 0 1 a", [(0, 1, "a"), (1, 2, "b")]),
    ],
)
def test_overlapping_utterances_of_one_speaker_are_clipped(written, spans: str, expected: list):
    cells = [span.split() for span in spans.split(", ")]
    found = tiers(written(".TextGrid", *(replace(JOY, start=float(s), end=float(e), label=x) for s, e, x in cells)))
    last = max(float(end) for _, end, _ in cells)
    filled = expected if expected[-1][1] == last else [*expected, (expected[-1][1], last, "")]
    assert [entry for entry in found["Ana"] if entry[2]] == [entry for entry in filled if entry[2]]


def test_random_utterances_become_a_textgrid_that_praatio_reads(written):
    chance = random.Random(2)
    for _ in range(30):
        predictions = []
        for i in range(40):
            start = chance.choice([chance.random() * 20, float(chance.randrange(20))])
            name = f'say "{i}"'
            end = start + chance.random() * 3 + 1e-6
            predictions.append(replace(JOY, start=start, end=end, label=name, speaker=chance.choice("ab")))
        found = tiers(written(".TextGrid", *predictions))
        labels = {label for entries in found.values() for entry in entries for label in entry[2].split(" / ")} - {""}
        assert labels == {p.label for p in predictions}  # clipped, but none lost


def test_quotes_and_line_ends_in_a_textgrid(written):
    nasty = replace(JOY, speaker='Ana "A"\nB', label='so "glad"\n')
    text = written(".textgrid", nasty).read_text(encoding="utf-8")
    assert '        name = "Ana ""A"" B"\n' in text
    assert '            text = "so ""glad"""\n' in text


# What is refused.


@pytest.mark.parametrize("suffix", TIMED)
@pytest.mark.parametrize("times", [(None, None), (1.0, None), (None, 1.0), (2.0, 1.0), (-1.0, 1.0), (0.0, math.inf)])
def test_formats_with_times_need_times(tmp_path: Path, suffix: str, times: tuple[float | None, float | None]):
    file = tmp_path / f"out{suffix}"
    untimed = replace(JOY, utterance_id="utt7", start=times[0], end=times[1])
    with pytest.raises(UserError, match=r"out\.\w+: utterance 'utt7' has no times, .*; write a .csv or .json"):
        write(file, [JOY, untimed, replace(untimed, utterance_id="utt8")])
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "out.csv", [untimed])


def test_wrong_paths_are_refused_before_the_work(tmp_path: Path):
    for name in ("out.xlsx", "out", ".csv"):
        with pytest.raises(UserError, match=r"expected a name that ends in \.csv, \.json, \.srt, .*\.TextGrid"):
            answers.check(tmp_path / name)
    with pytest.raises(UserError, match=r"there is no folder .*no; create it"):
        answers.check(tmp_path / "no" / "out.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        answers.check(tmp_path / "folder.csv")
    for suffix in answers.SUFFIXES:
        answers.check(tmp_path / f"out{suffix}")
        answers.check(tmp_path / f"out{suffix.upper()}")


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "out.csv").write_text("before")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match=r"out\.csv: cannot be written \(No space left on device\)"):
        write(tmp_path / "out.csv", [JOY])
    assert (tmp_path / "out.csv").read_text() == "before"
    with pytest.raises(UserError, match="there is no prediction"):
        write(tmp_path / "out.csv", [])


def test_the_docstring_names_every_suffix():
    assert set(re.findall(r"(?m)(?<=[ ])\.\w+(?= )", answers.__doc__ or "")) == set(answers.SUFFIXES)
