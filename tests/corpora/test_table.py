import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from media_files import RED, sine, write_clip, write_wav

from jmer.base.errors import UserError
from jmer.base.types import Corpus, Utterance
from jmer.corpora import table
from jmer.media import decoding

COLUMNS = "dialogue,utterance,speaker,text,label,split,clip"


def write(tmp_path: Path, *rows: str, header: str = COLUMNS, encoding: str = "utf-8") -> Path:
    path = tmp_path / "mine.csv"
    path.write_bytes("\n".join([header, *rows, ""]).encode(encoding))
    return path


def utterances(corpus: Corpus, split: str = "train") -> list[Utterance]:
    return [entry for dialogue in corpus.splits[split] for entry in dialogue.utterances]


def fails(path: Path, *words: str, labels: Sequence[str] = (), **columns: str) -> None:
    with pytest.raises(UserError) as caught:
        table.load(path, labels=labels, columns=columns)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message, message


def test_reads_rows(tmp_path: Path):
    wav = write_wav(tmp_path / "a.wav", sine(440, seconds=0.2, rate=16_000), rate=16_000)
    (tmp_path / "clips").mkdir()
    video = write_clip(tmp_path / "clips/b.mp4", colours=[RED] * 3)
    corpus = table.load(
        write(
            tmp_path,
            'd1,10,Ann,"Oh, no",sad,train,a.wav',
            f"d1,9,Bob,Yes,glad,train,{video}",
            "d2,x,Ann,,glad,dev,clips/b.mp4",
            "d2,b,Ann,,,dev,",
        )
    )

    assert (corpus.name, corpus.labels, list(corpus.splits), corpus.notes) == (
        "mine",
        ("glad", "sad"),
        ["train", "dev"],
        ("1 of 4 rows have no label; training and scores leave them out",),
    )
    first, second = utterances(corpus)
    assert (first.id, first.clip, first.speaker) == ("d1_9", video, "Bob"), "whole numbers give the order"
    assert (second.id, second.clip, second.text, second.label) == ("d1_10", wav, "Oh, no", "sad")
    third, fourth = utterances(corpus, "dev")
    assert (third.id, third.clip, third.text) == ("d2_x", tmp_path / "clips/b.mp4", ""), "otherwise the file does"
    assert (fourth.clip, fourth.label, fourth.notes) == (None, None, ())


def test_columns_renamed(tmp_path: Path):
    path = write(tmp_path, "sad,d,0,Ann,Hi,train", header="Feeling,dialogue,utterance,speaker,Said,split")

    corpus = table.load(path, columns={"label": "Feeling", "text": "Said"})

    assert (utterances(corpus)[0].label, utterances(corpus)[0].text) == ("sad", "Hi")
    assert corpus.notes == (), "the user knows which columns were named"
    fails(path, "lacks the columns label, text", "found: Feeling, dialogue", "--config.columns.label=NAME")
    fails(path, "lacks the column text", "--config.columns.text=NAME", "text, clip or both", label="Feeling")
    fails(path, "lacks the column Path", "--config.columns.clip=NAME", label="Feeling", text="Said", clip="Path")
    with pytest.raises(UserError, match=r"columns\.emotion: there is no such column; expected one of dialogue"):
        table.load(path, columns={"emotion": "Feeling"})


def test_sentiment_may_be_given(tmp_path: Path):
    header = "dialogue,utterance,speaker,text,label,split"
    rows = [f"d,{i},Ann,Hi,sad,train" for i in range(4)]
    given = ["Positive", "", "NEGATIVE", "neutral"]
    path = write(
        tmp_path, *(f"{row},{cell}" for row, cell in zip(rows, given, strict=True)), header=f"{header},sentiment"
    )
    assert [entry.sentiment for entry in utterances(table.load(path))] == ["positive", None, "negative", "neutral"]

    assert utterances(table.load(write(tmp_path, *rows, header=header)))[0].sentiment is None
    renamed = write(tmp_path, f"{rows[0]},positive", f"{rows[1]},great", header=f"{header},Mood")
    assert utterances(table.load(renamed))[0].sentiment is None, "a column of another name is not looked at"
    fails(renamed, "mine.csv:3", "Mood is 'great'", "expected negative, neutral, positive or nothing", sentiment="Mood")
    fails(renamed, "lacks the column Feeling", "--config.columns.sentiment=NAME", sentiment="Feeling")

    numbers = write(tmp_path, f"{rows[0]},-1.5", header=f"{header},sentiment")
    fails(numbers, "mine.csv:2", "sentiment is '-1.5'", "give --config.columns.sentiment=none")
    assert utterances(table.load(numbers, columns={"sentiment": "none"}))[0].sentiment is None


def test_text_or_clip_may_be_absent(tmp_path: Path):
    write_wav(tmp_path / "a.wav", sine(440, seconds=0.2, rate=16_000), rate=16_000)
    spoken = table.load(write(tmp_path, "d,0,Ann,sad,test,a.wav", header="dialogue,utterance,speaker,label,split,clip"))
    written = table.load(write(tmp_path, "d,0,Ann,sad,test,Hi", header="dialogue,utterance,speaker,label,split,text"))

    assert (utterances(spoken, "test")[0].text, utterances(spoken, "test")[0].clip) == ("", tmp_path / "a.wav")
    assert (utterances(written, "test")[0].text, utterances(written, "test")[0].clip) == ("Hi", None)


def test_required_columns(tmp_path: Path):
    for name in table.REQUIRED:
        header = ",".join(column for column in COLUMNS.split(",") if column != name)
        fails(
            write(tmp_path, "a,b,c,d,e,f", header=header), f"lacks the column {name}", f"--config.columns.{name}=NAME"
        )
    fails(write(tmp_path, "d,0,A,,sad,train,,x", header=f"{COLUMNS},label"), "label more than once")


def test_labels(tmp_path: Path):
    path = write(tmp_path, "d,0,Ann,a,sad,train,", "d,1,Ann,a,,train,", "d,2,Ann,a,glad,train,")

    assert table.load(path).labels == ("glad", "sad")
    assert table.load(path, labels=("sad", "mad", "glad")).labels == ("sad", "mad", "glad")
    fails(path, "mine.csv:4: label 'glad'", "did you mean 'glade'?", labels=("sad", "glade"))
    two = (
        "2 rows are wrong: (1) line 2: label 'sad'",
        "add the label to the set in --config.labels",
        "(2) line 4: label",
    )
    fails(path, *two, labels=("glade", "x"))
    unlabelled = write(tmp_path, "d,0,Ann,a,,train,")
    fails(unlabelled, "no row has a label", "--config.labels")
    assert utterances(table.load(unlabelled, labels=("a", "b")))[0].label is None


def test_labels_that_differ_by_case_or_blanks_are_one(tmp_path: Path):
    cells = ["calm", "Calm", "very  sad", "Calm", "very sad", "VERY SAD", "", "\xa0"]
    path = write(tmp_path, *(f"d,{i},Ann,a,{cell},train," for i, cell in enumerate(cells)))
    corpus = table.load(path)

    assert corpus.labels == ("Calm", "very sad"), "the most frequent spelling"
    assert [entry.label for entry in utterances(corpus)] == ["Calm"] * 2 + ["very sad", "Calm"] + ["very sad"] * 2 + [
        None,
        None,
    ]
    assert corpus.notes == (
        "labels that differ only by case or blanks are one label; jmer takes 'calm' (1 rows) for 'Calm' (2 rows), "
        "'very  sad' (1 rows) for 'very sad' (1 rows), 'VERY SAD' (1 rows) for 'very sad' (1 rows)",
        "2 of 8 rows have no label; training and scores leave them out",
    )

    given = table.load(path, labels=("CALM", "Very sad"))
    assert given.labels == ("CALM", "Very sad")
    assert {entry.label for entry in utterances(given)} == {"CALM", "Very sad", None}
    assert "'Calm' (2 rows) for 'CALM' (0 rows)" in given.notes[0]
    with pytest.raises(UserError, match=r"config\.labels has 'calm' and 'Calm', which are one label"):
        table.load(path, labels=("calm", "very sad", "Calm"))
    with pytest.raises(UserError, match=r"config\.labels has 'calm' and 'calm'"):
        table.load(path, labels=("calm", "very sad", "calm"))
    equally = write(tmp_path, "d,0,Ann,a,calm,train,", "d,1,Ann,a,Calm,train,", "d,2,Ann,a,verysad,train,")
    assert table.load(equally).labels == ("calm", "verysad"), "the first of two spellings"


def test_splits_of_other_names(tmp_path: Path):
    names = ["train", "Train", "TRAINING", "val", "valid", "Validation", "development", "DEV", "test", "val"]
    corpus = table.load(write(tmp_path, *(f"d{i},0,Ann,a,sad,{name}," for i, name in enumerate(names))))

    assert {split: len(dialogues) for split, dialogues in corpus.splits.items()} == {"train": 3, "dev": 6, "test": 1}
    assert corpus.notes == (
        "the column split has other names for splits; jmer takes 1 rows of 'Train' for train, 1 rows of 'TRAINING' for "
        "train, 2 rows of 'val' for dev, 1 rows of 'valid' for dev, 1 rows of 'Validation' for dev, 1 rows of "
        "'development' for dev, 1 rows of 'DEV' for dev",
    )
    fails(write(tmp_path, "d,0,Ann,a,sad,eval,"), "mine.csv:2: split is 'eval'", "train, dev, test (or val, valid")


def test_wrong_cells(tmp_path: Path):
    good = "d,0,Ann,Hi,sad,train,"
    fails(write(tmp_path, good, "d,1,Ann,Hi,sad,held,"), "mine.csv:3", "split is 'held'", "train, dev, test")
    fails(write(tmp_path, good, "d,1,Ann,Hi,sad,,"), "mine.csv:3", "split cell is empty")
    fails(write(tmp_path, good, ",1,Ann,Hi,sad,train,"), "mine.csv:3", "dialogue cell is empty")
    fails(write(tmp_path, good, "d,1,,Hi,sad,train,"), "mine.csv:3", "speaker cell is empty")
    fails(
        write(tmp_path, good, "", "d,0,Ann,Hi,sad,train,"),
        "mine.csv:4",
        "'0' of dialogue 'd' is already at",
        "mine.csv:2",
    )
    fails(write(tmp_path), "no rows")
    fails(tmp_path / "none.csv", "cannot be read")
    fails(tmp_path, "cannot be read")


def test_all_wrong_rows_are_named_at_once(tmp_path: Path):
    rows = ["d,0,Ann,Hi,sad,train,", "d,1,,Hi,sad,held,", *(f"d,{i},Ann,Hi,sad,,," for i in range(2, 9))]
    path = write(tmp_path, *rows, "d,0,Bob,Hi,sad,train,")
    fails(
        path,
        "9 rows are wrong: (1) line 3: the speaker cell is empty; fill it in (2) line 3: split is 'held'",
        "(3) lines 4, 5, 6, 7, 8 and 2 more: the split cell is empty; fill it in",
        "(4) line 11: utterance '0' of dialogue 'd' is already at",
    )

    with pytest.raises(UserError) as caught:
        table.load(write(tmp_path, *["d,0,Ann,Hi,sad,held,", ",0,Ann,Hi,sad,train,"] * 2))
    assert "already" not in str(caught.value), "rows without a split or a dialogue do not repeat each other"

    path = write(tmp_path, *(f"d,{i},Ann,Hi,sad,held{i}," for i in range(20)))
    fails(path, "20 rows are wrong", "(8) line 9: split is 'held7'", "and 12 more faults")


def test_ids_are_unique_where_names_run_together(tmp_path: Path):
    rows = ["a_1,2,Ann,Hi,sad,train,", "a,1_2,Ann,Oh,sad,train,", "a_,1_2,Ann,No,sad,train,", "a,1_2,Ann,Oh,sad,dev,"]
    corpus = table.load(write(tmp_path, *rows))

    assert [entry.id for entry in utterances(corpus)] == ["a_1_2", "a__1_2", "a___1_2"]
    assert [entry.text for entry in utterances(corpus)] == ["Hi", "Oh", "No"]
    assert [entry.id for entry in utterances(corpus, "dev")] == ["a_1_2"]
    fails(write(tmp_path, *rows, rows[1]), "mine.csv:6", "'1_2' of dialogue 'a' is already at", "mine.csv:3")


def test_a_dialogue_name_in_two_splits_is_two_dialogues(tmp_path: Path):
    corpus = table.load(write(tmp_path, "d,0,Ann,Hi,sad,train,", "d,0,Ann,Oh,sad,dev,"))

    assert [len(corpus.splits[split]) for split in ("train", "dev")] == [1, 1]
    assert "1 dialogue names are in more than one split (d)" in corpus.notes[0]


def test_lines_are_counted_through_cells_of_several_lines(tmp_path: Path):
    path = write(tmp_path, 'd,0,Ann,"one\ntwo\nthree",sad,train,', "d,1,Ann,a,sad,nowhere,")
    fails(path, "mine.csv:5:", "nowhere")


def test_clip_missing_is_noted(tmp_path: Path):
    corpus = table.load(write(tmp_path, "d,0,Ann,Hi,sad,train,gone.mp4", "d,1,Ann,Hi,sad,train,"))

    assert [entry.clip for entry in utterances(corpus)] == [None, None]
    assert [entry.missing_clip for entry in utterances(corpus)] == ["gone.mp4", ""]
    assert corpus.notes == ("1 of 1 clips are missing",)


def test_clip_that_is_no_media_is_left_for_extraction(tmp_path: Path):
    contents = (b"Dear diary,\n" * 99, b"\x89PNG\r\n\x1a\n" + bytes(99), b"%PDF-1.7\n" + bytes(99), b"")
    for i, content in enumerate(contents):
        (tmp_path / f"{i}.mp4").write_bytes(content)
        with pytest.raises(decoding.MediaError, match=r"cannot be opened|holds no video and no audio"):
            decoding.decode(tmp_path / f"{i}.mp4", frames=0)  # which gives the row its reason
    wav = write_wav(tmp_path / "a.wav", sine(440, seconds=0.2, rate=16_000), rate=16_000)
    rows = [f"d,{i},Ann,Hi,sad,train,{i}.mp4" for i in range(4)]
    corpus = table.load(write(tmp_path, *rows, "d,4,Ann,Hi,sad,train,a.wav"))

    assert [entry.clip for entry in utterances(corpus)] == [*(tmp_path / f"{i}.mp4" for i in range(4)), wav]
    assert corpus.notes == (
        "4 clips are neither video nor audio (0.mp4, 1.mp4, 2.mp4, 3.mp4); their rows keep text and label, and lack "
        "audio and video",
    )


def test_clip_that_is_no_file_is_missing(tmp_path: Path):
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    rows = ["d,0,Ann,Hi,sad,train,folder.mp4", "d,1,Ann,Hi,sad,train,pipe.mp4", "d,2,Ann,Hi,sad,train,gone.mp4"]
    corpus = table.load(write(tmp_path, *rows))

    assert [(entry.clip, entry.missing_clip, entry.notes) for entry in utterances(corpus)] == [
        (None, "folder.mp4", ("the clip is a folder or a device and no file",)),
        (None, "pipe.mp4", ("the clip is a folder or a device and no file",)),
        (None, "gone.mp4", ()),
    ]
    assert corpus.notes == (
        "1 of 3 clips are missing",
        "2 clips are folders or devices and no files (folder.mp4, pipe.mp4); their rows keep text and label, and lack "
        "audio and video",
    )


def test_clip_that_cannot_be_read_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    long = ("long " * 99).strip()
    wav = write_wav(tmp_path / "a.wav", sine(440, seconds=0.2, rate=16_000), rate=16_000)
    broken = write_wav(tmp_path / "broken.wav", sine(440, seconds=0.2, rate=16_000), rate=16_000)
    is_media = decoding.is_media

    def fail(path: Path) -> bool:
        if path == broken:
            raise OSError(5, "Input/output error")
        return is_media(path)

    monkeypatch.setattr(decoding, "is_media", fail)
    rows = [f"d,{i},Ann,Hi,sad,train,{clip}" for i, clip in enumerate([long, "broken.wav", "a.wav"])]
    corpus = table.load(write(tmp_path, *rows))

    first, second, third = utterances(corpus)
    assert (first.clip, first.missing_clip, first.notes) == (
        None,
        long,
        ("the clip cannot be read (File name too long)",),
    )
    assert (second.clip, second.missing_clip) == (None, "broken.wav")
    assert second.notes == ("the clip cannot be read (Input/output error)",)
    assert (third.clip, third.notes) == (wav, ())
    assert len(corpus.notes) == 2
    assert "1 clips cannot be read (Input/output error) (broken.wav)" in corpus.notes[1]


def test_clip_of_many_rows_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.mp4").write_bytes(b"")
    looked = []
    monkeypatch.setattr(decoding, "is_media", lambda path: bool(looked.append(path)))
    corpus = table.load(write(tmp_path, *(f"d,{i},Ann,Hi,sad,train,a.mp4" for i in range(5))))

    assert looked == [tmp_path / "a.mp4"]
    assert "1 clips are neither video nor audio (a.mp4)" in corpus.notes[0]


def test_times(tmp_path: Path):
    header = f"{COLUMNS},start,end"
    row = "d,{},Ann,Hi,sad,train,,{},{}"
    good = [
        ("0", "1.5"),
        ("01:02.5", "00:01:03.250"),
        ('"62,5"', '"1:02,75"'),
        ("90:00", "1:30:01"),
        ("", ""),
        ("1e-05", "1"),
    ]
    path = write(tmp_path, *(row.format(i, *times) for i, times in enumerate(good)), header=header)
    assert [(entry.start, entry.end) for entry in utterances(table.load(path))] == [
        (0, 1.5),
        (62.5, 63.25),
        (62.5, 62.75),
        (5400, 5401),
        (None, None),
        (1e-05, 1),
    ]
    assert utterances(table.load(path, columns={"start": "none"}))[0].end is None

    for start, end, message in [
        ("1", "", "only one of start and end is given; fill in both or none"),
        ("", "1", "only one of start and end is given"),
        ("2", "2", "start is '2' and end is '2'; expected an end after the start"),
        ("2", "1", "start is '2' and end is '1'; expected an end after"),
        ("-1", "2", "start is '-1'; expected seconds from the start of the clip, or [HH:]MM:SS.mmm"),
        ("0", "nan", "end is 'nan'; expected seconds"),
        ("0", "inf", "end is 'inf'; expected seconds"),
        ("0", "1e999", "end is '1e999'; expected seconds"),
        ("0", "soon", "end is 'soon'; expected seconds"),
        ("0", "1:75", "end is '1:75'; expected seconds"),
        ("0", "1:75:00", "end is '1:75:00'; expected seconds"),
    ]:
        fails(write(tmp_path, row.format(0, start, end), header=header), f"mine.csv:2: {message}")

    lone = table.load(write(tmp_path, "d,0,Ann,Hi,sad,train,,soon", header=f"{COLUMNS},end"))
    assert (utterances(lone)[0].start, utterances(lone)[0].end) == (None, None)
    assert lone.notes == ("the column end is not read, since no column is read as the start",)
    fails(
        write(tmp_path, "d,0,Ann,Hi,sad,train,,0", header=f"{COLUMNS},from"), "give --config.columns.end", start="from"
    )


def test_table_for_prediction(tmp_path: Path):
    corpus = table.load(write(tmp_path, "Hi", "Oh no", header="text"), for_prediction=True)

    assert (corpus.labels, list(corpus.splits)) == ((), ["test"])
    (dialogue,) = corpus.splits["test"]
    assert dialogue.id == "mine"
    assert [(entry.id, entry.speaker, entry.text, entry.label) for entry in dialogue.utterances] == [
        ("mine_1", "speaker", "Hi", None),
        ("mine_2", "speaker", "Oh no", None),
    ]
    assert corpus.notes == (
        "there is no column dialogue, so all rows are one dialogue",
        "there is no column utterance, so the rows are numbered",
        "there is no column speaker, so one person speaks in all rows",
    )
    with pytest.raises(UserError, match=r"lacks the column text .*a table needs text, clip or both"):
        table.load(write(tmp_path, "Ann,0", header="speaker,mood"), for_prediction=True)


def test_table_for_prediction_may_have_every_column(tmp_path: Path):
    rows = ["d,1,Ann,Hi,sad,train,,0,1", "d,0,Bob,Oh,,,,1,2", "d,1,Ann,Ah,glad,other,,2,3"]
    corpus = table.load(write(tmp_path, *rows, header=f"{COLUMNS},start,end"), for_prediction=True)

    assert [[entry.text for entry in dialogue.utterances] for dialogue in corpus.splits["test"]] == [
        ["Hi"],
        ["Oh"],
        ["Ah"],
    ]
    assert [entry.id for entry in utterances(corpus, "test")] == ["d_1", "d_0", "d__1"]
    assert [entry.label for entry in utterances(corpus, "test")] == ["sad", None, "glad"]
    assert [entry.end for entry in utterances(corpus, "test")] == [1, 2, 3]
    assert corpus.labels == ("glad", "sad")
    assert len(corpus.notes) == 1
    assert "more than one split" in corpus.notes[0]


def test_damaged_clip_is_left_for_extraction(tmp_path: Path):
    clip = write_clip(tmp_path / "a.mp4", colours=[RED] * 25)
    clip.write_bytes(clip.read_bytes()[:200])
    corpus = table.load(write(tmp_path, "d,0,Ann,Hi,sad,train,a.mp4"))
    assert utterances(corpus)[0].clip == clip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_encodings(tmp_path: Path, encoding: str):
    corpus = table.load(write(tmp_path, "d,0,Zoë,it’s…,gênée,train,", encoding=encoding))

    (entry,) = utterances(corpus)
    assert (entry.speaker, entry.text, entry.label) == ("Zoë", "it’s…", "gênée")
    assert corpus.notes == (
        ("1 lines of mine.csv are not UTF-8 and were read as cp1252",) if encoding == "cp1252" else ()
    )


def test_damaged_text_is_repaired_but_not_paths(tmp_path: Path):
    wav = write_wav(tmp_path / "itâ€™s.wav", sine(440, seconds=0.2, rate=16_000), rate=16_000)
    corpus = table.load(write(tmp_path, "d,0,Ann,itâ€™s,sad,train,itâ€™s.wav"))

    assert utterances(corpus)[0].text == "it’s"
    assert utterances(corpus)[0].clip == wav
    assert corpus.notes == ("characters damaged by cp1252 were repaired in 1 rows",)


def test_ravdess_audio(shared: Path, tmp_path: Path):
    clips = sorted((shared / "datasets/ravdess/speech_16k_flac").glob("*-0[1-3].flac"))
    rows = [f"{clip.stem},0,{clip.stem[-2:]},,{clip.stem[6:8]},train,{clip}" for clip in clips]
    entries = utterances(table.load(write(tmp_path, *rows)))

    assert [entry.clip for entry in entries] == clips
    assert len({entry.label for entry in entries}) == 8


def test_numbers_of_thousands_of_digits_are_names(tmp_path: Path):
    """Python reads no whole number of more than 4,300 digits."""
    long = "1" * 5000
    corpus = table.load(write(tmp_path, f"a,{long},x,hi,glad,train,", "a,1,x,oh,glad,train,"))
    assert [u.text for u in utterances(corpus)] == ["hi", "oh"]
    header = f"{COLUMNS},start,end"
    fails(
        write(tmp_path, f"a,1,x,hi,glad,train,,{long}:00,{long}:01", header=header), "expected seconds from the start"
    )
