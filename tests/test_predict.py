"""The command predict on everything that it takes, with a run on texts and sounds."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import reading_runs
from media_files import GREEN, RED, sine, write_clip, write_wav

import jmer
from jmer import predict
from jmer.base import cli
from jmer.base.types import Dialogue, Utterance

SRT = """1
00:00:00,100 --> 00:00:00,900
ADA: This is wonderful!

2
00:00:01,100 --> 00:00:01,900
BEN: No, it is awful.

3
00:00:09,000 --> 00:00:10,000
ADA: Nobody hears this.
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("predict")


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Path:
    return reading_runs.extract_dataset(folder)


@pytest.fixture(scope="module")
def run(dataset: Path, folder: Path) -> Path:
    return reading_runs.train(dataset, folder / "run")


@pytest.fixture(scope="module")
def recording(folder: Path) -> Path:
    path = folder / "clips/talk.mkv"
    path.parent.mkdir()
    tones = np.concatenate([sine(hertz, seconds=1, rate=16_000) for hertz in (300, 2000)])
    return write_clip(path, colours=[RED] * 10 + [GREEN] * 10, fps=10, samples=tones, audio_codec="flac")


@pytest.fixture(scope="module")
def spoken(folder: Path) -> Path:
    (folder / "talk.srt").write_text(SRT)
    return folder / "talk.srt"


def answers(run: Path, *arguments: object, out: Path, code: int = cli.EXIT_OK) -> list[dict]:
    """What the command writes."""
    assert cli.run(predict.main, [f"--workdir={run}", f"--out={out}", *map(str, arguments)]) == code
    return json.loads(out.read_text())["utterances"]


def test_a_recording_with_its_transcript(run, recording, spoken, tmp_path, capsys):
    first, second, late = answers(run, recording, f"--transcript={spoken}", out=tmp_path / "a.json")
    assert [(u["speaker"], u["text"]) for u in (first, second)] == [
        ("ADA", "This is wonderful!"),
        ("BEN", "No, it is awful."),
    ]
    for u in (first, second):
        assert u["modalities"] == ["text", "audio"]
        assert u["status"] == "ok"
        assert sum(u["probs"].values()) == pytest.approx(1)
        assert u["label"] == max(u["probs"], key=u["probs"].get)
    assert late["modalities"] == ["text"]
    assert late["status"] == "degraded"
    assert "begins after the end of the recording" in late["reason"]
    screen = capsys.readouterr()
    assert "ADA" in screen.out
    assert first["label"] in screen.out
    assert "predicting 3 utterances" in screen.err

    # The same from Python, where the parts are clips of their own.
    parts = []
    for i, hertz in enumerate((300, 2000)):
        tone = sine(hertz, seconds=1, rate=16_000)[1600:14_400]
        parts.append(write_wav(tmp_path / f"{i}.wav", tone, rate=16_000))
    found = jmer.load(run).predict([
        {"speaker": "ADA", "text": first["text"], "clip": parts[0]},
        {"speaker": "BEN", "text": second["text"], "clip": parts[1]},
        {"speaker": "ADA", "text": late["text"]},
    ])  # fmt: skip
    for u, p in zip((first, second, late), found, strict=True):
        np.testing.assert_allclose(list(p.probs.values()), list(u["probs"].values()), atol=2e-3)


@pytest.mark.parametrize("suffix", ["csv", "srt", "vtt", "rttm", "TextGrid"])
def test_the_suffix_names_the_format(run, recording, spoken, tmp_path, suffix):
    out = tmp_path / f"talk.{suffix}"
    assert cli.run(predict.main, [str(recording), f"--transcript={spoken}", f"--workdir={run}", f"--out={out}"]) == 0
    assert out.stat().st_size


def test_texts_alone(run, spoken, tmp_path):
    said = answers(run, "--text=I hate this awful day.", "--text=Lovely!", out=tmp_path / "a.json")
    assert [u["text"] for u in said] == ["I hate this awful day.", "Lovely!"]
    assert [u["modalities"] for u in said] == [["text"], ["text"]]
    from_file = answers(run, spoken, out=tmp_path / "b.json")
    assert [(u["start"], u["modalities"]) for u in from_file] == [(0.1, ["text"]), (1.1, ["text"]), (9.0, ["text"])]


def test_a_sound_and_a_folder_of_clips(run, recording, spoken, folder, tmp_path):
    (u,) = answers(run, folder / "d0u0.wav", out=tmp_path / "a.json")
    assert (u["utterance"], u["modalities"], u["text"]) == ("d0u0", ["audio"], "")
    (whole,) = answers(run, recording.parent, out=tmp_path / "b.json")
    assert whole["modalities"] == ["audio"]
    recording.with_suffix(".srt").write_text(SRT)
    assert len(answers(run, recording.parent, out=tmp_path / "c.json")) == 3
    recording.with_suffix(".srt").unlink()


def test_tables_and_splits_without_labels(run, dataset, folder, tmp_path):
    split = answers(run, dataset, "--split=test", out=tmp_path / "a.json")
    with (folder / "table.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    unlabelled = folder / "unlabelled.csv"
    with unlabelled.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["dialogue", "utterance", "speaker", "text", "clip"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    table = answers(run, unlabelled, out=tmp_path / "b.json")
    assert [u["text"] for u in split] == [u["text"] for u in table] == [row["text"] for row in rows]
    for a, b in zip(split, table, strict=True):
        np.testing.assert_allclose(list(a["probs"].values()), list(b["probs"].values()), atol=1e-5)
        assert a["modalities"] == b["modalities"] == ["text", "audio"]


def test_damage_is_reported_and_only_strict_makes_it_an_error(run, folder, tmp_path, capsys):
    words = folder / "words.wav"
    words.write_text("this is no sound\n" * 100)
    table = folder / "damaged.csv"
    table.write_text(f"text,clip\nA lovely day.,{words.name}\n,{words.name}\nFine.,\n")
    for strict, code in (((), cli.EXIT_OK), (("--strict",), cli.EXIT_FAILED_ROWS)):
        answered, silent, fine = answers(run, table, *strict, out=tmp_path / "a.json", code=code)
        assert (answered["status"], answered["modalities"]) == ("degraded", ["text"])
        assert "cannot be opened" in answered["reason"]
        assert (silent["status"], silent["label"], silent["probs"]) == ("failed", "", {})
        assert "nothing to go on" in silent["reason"]
        assert (fine["status"], fine["reason"]) == ("ok", "")
    loaded = jmer.load(run)
    given = [{"text": "Lovely.", "clip": words}, "A lovely day."]
    assert [p.status for p in loaded.predict(given)] == ["degraded", "ok"]
    with pytest.raises(jmer.UserError, match=r"utt0: clip .*words.wav cannot be opened"):
        loaded.predict(given, strict=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is nothing to predict"),
        (["--text=Hi", "--model=runs/x"], "argument --model: invalid choice: 'runs/x'"),
        (["--text=Hi", "--encoders=nowhere"], "the folder of encoders nowhere does not exist"),
        (["--workdir=RUN", "nowhere.mp4"], "nowhere.mp4: is not there; expected a video or a sound"),
        (["--workdir=RUN", "--text=Hi", "--out=x.doc"], "x.doc: is no kind of file that jmer writes"),
        (["--workdir=RUN", "--text=Hi", "--transcript=x.srt"], "--transcript=x.srt belongs to one recording, but 0"),
        (["--workdir=RUN", "table.csv", "--split=test"], "a packed dataset is predicted by itself and needs --split"),
        (["--workdir=RUN", "packed"], "a packed dataset is predicted by itself and needs --split"),
        (["--workdir=RUN", "packed", "--split=held"], "no split 'held'"),
        (["--workdir=nowhere", "--text=Hi"], "nowhere"),
        (["--workdir=RUN", "--text=Hi", "--out=x.srt"], "x.srt: utterance 'utt0' has no times, which .srt needs"),
    ],
)
def test_mistakes(run, dataset, folder, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(folder)
    assert cli.run(predict.main, [word.replace("RUN", "run") for word in arguments]) == cli.EXIT_USER_ERROR
    assert message in capsys.readouterr().err


def test_what_predict_is_given_from_python(run):
    loaded = jmer.load(run)
    (one,) = loaded.predict("A wonderful day.")
    assert (one.text, one.speaker, one.modalities) == ("A wonderful day.", "speaker", ("text",))
    listed = loaded.predict(["A wonderful day.", {"text": "Awful.", "speaker": "Ben"}])
    dialogue = Dialogue(
        id="d",
        utterances=(
            Utterance(id="utt0", speaker="speaker", text="A wonderful day.", label="no label of the run's"),
            Utterance(id="utt1", speaker="Ben", text="Awful."),
        ),
    )
    assert loaded.predict(dialogue) == listed
    several = loaded.predict_all(["A wonderful day.", [], dialogue])
    assert [len(each) for each in several] == [1, 0, 2]
    for a, b in zip(several[2], listed, strict=True):
        np.testing.assert_allclose(list(a.probs.values()), list(b.probs.values()), atol=1e-5)


def test_a_quiet_prediction_says_nothing_but_the_answer(run, capsys):
    for quiet, said in ((False, "predicting 1 utterances\n"), (True, "")):
        assert cli.run(predict.main, [f"--workdir={run}", "--text=Fine.", *["--quiet"] * quiet]) == cli.EXIT_OK
        screen = capsys.readouterr()
        assert "Fine." in screen.out
        assert screen.err.endswith(said) if quiet else said in screen.err
    assert screen.err == ""
    assert "reading" not in screen.err


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (5, "predict was given of type int; expected a text"),
        (None, "predict was given None; expected a text"),
        ({"text": "Hi"}, "put the utterances of a dialogue in a list"),
        ([5], "utterance 0: is of type int; expected a text"),
        ([{"text": 5}], "utterance utt0: text is of type int; expected a string"),
        ([{"text": "Hi", "speaker": 5}], "utterance utt0: speaker is of type int"),
        ([{"clip": 5}], "utterance utt0: clip is of type int; expected the path"),
        ([{"txt": "Hi"}], "utterance utt0: unknown field 'txt'"),
        ([{"text": "Hi", "start": 1.0}], "has only one of start and end"),
        ([{"text": "Hi", "start": 2, "end": 1}], "goes from 2 to 1 s"),
        ([{"text": "Hi", "start": "0", "end": 1}], "start is '0'; expected a finite number"),
        ([{"text": "Hi", "start": float("nan"), "end": 1}], "start is nan; expected a finite number"),
        ([{"text": "Hi", "features": [1.0]}], "features is of type list; expected modality -> vector"),
        ([{"features": {"audio": "loud"}}], "features of audio are no vector of numbers"),
    ],
)
def test_what_is_refused_names_the_field(run, given, message):
    with pytest.raises(jmer.UserError, match=message):
        jmer.load(run).predict(given)
