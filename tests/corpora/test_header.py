"""Columns with usual names, and tables whose cells are not separated by commas."""

import csv
from pathlib import Path

import pytest

from jmer.base.errors import UserError
from jmer.base.types import Utterance
from jmer.corpora import table

CELLS = {
    "dialogue": "d",
    "utterance": "7",
    "speaker": "Ann",
    "label": "sad",
    "split": "train",
    "text": "Hi",
    "sentiment": "neutral",
}


def load(tmp_path: Path, cells: dict[str, str], *, by: str = ",", **columns: str) -> tuple[Utterance, tuple[str, ...]]:
    """Loads a table of one row. Returns the utterance and the notes."""
    path = tmp_path / "mine.csv"
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=by).writerows([cells.keys(), cells.values()])
    corpus = table.load(path, columns=columns)
    return corpus.splits["train"][0].utterances[0], corpus.notes


def named(**names: str) -> dict[str, str]:
    """Returns the file's name of each column of `CELLS` -> the cell."""
    return {names.get(name, name): cell for name, cell in CELLS.items()}


@pytest.mark.parametrize(
    ("name", "usual"),
    [
        ("dialogue", "Dialogue_ID dialog dialog_id conversation conversation_id session video_id DIALOGUE"),
        ("utterance", "Utterance_ID utt_id turn turn_id index Utterance utterance-id"),
        ("speaker", "Speaker speaker_id name"),
        ("label", "Label Emotion emotion_label class target"),
        ("split", "Split set partition subset"),
        ("text", "Text transcript transcription sentence"),
        ("sentiment", "Sentiment"),
    ],
)
def test_usual_names(tmp_path: Path, name: str, usual: str):
    for column in usual.split():
        utterance, notes = load(tmp_path, named(**{name: column}))
        assert utterance == Utterance(id="d_7", speaker="Ann", text="Hi", label="sad", sentiment="neutral")
        assert notes == (f"the column {column} was taken for {name}; --config.columns.{name}=NAME names another",)


@pytest.mark.parametrize(
    "column", ["Clip", "file", "path", "video", "audio", "wav", "filename", "video_path", "audio-path"]
)
def test_usual_names_of_clips(tmp_path: Path, column: str):
    utterance, notes = load(tmp_path, CELLS | {column: "gone.mp4"})
    assert utterance.missing_clip == "gone.mp4"
    assert notes[0] == f"the column {column} was taken for clip; --config.columns.clip=NAME names another"


def test_one_note_for_all_columns(tmp_path: Path):
    _, notes = load(tmp_path, named(label="Emotion", speaker="Speaker"))
    assert notes == (
        "the columns Speaker, Emotion were taken for speaker, label; --config.columns.speaker=NAME names another",
    )


def test_a_name_that_is_given_or_jmers_own_comes_first(tmp_path: Path):
    both = CELLS | {"Emotion": "glad", "class": "mad"}
    assert load(tmp_path, both) == (load(tmp_path, CELLS)[0], ())
    assert load(tmp_path, both, label="Emotion")[0].label == "glad"
    assert load(tmp_path, named(label="Label") | {"Emotion": "glad"})[0].label == "sad", "case does not count"
    assert load(tmp_path, named(dialogue="x"), dialogue="speaker")[0].id == "Ann_7", "one column may be two of jmer's"


def test_two_candidates_are_an_error(tmp_path: Path):
    with pytest.raises(UserError) as caught:
        load(tmp_path, named(label="Emotion") | {"class": "3"})
    assert str(caught.value) == (
        f"{tmp_path / 'mine.csv'}: each of the columns Emotion and class may be the label; say which one is by "
        "--config.columns.label=NAME"
    )
    assert load(tmp_path, named(label="Emotion") | {"class": "3"}, label="class")[0].label == "3"
    clips = CELLS | {"audio": "a.wav", "video": "a.mp4"}
    with pytest.raises(UserError, match=r"audio and video may be the clip.*or --config\.columns\.clip=none if none"):
        load(tmp_path, clips)
    assert load(tmp_path, clips, clip="none")[0].missing_clip == ""
    path = tmp_path / "twice.csv"
    path.write_text("dialogue,utterance,speaker,text,split,Emotion,Emotion\nd,0,Ann,Hi,train,sad,sad\n")
    with pytest.raises(UserError, match="has the column Emotion more than once"):
        table.load(path)


def test_utterance_holds_the_text_where_another_column_holds_the_id(tmp_path: Path):
    meld = named(text="Utterance", utterance="Utterance_ID", dialogue="Dialogue_ID", label="Emotion")
    assert load(tmp_path, {"Sr No.": "1"} | meld | {"StartTime": "00:16:16,059", "EndTime": "00:16:21,731"}) == (
        load(tmp_path, CELLS)[0],
        (
            "the columns Dialogue_ID, Utterance_ID, Emotion, Utterance were taken for dialogue, utterance, label, "
            "text; --config.columns.dialogue=NAME names another",
        ),
    )
    lower = named(text="utterance", utterance="utterance_id")
    assert load(tmp_path, lower)[0] == load(tmp_path, CELLS)[0]
    assert load(tmp_path, named(text="Utterance", utterance="index"))[0].text == "Hi", "a table needs text or clip"
    assert load(tmp_path, lower, text="utterance")[0].id == "d_7"
    own = {name: cell for name, cell in CELLS.items() if name != "text"} | {"clip": "", "utterance_id": "x"}
    assert load(tmp_path, own)[0].id == "d_7", "jmer's own names mean the same as ever"
    with pytest.raises(UserError, match="columns Utterance and Transcript may be the text"):
        load(tmp_path, named(text="Utterance", utterance="Utterance_ID") | {"Transcript": "Ha"})
    with pytest.raises(UserError, match="lacks the column text"):
        load(tmp_path, {name: cell for name, cell in CELLS.items() if name != "text"})

    path = tmp_path / "said.csv"
    path.write_text("Utterance,Speaker\nHi,Ann\n")
    (utterance,) = table.load(path, for_prediction=True).splits["test"][0].utterances
    assert (utterance.id, utterance.text, utterance.speaker) == ("said_1", "Hi", "Ann")


@pytest.mark.parametrize("by", [",", ";", "\t"])
def test_other_delimiters(tmp_path: Path, by: str):
    cells = CELLS | {"text": "Oh, no, no, no"}
    assert load(tmp_path, cells, by=by)[0].text == "Oh, no, no, no"
    crowded = cells | {"a,b,c,d,e,f,g,h,i,j": "x", "a;b;c;d;e;f;g;h;i;j": "x"}
    assert load(tmp_path, crowded, by=by)[0].text == "Oh, no, no, no", "the delimiter that yields jmer's columns"
    renamed = {f"{name},x,y": cell for name, cell in cells.items()}
    assert load(tmp_path, renamed, by=by, **{name: f"{name},x,y" for name in cells})[0].label == "sad"


def test_a_delimiter_that_jmer_does_not_know(tmp_path: Path):
    with pytest.raises(UserError, match="separate the columns by commas, semicolons or tabs"):
        load(tmp_path, CELLS, by="|")
