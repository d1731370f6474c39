from collections.abc import Sequence
from pathlib import Path

import pytest
from media_files import RED, sine, write_clip, write_wav

from jmer.base.errors import UserError
from jmer.base.types import Corpus, Utterance
from jmer.corpora import table

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
        (),
    )
    first, second = utterances(corpus)
    assert (first.id, first.clip, first.speaker) == ("d1_9", video, "Bob"), "whole numbers give the order"
    assert (second.id, second.clip, second.text, second.label) == ("d1_10", wav, "Oh, no", "sad")
    third, fourth = utterances(corpus, "dev")
    assert (third.id, third.clip, third.text) == ("d2_x", tmp_path / "clips/b.mp4", ""), "otherwise the file does"
    assert (fourth.clip, fourth.label, fourth.notes) == (None, None, ())


def test_columns_renamed(tmp_path: Path):
    path = write(tmp_path, "sad,d,0,Ann,Hi,train", header="Emotion,dialogue,utterance,speaker,Said,split")

    corpus = table.load(path, columns={"label": "Emotion", "text": "Said"})

    assert (utterances(corpus)[0].label, utterances(corpus)[0].text) == ("sad", "Hi")
    fails(path, "lacks the columns label, text", "found: Emotion, dialogue", "--config.columns.label=NAME")
    fails(path, "lacks the column text", "--config.columns.text=NAME", "text, clip or both", label="Emotion")
    fails(path, "lacks the column Path", "--config.columns.clip=NAME", label="Emotion", text="Said", clip="Path")
    with pytest.raises(UserError, match=r"columns\.emotion: there is no such column; expected one of dialogue"):
        table.load(path, columns={"emotion": "Emotion"})


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
    fails(path, "mine.csv:2: label 'sad'", "add the label to the set in --config.labels", labels=("glade", "x"))
    unlabelled = write(tmp_path, "d,0,Ann,a,,train,")
    fails(unlabelled, "no row has a label", "--config.labels")
    assert utterances(table.load(unlabelled, labels=("a", "b")))[0].label is None


def test_wrong_cells(tmp_path: Path):
    good = "d,0,Ann,Hi,sad,train,"
    fails(write(tmp_path, good, "d,1,Ann,Hi,sad,valid,"), "mine.csv:3", "split is 'valid'", "train, dev, test")
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


def test_clip_that_is_none(tmp_path: Path):
    path = write(tmp_path, "d,0,Ann,Hi,sad,train,a.mp4")
    for content in (b"Dear diary,\n" * 99, b"\x89PNG\r\n\x1a\n" + bytes(99), b"%PDF-1.7\n" + bytes(99), b""):
        (tmp_path / "a.mp4").write_bytes(content)
        fails(path, "mine.csv:2", str(tmp_path / "a.mp4"), "no video and no audio", "correct the path")
    (tmp_path / "a.mp4").unlink()
    (tmp_path / "a.mp4").mkdir()
    fails(path, "mine.csv:2", "no video and no audio")


def test_clip_that_cannot_be_a_path(tmp_path: Path):
    fails(write(tmp_path, f"d,0,Ann,Hi,sad,train,{'long ' * 99}"), "mine.csv:2", "cannot be read", "too long")


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
