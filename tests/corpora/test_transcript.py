"""Transcripts as they occur: subtitles, tables, Whisper's JSON and plain text, and all that is wrong with them."""

import json
import random
import time
from pathlib import Path

import pysubs2
import pytest

from jmer.base.errors import UserError
from jmer.base.types import Utterance
from jmer.corpora import transcript

CLIP = Path("film.mp4")


@pytest.fixture
def read(tmp_path: Path):
    """A function that writes a transcript and reads it: the utterances and the notes."""

    def read(text: str | bytes, suffix: str = ".srt", clip: Path | None = None):
        file = tmp_path / f"film{suffix}"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        dialogue, notes = transcript.read(file, clip=clip)
        assert dialogue.id == "film"
        return dialogue.utterances, notes

    return read


@pytest.fixture
def fails(tmp_path: Path):
    """A function that checks that a transcript is refused with a message of one line that holds the given words."""

    def fails(text: str | bytes, *words: str, suffix: str = ".srt") -> None:
        file = tmp_path / f"film{suffix}"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(UserError) as caught:
            transcript.read(file)
        message = str(caught.value)
        assert message.startswith(str(file))
        assert "\n" not in message
        for word in words:
            assert word in message, message

    return fails


def srt(*cues: str, seconds: int = 2) -> str:
    """Subtitles with these texts, each for two seconds."""
    times = [f"00:{i * seconds // 60:02d}:{i * seconds % 60:02d},000" for i in range(len(cues) + 1)]
    return "".join(f"{i + 1}\n{times[i]} --> {times[i + 1]}\n{cue}\n\n" for i, cue in enumerate(cues))


def said(utterances: tuple[Utterance, ...]) -> list[tuple[str, str]]:
    return [(u.speaker, u.text) for u in utterances]


def spans(utterances: tuple[Utterance, ...]) -> list[tuple[float | None, float | None]]:
    return [(u.start, u.end) for u in utterances]


# Subtitles.


def test_srt(read):
    text = "1\n00:00:01,500 --> 00:00:02,000\nHi,\n<i>you</i>!\n\n2\n01:02:03,004 --> 01:02:04,5 X1:9\n{\\an8}Bye\n"
    utterances, notes = read(text, clip=CLIP)
    assert notes == ()
    assert utterances == (
        Utterance(id="utt0", speaker="speaker", text="Hi, you!", start=1.5, end=2.0, clip=CLIP),
        Utterance(id="utt1", speaker="speaker", text="Bye", start=3723.004, end=3724.5, clip=CLIP),
    )


def test_vtt(read):
    text = """WEBVTT - a title
Kind: captions

STYLE
::cue { color: red }

NOTE not said -
in two lines

4c1/8-0
00:01.000 --> 00:02.000 align:start position:0%
<v.loud Ada Green>Hi <c.red>there</c>, R&amp;D &lt;3</v>

NOTE between

00:02.000 --> 00:03.000
<v Ben>Born in
1984

00:03.000 --> 00:04.000
<v Ben>Yes<00:03.500> well
"""
    utterances, notes = read(text, ".vtt")
    assert notes == ()
    assert said(utterances) == [("Ada Green", "Hi there, R&D <3"), ("Ben", "Born in 1984"), ("Ben", "Yes well")]
    assert spans(utterances) == [(1, 2), (2, 3), (3, 4)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1\n00:00:00,0 --> 00:00:01,0\na\n\nstill a\n\n2\n00:00:01,0 --> 00:00:02,0\nb\n", ["a still a", "b"]),
        ("1\n00:00:00,0 --> 00:00:01,0\na\n2\n00:00:01,0 --> 00:00:02,0\nb\n", ["a", "b"]),  # no blank line
        ("1\n\n00:00:00,0 --> 00:00:01,0\na\n\n2\n\n00:00:01,0 --> 00:00:02,0\nb\n", ["a", "b"]),
        ("00:00:00,0 --> 00:00:01,0\nin 1\n\n00:00:01,0 --> 00:00:02,0\n1984\n\n", ["in 1", "1984"]),  # no numbers
        ("1\n00:00:00 -> 00:00:01\na\n\n2\n00:00:01.0 —> 00:00:02.0\nb --> c\n", ["a", "b --> c"]),
        ("1\r\n0:0:0,0 --> 0:0:1,0\r\na\r\n\r\n2\r\n0:0:1,0 --> 0:0:2,0\r\n\r\n\r\n", ["a", ""]),
        ("1\n0:0:0,0 --> 0:0:1,0\n1 <3 2<br>a <b\n\n2\n0:0:1,0 --> 0:0:2,0\nAT&T &eacute;", ["1 <3 2 a <b", "AT&T é"]),
    ],
)
def test_subtitles_that_others_write(read, text: str, expected: list[str]):
    utterances, notes = read(text)
    assert [u.text for u in utterances] == expected
    assert spans(utterances) == [(0, 1), (1, 2)]
    assert notes == ()


@pytest.mark.parametrize(
    ("line", "at"),
    [
        ("00:00:0x,000 --> 00:00:02,000", 2),
        ("00:00:01,000 --> ", 2),
        ("00:00:01,000 --> 00:00:61,000", 2),
        ("01:61:01,000 --> 01:62:01,000", 2),
        ("--> 00:00:02,000", 2),
        ("00:00:00,000 --> 00:00:01,000\ntext\n00:00:01,000 --> 0x", 4),
    ],
)
def test_wrong_times_of_subtitles_are_refused_with_their_line(fails, line: str, at: int):
    wrong = line.splitlines()[-1].strip()
    fails(f"1\n{line}\nHi\n", f":{at}: the times are '{wrong}'", "expected two times such as", "correct the line")


def test_texts_of_no_cue_are_left_out_and_noted(read):
    utterances, notes = read("by someone\n\n" + srt("Hi"))
    assert said(utterances) == [("speaker", "Hi")]
    assert notes == ("1 text without times was left out (line 1)",)
    utterances, notes = read("WEBVTT\n\n00:00.0 --> 00:01.0\nHi\n\nlost\n\nlost too\n", ".vtt")
    assert said(utterances) == [("speaker", "Hi")]
    assert notes == ("2 texts without times were left out (line 6, line 8)",)


def test_a_cue_of_several_people_is_one_utterance(read):
    utterances, notes = read(srt("- Hi.\n- Hello.", "- So", "Well -\nno"))
    assert [u.text for u in utterances] == ["- Hi. - Hello.", "- So", "Well - no"]
    assert notes == ("1 utterance held the words of several people and was not divided (line 2)",)
    utterances, notes = read("WEBVTT\n\n00:00.0 --> 00:01.0\n<v A>Hi</v>\n<v B>Ho</v>\n", ".vtt")
    assert said(utterances) == [("A", "Hi Ho")]
    assert "line 3" in notes[0]


def test_subtitles_are_read_as_pysubs2_reads_them(read):
    chance = random.Random(0)
    file = pysubs2.SSAFile()
    at = 0
    for _ in range(200):
        at += chance.randrange(1, 5000)
        words = [chance.choice(["ja", "né", "日本", "R&D", "3", "50%", "why?"]) for _ in range(chance.randrange(1, 9))]
        text = " ".join(words[:4]) + ("\\N" if len(words) > 4 else "") + " ".join(words[4:])
        file.append(pysubs2.SSAEvent(start=at, end=at + chance.randrange(1, 9000), text=text))
    for suffix in (".srt", ".vtt"):
        utterances, _ = read(file.to_string(suffix[1:]), suffix)
        assert spans(utterances) == [(event.start / 1000, event.end / 1000) for event in file]
        assert [u.text for u in utterances] == [event.plaintext.replace("\n", " ") for event in file]


# Speakers.


@pytest.mark.parametrize("suffix", [".srt", ".txt"])
@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        # Half of the texts begin with a name: all names are taken, and the others speak on.
        (["ANA: Hi", "you", "Dr. Green: Hello", "dear"],
         [("ANA", "Hi"), ("ANA", "you"), ("Dr. Green", "Hello"), ("Dr. Green", "dear")]),
        (["a", "Élodie: b", "Speaker 1: c", "- O'Neil: d"],
         [("speaker", "a"), ("Élodie", "b"), ("Speaker 1", "c"), ("O'Neil", "d")]),
        # Fewer do: only a name that occurs twice or stands in brackets.
        (["Note: this", "b", "c"], [("speaker", "Note: this"), ("speaker", "b"), ("speaker", "c")]),
        (["Ana: a", "b", "Note: c", "d", "Ana: e", "f", "g"],
         [("Ana", "a"), ("Ana", "b"), ("Ana", "Note: c"), ("Ana", "d"), ("Ana", "e"), ("Ana", "f"), ("Ana", "g")]),
        (["[SPEAKER_00]: a", "b", "c", "d"], [("SPEAKER_00", text) for text in "abcd"]),  # as WhisperX writes it
        (["安娜：你好", "安娜：再见"], [("安娜", "你好"), ("安娜", "再见")]),
    ],
)  # fmt: skip
def test_names_before_the_text(read, texts: list[str], expected: list[tuple[str, str]], suffix: str):
    utterances, _ = read(srt(*texts) if suffix == ".srt" else "\n".join(texts), suffix)
    assert said(utterances) == expected


@pytest.mark.parametrize(
    "text",
    ["12:30 it is", "At 12:30", "the end: so", "Yes, sir: no", "One Two Three Four: x", "HTTP://a.b", "A" * 31 + ": x"],
)
def test_what_is_no_name_stays_in_the_text(read, text: str):
    utterances, notes = read(srt(text, text))
    assert said(utterances) == [("speaker", text)] * 2
    assert notes == ()


def test_guesses_at_speakers_are_noted(read):
    _, notes = read(srt("Ana: a", "b", "Note: c", "d", "Ana: e", "f", "g"))
    assert notes == (
        "1 utterance began with a word and a colon, which was kept as text and not read as a speaker (line 10)",
        "5 utterances named no speaker and were given the speaker before (line 6, line 10, line 14 and 2 more)",
    )


def test_a_name_alone_begins_the_words_of_a_speaker(read):
    utterances, _ = read("ANA:\nHi there.\nBEN:\nHi.\n", ".txt")
    assert said(utterances) == [("ANA", "Hi there."), ("BEN", "Hi.")]


def test_where_there_are_voice_tags_no_names_are_sought(read):
    utterances, _ = read("WEBVTT\n\n0:00.0 --> 0:01.0\n<v Ada>Ben: so\n\n0:01.0 --> 0:02.0\nBen: so\n", ".vtt")
    assert said(utterances) == [("Ada", "Ben: so"), ("Ada", "Ben: so")]


# Tables.


def test_csv(read):
    text = 'utterance,speaker,start,end,text\nx,Ana,0:01.5,"0:02,25","Oh, ""no"""\ny,,62.5,1:01:03,yes\n'
    utterances, notes = read(text, ".csv", CLIP)
    assert utterances == (
        Utterance(id="x", speaker="Ana", text='Oh, "no"', start=1.5, end=2.25, clip=CLIP),
        Utterance(id="y", speaker="Ana", text="yes", start=62.5, end=3663, clip=CLIP),
    )
    assert notes == ("1 utterance named no speaker and was given the speaker before (line 3)",)


def test_usual_names_of_columns(read):
    meld = "Sr No.,Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID,StartTime,EndTime\n"
    utterances, notes = read(meld + '1,Hi,Joey,joy,0,7,"00:16:16,059","00:16:21,731"\n', ".csv")
    assert (utterances[0].id, utterances[0].text, utterances[0].speaker) == ("7", "Hi", "Joey")
    assert spans(utterances) == [(976.059, 981.731)]
    assert notes == ("columns that were not read: Sr No., Emotion",)
    for header in ("onset\toffset\tsentence", "start_time\tEnd Time\tTranscript", "Begin\tStop\tTEXT"):
        utterances, _ = read(f"{header}\n1\t2\tHi\n", ".tsv")
        assert (utterances[0].text, spans(utterances)) == ("Hi", [(1, 2)])


def test_separators_and_quotes(read):
    assert spans(read("start;end;text\n1,5;2,5;Hi, you\n", ".csv")[0]) == [(1.5, 2.5)]
    utterances, _ = read('start\tend\ttext\n0\t1\t"Hi," she said\n1\t2\t"a ""b"" c"\n', ".tsv")
    assert [u.text for u in utterances] == ['"Hi," she said', 'a "b" c']
    utterances, _ = read('text\n"two\nlines"\n\nlast', ".csv")
    assert [u.text for u in utterances] == ["two lines", "last"]


def test_whole_numbers_of_milliseconds(read):
    utterances, notes = read("start\tend\ttext\n0\t2500\tHi\n2500\t4000\tyou\n", ".tsv")  # as Whisper writes it
    assert spans(utterances) == [(0, 2.5), (2.5, 4)]
    assert notes == ("all times are large whole numbers and were read as milliseconds",)
    for text in ("0,199,Hi", "0,2500.5,Hi", "0:00,1:00:00,Hi"):
        utterances, notes = read(f"start,end,text\n{text}\n", ".csv")
        assert utterances[0].end in (199, 2500.5, 3600)
        assert notes == ()


def test_times_that_are_missing(read):
    utterances, notes = read("start,end,text\n1,,a\n3,4,b\n,,c\n,9,d\n5,,e\n", ".csv", CLIP)
    assert [u.text for u in utterances] == ["a", "b", "c", "d", "e"]
    assert spans(utterances) == [(1, 3), (3, 4), (None, None), (None, None), (None, None)]
    assert [u.clip for u in utterances] == [CLIP, CLIP, None, None, None]
    assert notes == (
        "1 utterance had no end and was taken to last until the next one begins (line 2)",
        "1 utterance had no end and nothing after it, and was read as text alone (line 6)",
        "2 utterances had no start and were read as text alone (line 4, line 5)",
    )


@pytest.mark.parametrize("cell", ["nan", "inf", "-inf", "1e999", "soon", "1:75", "1:2:3:4", "01:61:00"])
def test_wrong_times_of_tables_and_json_are_refused(fails, cell: str):
    fails(f"start,end,text\n0,1,a\n1,{cell},b\n", ":3: the end is", f"'{cell}'", "62.5", suffix=".csv")
    fails(json.dumps([{"start": cell, "text": "a"}]), ": segment 1: the start is", f"'{cell}'", suffix=".json")


def test_wrong_tables_are_refused(fails):
    fails("start,end,words\n0,1,Hi\n", "lacks the column text (found: start, end, words)", suffix=".csv")
    fails("text,start,start\nHi,0,1\n", "column start more than once", suffix=".csv")
    fails("start,text\n0\n", ":2: has 1 cells where the header has 2", suffix=".csv")
    fails("start,text\n0,Hi, you\n", ":2: has 3 cells where the header has 2", "quotes", suffix=".csv")
    fails('text\nHi\n"open\nto the end\n', ":3: is not well-formed CSV", suffix=".csv")
    fails("dialogue,text\na,Hi\nb,Hi\n", "holds 2 dialogues", "one recording", suffix=".csv")
    fails(",,\n", "lacks the column text (found: )", suffix=".csv")
    fails("text,start\n", "holds no utterance; expected a header and one row", suffix=".csv")


# JSON and plain text.


def test_json(read):
    segments = [
        {"id": 3, "start": 0, "end": 1.5, "text": " Hi  there", "speaker": "SPEAKER_01", "words": []},
        {"id": 4, "start": 1.5, "end": 2, "text": "Yes", "speaker": None},
    ]
    for value in ({"segments": segments, "language": "en"}, segments):
        utterances, _ = read(json.dumps(value), ".json", CLIP)
        assert utterances == (
            Utterance(id="3", speaker="SPEAKER_01", text="Hi there", start=0, end=1.5, clip=CLIP),
            Utterance(id="4", speaker="SPEAKER_01", text="Yes", start=1.5, end=2, clip=CLIP),
        )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not well-formed JSON"),
        ("[" * 100_000, "not well-formed JSON"),
        ("1" * 5000, "not well-formed JSON"),
        ('"Hi"', "no list of segments"),
        ('{"text": "Hi"}', "no list of segments"),
        ('{"segments": {"0": {"text": "Hi"}}}', "no list of segments"),
        ('["Hi"]', "no list of segments"),
        ("[]", "holds no utterance"),
        ('[{"text": "a"}, {"start": 1}]', "segment 2: has no text"),
        ('[{"text": 7}]', "segment 1: has no text"),
        ('[{"text": "a", "start": NaN, "end": 1}]', "segment 1: the start is 'nan'"),
        ('[{"text": "a", "start": 1, "end": true}]', "segment 1: the end is 'True'"),
        ('[{"text": "a", "start": [1], "end": 2}]', "segment 1: the start is '[1]'"),
    ],
)
def test_wrong_json_is_refused(fails, text: str, words: str):
    fails(text, words, suffix=".json")


def test_half_a_character_in_json_is_replaced(read):
    assert read('[{"text": "a\\ud800"}]', ".json")[0][0].text == "a?"


def test_txt(read):
    utterances, notes = read("Hi  there\n\n\tBye \n", ".txt", CLIP)
    assert said(utterances) == [("speaker", "Hi there"), ("speaker", "Bye")]
    assert {u.clip for u in utterances} == {None}
    assert notes == ("film.txt has no times, so that film.mp4 cannot be divided and only the texts are used",)
    (only,), notes = read("Hi", ".TXT", CLIP)
    assert (only.clip, only.start, notes) == (CLIP, None, ())


# The order of time, ids, and files that are broken.


def test_overlapping_utterances_are_kept(read):
    utterances, notes = read("start,end,text\n0,9,a\n1,2,b\n3,4,c\n9,10,d\n", ".csv")
    assert spans(utterances) == [(0, 9), (1, 2), (3, 4), (9, 10)]
    assert notes == ("2 utterances began before an earlier one had ended; both were kept (line 3, line 4)",)


def test_utterances_are_sorted_by_time(read):
    text = "start,end,text,speaker\n5,6,d,Ana\n,,e,\n0,1,a,Ben\n,,b,\n1,2,c,\n"
    utterances, notes = read(text, ".csv")
    assert said(utterances) == [("Ben", "a"), ("Ben", "b"), ("Ben", "c"), ("Ana", "d"), ("Ana", "e")]
    assert [u.id for u in utterances] == ["utt0", "utt1", "utt2", "utt3", "utt4"]
    assert "the utterances were not in the order of time and were sorted" in notes


def test_times_before_the_start_are_set_to_0(read):
    utterances, notes = read(srt("a", "b", "c").replace("00:00:00,000", "-00:00:01,000"))
    assert spans(utterances)[0] == (0, 2)
    assert notes == ("1 utterance had times before the start of the recording, which were set to 0 (line 2)",)
    utterances, notes = read("start,end,text\n-2,-1,a\n0,1,b\n", ".csv")
    assert spans(utterances) == [(None, None), (0, 1)]
    assert len(notes) == 2


def test_an_utterance_that_ends_before_it_starts_is_text_alone(read):
    utterances, notes = read("start,end,text\n4,5,c\n3,2,b\n1,1,a\n", ".csv", CLIP)
    assert [(u.text, u.start, u.end, u.clip) for u in utterances] == [
        ("a", None, None, None), ("b", None, None, None), ("c", 4, 5, CLIP),
    ]  # fmt: skip
    assert "2 utterances did not end after the start and were read as text alone (line 4, line 3)" in notes
    (only,), _ = read("start,end,text\n1,1,a\n", ".csv", CLIP)
    assert only.clip is None  # its part of the clip is not known, and the whole would be too much


def test_an_utterance_without_text_is_kept_if_it_has_times(read, fails):
    utterances, notes = read("start,end,text\n0,1,\n,,b\n2,1,\n3,4,<i></i>\n", ".csv")
    assert [u.text for u in utterances] == ["", "b", "<i></i>"]  # a table holds no markup
    assert "1 utterance had neither text nor usable times and was left out (line 4)" in notes
    assert [u.text for u in read(srt("<i></i>", "b"))[0]] == ["", "b"]
    fails("start,end,text\n2,1,\n", "no utterance has text or usable times", suffix=".csv")
    fails('[{"text": ""}]', "no utterance has text or usable times", suffix=".json")


@pytest.mark.parametrize(
    ("ids", "note"),
    [
        ("aba", "the ids of the file repeat (a), so that the utterances are numbered instead"),
        ("a c", "the ids of the file are not given for all utterances, so that the utterances are numbered instead"),
    ],
)
def test_ids_that_cannot_be_used_are_replaced(read, ids: str, note: str):
    utterances, notes = read("utterance,text\n" + "".join(f"{name.strip()},Hi\n" for name in ids), ".csv")
    assert [u.id for u in utterances] == ["utt0", "utt1", "utt2"]
    assert note in notes


def test_encodings(read):
    text = srt("Où ça? – “Là”")
    for encoded in (text.encode("utf-8-sig"), text.encode("utf-16"), b"\xfe\xff" + text.encode("utf-16-be")):
        utterances, notes = read(encoded)
        assert (utterances[0].text, notes) == ("Où ça? – “Là”", ())
    utterances, notes = read(text.encode("cp1252"))
    assert utterances[0].text == "Où ça? – “Là”"
    assert notes == ("1 line of film.srt was not UTF-8 and was read as cp1252",)
    utterances, notes = read(srt("It’s a café").encode().decode("cp1252").encode())
    assert utterances[0].text == "It’s a café"
    assert notes == ("1 utterance had characters damaged by cp1252, which were repaired (line 2)",)


@pytest.mark.parametrize("suffix", transcript.SUFFIXES)
def test_what_is_no_transcript_is_refused(fails, tmp_path: Path, suffix: str):
    fails(b"", "is empty", suffix=suffix)
    fails(b"\xef\xbb\xbf \n\n", "is empty", suffix=suffix)
    fails(b"\x00\x00\x00\x20ftypisom\x00\x00", "holds zero bytes", suffix=suffix)
    fails("Hi".encode("utf-16-le"), "holds zero bytes", "UTF-8", suffix=suffix)
    fails(b"\xff\xfe\x00\xd8", "begins as UTF-16 and is not", suffix=suffix)
    with pytest.raises(UserError, match=r"no\..+: cannot be read \(No such file or directory\); give the path"):
        transcript.read(tmp_path / f"no{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(UserError, match=r"folder\..+: cannot be read \(Is a directory\)"):
        transcript.read(tmp_path / f"folder{suffix}")


def test_a_file_without_cues_or_of_another_kind_is_refused(fails):
    fails("Hello\nthere\n", "holds no utterance; expected cues with times such as '00:01:02,500 --> ")
    fails("WEBVTT\n\nNOTE only\n", "holds no utterance", suffix=".vtt")
    fails("Hi", "expected a name that ends in .srt, .vtt, .csv, .tsv, .json, .txt", suffix=".docx")
    fails("Hi", "is no kind of transcript", suffix="")


@pytest.mark.usefixtures("unchecked")  # checking each call's types takes longer than the calls
@pytest.mark.parametrize("suffix", [".srt", ".vtt", ".csv", ".json", ".txt"])
def test_long_transcripts_take_little_time(read, suffix: str):
    count = 10_000
    rows = [(f"{i}.000", f"{i + 1}.000", f"ANA: line {i} <i>x</i>") for i in range(count)]
    clock = [f"{i // 3600:02d}:{i // 60 % 60:02d}:{i % 60:02d},000" for i in range(count + 1)]
    text = {
        ".srt": "".join(f"{i}\n{clock[i]} --> {clock[i + 1]}\n{row[2]}\n\n" for i, row in enumerate(rows)),
        ".csv": "start,end,text\n" + "".join(",".join(row) + "\n" for row in rows),
        ".json": json.dumps([{"start": i, "end": i + 1, "text": row[2]} for i, row in enumerate(rows)]),
        ".txt": "".join(f"{row[2]}\n" for row in rows),
    }
    text[".vtt"] = "WEBVTT\n\n" + text[".srt"].replace(",000", ".000")
    begin = time.process_time()
    utterances, _ = read(text[suffix], suffix)
    assert time.process_time() - begin < 2
    assert len(utterances) == count
    assert utterances[-1].start == (None if suffix == ".txt" else count - 1)


def test_random_bytes_are_read_or_refused(tmp_path: Path):
    chance = random.Random(0)
    pieces = ["1\n", "0:00:01,0 --> 0:00:02,0\n", "-->", "<v A>", "A: ", "\n\n", "NOTE", "WEBVTT\n", "-5", "nan", "é"]
    pieces += [
        "text,start,end\n",
        "start\ttext\n",
        ",",
        "\t",
        '"',
        '[{"text": "a", "start": ',
        "}]",
        "{",
        "}",
        "[",
        "]",
    ]
    outcomes = set()
    for i in range(2000):
        suffix = transcript.SUFFIXES[i % len(transcript.SUFFIXES)]
        file = tmp_path / f"film{suffix}"
        file.write_text("".join(chance.choices(pieces, k=chance.randrange(1, 12))))
        try:
            dialogue, _ = transcript.read(file, clip=CLIP)
        except UserError:
            outcomes.add((suffix, "refused"))
            continue
        outcomes.add((suffix, "read"))
        assert len({u.id for u in dialogue.utterances}) == len(dialogue.utterances) > 0
        for u in dialogue.utterances:
            assert u.speaker
            assert u.text or u.start is not None
            assert (u.start is None) == (u.end is None)
            assert u.start is None or u.end is None or 0 <= u.start < u.end
    assert len(outcomes) > 9
