"""Tests the sample corpus: its tables, its clips, and that its generator still makes them."""

import csv
import importlib
import itertools
import shutil
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from jmer.base.labels import MELD_EMOTIONS, SENTIMENTS

COLUMNS = [
    *("Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID", "Season", "Episode"),
    *("StartTime", "EndTime"),
]
CLIP_FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
MODULES = ("generate", "script", "phrases", "voice", "face")

Rows = dict[str, list[dict[str, str]]]


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    return root / "data" / "sample"


def read_tables(folder: Path) -> Rows:
    tables = {}
    for split in CLIP_FOLDERS:
        with (folder / f"{split}_sent_emo.csv").open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            tables[split] = list(reader)
            assert reader.fieldnames == COLUMNS
    return tables


@pytest.fixture(scope="module")
def rows(folder: Path) -> Rows:
    return read_tables(folder)


@pytest.fixture(scope="module")
def clips(folder: Path, rows: Rows) -> dict[Path, dict[str, str]]:
    """Returns the row of every clip that must exist."""
    return {
        folder / CLIP_FOLDERS[split] / f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}.mp4": row
        for split, table in rows.items()
        for row in table
    }


@pytest.fixture
def generator(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Imports the generator's modules from their folder, which is no package, and forgets them after the test."""
    monkeypatch.syspath_prepend(str(folder))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    modules = {name: importlib.import_module(name) for name in MODULES}
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name)
    return modules


def seconds(row: dict[str, str]) -> float:
    start, end = (datetime.strptime(row[key], "%H:%M:%S,%f") for key in ("StartTime", "EndTime"))
    return (end - start).total_seconds()


def decode(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with av.open(str(path)) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    with av.open(str(path)) as container:
        wave = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    return frames, wave


def test_splits_are_complete_and_disjoint(rows: Rows):
    dialogues = {split: {row["Dialogue_ID"] for row in table} for split, table in rows.items()}
    assert {split: len(ids) for split, ids in dialogues.items()} == {"train": 24, "dev": 6, "test": 10}
    assert {split: len(table) for split, table in rows.items()} == {"train": 190, "dev": 52, "test": 70}
    everything = [row for table in rows.values() for row in table]
    texts = Counter(row["Utterance"] for row in everything)
    assert texts.most_common(1)[0][1] == 1
    assert not [text for text in texts if "{" in text or not text[0].isupper() or text[-1] not in ".!?"]
    assert len({row["Speaker"] for row in everything}) >= 6
    for split, table in rows.items():
        assert dialogues[split] == {str(i) for i in range(len(dialogues[split]))}
        assert [row["Sr No."] for row in table] == [str(i + 1) for i in range(len(table))]
        counts = Counter(row["Emotion"] for row in table)
        assert set(counts) == set(MELD_EMOTIONS)
        assert counts.most_common(1)[0][0] == "neutral"
        assert min(counts.values()) >= (14 if split == "train" else 5)
        assert {row["Sentiment"] for row in table} == set(SENTIMENTS)


def test_dialogues_are_conversations(rows: Rows):
    for table in rows.values():
        for _, group in itertools.groupby(table, key=lambda row: row["Dialogue_ID"]):
            dialogue = list(group)
            assert 3 <= len(dialogue) <= 12
            assert [row["Utterance_ID"] for row in dialogue] == [str(i) for i in range(len(dialogue))]
            assert 2 <= len({row["Speaker"] for row in dialogue}) <= 4
            ends = ["00:00:00,000", *(row["EndTime"] for row in dialogue)]
            assert all(end <= row["StartTime"] < row["EndTime"] for end, row in zip(ends, dialogue, strict=False))


def test_every_row_has_its_clip_and_no_clip_is_stray(folder: Path, clips: dict[Path, dict[str, str]]):
    assert set(folder.rglob("*.mp4")) == set(clips)
    size = sum(
        path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.parent.name != "__pycache__"
    )
    assert size <= 8_000_000


def test_clips_are_h264_and_aac_and_last_as_long_as_the_tables_say(clips: dict[Path, dict[str, str]]):
    for path, row in clips.items():
        with av.open(str(path)) as container:
            streams = [(stream.type, stream.codec_context.name) for stream in container.streams]
            assert sorted(streams) == [("audio", "aac"), ("video", "h264")], path
            assert container.streams.video[0].codec_context.pix_fmt == "yuv420p", path
            assert container.streams.audio[0].codec_context.layout.name == "mono", path
            for stream in container.streams:
                assert stream.duration is not None
                assert stream.time_base is not None
                assert float(stream.duration * stream.time_base) == pytest.approx(seconds(row), abs=0.2), path


def test_a_plain_haar_cascade_finds_one_face(clips: dict[Path, dict[str, str]]):
    cascade = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"))
    found = []
    for path, row in itertools.islice(clips.items(), 0, None, 2):  # the middle frame of every other clip
        middle = round(seconds(row) * 12.5 / 2)
        with av.open(str(path)) as container:
            image = next(itertools.islice(container.decode(video=0), middle, None)).to_ndarray(format="gray")
        smallest = min(image.shape) // 6
        faces = cascade.detectMultiScale(image, scaleFactor=1.1, minNeighbors=5, minSize=(smallest, smallest))
        found.append(len(faces) == 1)
    assert np.mean(found) >= 0.95


def test_any_two_emotions_are_told_apart_by_two_modalities_and_all_by_none(generator: dict[str, Any]):
    cues = (generator["phrases"].GROUP, generator["voice"].PROSODY, generator["face"].EXPRESSION)
    for first, second in itertools.combinations(MELD_EMOTIONS, 2):
        assert sum(cue[first] != cue[second] for cue in cues) >= 2, (first, second)
    for cue in cues:
        assert len({repr(cue[emotion]) for emotion in MELD_EMOTIONS}) == 4


def test_readme_says_what_it_is(folder: Path):
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for words in ("Synthetic, with planted cues", "no evidence of anything", "Apache-2.0", "generate.py"):
        assert words in readme


def test_generator_reproduces_the_tables(generator: dict[str, Any], rows: Rows, tmp_path: Path):
    generate = generator["generate"]
    generate.write_tables(tmp_path, generator["script"].write(generate.SEED))
    assert read_tables(tmp_path) == rows


def test_generator_reproduces_a_clip(generator: dict[str, Any], folder: Path, tmp_path: Path):
    if not shutil.which("espeak-ng"):
        pytest.skip("needs the espeak-ng command (apt install espeak-ng)")
    generate = generator["generate"]
    line = generator["script"].write(generate.SEED)[2]
    made, kept = generate.clip_path(tmp_path, line), generate.clip_path(folder, line)
    generate.write_clip(made, line)
    # Other versions of espeak-ng or of the encoders may give other bytes, but the same face and equally loud speech.
    (frames, wave), (frames_kept, wave_kept) = decode(made), decode(kept)
    assert frames.shape == frames_kept.shape
    assert np.abs(frames.astype(float) - frames_kept).mean() < 3
    assert len(wave) == pytest.approx(len(wave_kept), abs=2048)
    assert np.sqrt(np.mean(wave**2)) == pytest.approx(np.sqrt(np.mean(wave_kept**2)), rel=0.1)


def test_generator_leaves_a_folder_of_other_clips_alone(generator: dict[str, Any], tmp_path: Path):
    lines = generator["script"].write(1)[:3]
    other = tmp_path / "train_splits" / "dia900_utt0.mp4"
    generator["generate"].check_folder(tmp_path, lines)
    other.parent.mkdir()
    other.touch()
    with pytest.raises(SystemExit, match="dia900_utt0"):
        generator["generate"].check_folder(tmp_path, lines)


def test_generator_says_how_to_get_the_synthesiser(generator: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match="apt install espeak-ng"):
        generator["voice"].check()
