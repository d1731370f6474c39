"""RAVDESS by its file names."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jmer.base.errors import UserError
from jmer.corpora import ravdess

SHARED = Path(__file__).parents[3] / "shared/datasets/ravdess"


def write(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        soundfile.write(folder / name, np.zeros(800, np.float32), 8000)
    return folder


def test_names_tell_the_emotion_and_the_actor(tmp_path: Path):
    write(tmp_path / "Actor_12", "03-01-06-01-02-01-12.wav", "03-01-01-01-01-02-12.wav", "03-02-03-01-01-01-12.wav")
    write(tmp_path / "Actor_03", "01-01-08-02-01-01-03.wav", "03-01-08-02-01-01-03.wav", "02-01-08-02-01-01-03.wav")
    (tmp_path / "README.txt").write_text("about")
    corpus = ravdess.load(tmp_path)
    assert corpus.labels[:3] == ("neutral", "calm", "happy")
    assert list(corpus.splits) == ["train"]
    found = {d.id: d.utterances[0] for d in corpus.splits["train"]}
    fearful = found["01-06-01-02-01-12"]
    assert (fearful.label, fearful.speaker, fearful.text) == ("fearful", "actor 12", "Dogs are sitting by the door.")
    assert found["01-08-02-01-01-03"].label == "surprised"
    assert found["01-08-02-01-01-03"].clip == tmp_path / "Actor_03/01-01-08-02-01-01-03.wav"  # with sound and picture
    assert len(found) == 3
    assert corpus.notes == (
        "1 files are not named as RAVDESS names its clips, or are no media and are left out",
        "1 files are songs and are left out",
    )


def test_clips_of_an_actor_are_one_dialogue_in_an_order_without_meaning(tmp_path: Path):
    names = [f"03-01-0{e}-01-01-0{r}-0{a}.wav" for e in range(1, 9) for r in (1, 2) for a in (1, 2)]
    corpus = ravdess.load(write(tmp_path, *names), by_actor=True)
    assert [d.id for d in corpus.splits["train"]] == ["actor 01", "actor 02"]
    for dialogue in corpus.splits["train"]:
        labels = [u.label for u in dialogue.utterances]
        assert len(labels) == 16
        assert {u.speaker for u in dialogue.utterances} == {dialogue.id}
        assert sum(a == b for a, b in pairwise(labels)) < 6  # in the order of the names it would be 8


def test_a_folder_without_its_clips_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="holds no clip of RAVDESS's speech, such as 03-01"):
        ravdess.load(write(tmp_path / "other", "song.wav"))
    with pytest.raises(UserError, match="is no folder; expected the folder of RAVDESS's clips"):
        ravdess.load(tmp_path / "missing")


@pytest.mark.skipif(not SHARED.is_dir(), reason="RAVDESS is not here (../shared/datasets/ravdess)")
def test_real_clips():
    corpus = ravdess.load(SHARED / "speech_16k_flac")
    speakers = {u.speaker for d in corpus.splits["train"] for u in d.utterances}
    assert (len(corpus.splits["train"]), len(speakers), corpus.notes) == (1064, 18, ())
