"""Clips and texts with every fault, a row each, through one extraction: statuses, reasons, masks and features."""

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import sine, write_clip, write_wav
from scipy import signal

from jmer import extract
from jmer.base import cli
from jmer.base.types import MODALITIES
from jmer.dataset import store
from jmer.features import worker
from jmer.features.audio import lite
from jmer.media import decoding

RATES = (8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000)
CHANNELS = (1, 2, 3, 6)  # mono to 5.1
PROSODY = slice(-len(lite.PROSODY), None)
NO_FACE = "video: no face found in 4 frames"

# utterance -> clip, text, modalities present, status, reason
ROWS: dict[str, tuple[str, str, str, str, str]] = {
    "whole": ("talking.mp4", "hello", "text audio video", "ok", ""),
    "no sound": ("mute.mp4", "hello", "text video", "degraded", "audio: no audio track"),
    "no picture": ("blind.mp4", "hello", "text audio", "degraded", "video: no video track"),
    "no face": ("plain.mp4", "hello", "text audio", "degraded", NO_FACE),
    "no face, no sound": ("plain_mute.mp4", "hello", "text", "degraded", f"audio: no audio track; {NO_FACE}"),
    "one frame": ("still.mp4", "hello", "text audio video", "ok", ""),
    "5 ms": ("blip.wav", "hello", "text", "degraded", "audio: 5.0 ms of sound, less than one window of 32 ms"),
    "silence": ("silence.wav", "hello", "text audio", "ok", ""),
    "cut off": ("cut.mp4", "hello", "text", "failed", "audio, video: cannot be opened: Invalid data found"),
    "gone": ("gone.mp4", "hello", "text", "failed", "clip missing: gone.mp4"),
    "no text": ("talking.mp4", "", "audio video", "ok", ""),
    "blank text": ("talking.mp4", " \t ", "audio video", "ok", ""),
    "no clip": ("", "hello", "text", "ok", ""),
    "nothing": ("", "", "", "failed", "nothing to extract"),
    "emoji": ("", "😂", "text", "ok", ""),
    "emoji and words": ("", "no way 😂❤️🏳️‍🌈", "text", "ok", ""),
    "intact": ("", "It’s café… “fine”", "text", "ok", ""),
    "cp1252 read as UTF-8": ("", "Itâ€™s cafÃ©â€¦ â€œfineâ€\x9d", "text", "ok", ""),
    "cp1252 controls": ("", "It\x92s café\x85 \x93fine\x94", "text", "ok", ""),
    "cp1252 bytes": ("", "It’s café… “fine”", "text", "ok", ""),
    **{f"{r} {c}": (f"{r}_{c}.wav", "hello", "text audio", "ok", "") for r in RATES for c in CHANNELS},
}


def tracks(source: Path, path: Path, *kinds: str, pictures: int | None = None) -> None:
    """Copies the tracks of these kinds, of the video no more than so many packets."""
    with av.open(str(source)) as given, av.open(str(path), "w") as container:
        streams = {s: container.add_stream_from_template(s) for s in given.streams if s.type in kinds}
        packets = [packet for packet in given.demux(*streams) if packet.size]
        video = [packet for packet in packets if packet.stream.type == "video"][:pictures]
        for packet in packets:
            if packet.stream.type != "video" or packet in video:
                packet.stream = streams[packet.stream]
                container.mux(packet)


@pytest.fixture(scope="module")
def folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    talking = root / "data/sample/train_splits/dia0_utt0.mp4"
    whole = talking.read_bytes()
    (folder / "talking.mp4").write_bytes(whole)
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    tracks(talking, folder / "mute.mp4", "video")
    tracks(talking, folder / "blind.mp4", "audio")
    tracks(talking, folder / "still.mp4", "video", "audio", pictures=1)
    tone = sine(300, seconds=1, rate=16_000)
    write_clip(folder / "plain.mp4", colours=[(90, 90, 90)] * 25, samples=tone)
    write_clip(folder / "plain_mute.mp4", colours=[(90, 90, 90)] * 25)
    write_wav(folder / "blip.wav", tone[:80], rate=16_000)
    write_wav(folder / "silence.wav", 0 * tone, rate=16_000)
    speech = decoding.decode(talking, frames=0).wave
    assert speech is not None
    low = signal.sosfiltfilt(signal.butter(12, 3_300, fs=16_000, output="sos"), speech)  # what 8 kHz can hold
    for rate in RATES:
        sound = signal.resample_poly(low, rate, 16_000)
        for channels in CHANNELS:
            write_wav(folder / f"{rate}_{channels}.wav", np.tile(sound, (channels, 1)), rate=rate)
    return folder


@pytest.fixture(scope="module")
def dataset(folder: Path, root: Path) -> store.Dataset:
    table = folder / "mine.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["dialogue", "utterance", "speaker", "text", "label", "split", "clip"])
        for i, (name, (clip, text, *_)) in enumerate(ROWS.items()):
            writer.writerow([i // 4, name, "ab"[i % 2], text, ("joy", "anger")[i % 2], "train", clip])
    lines = table.read_bytes().splitlines(keepends=True)
    table.write_bytes(b"".join(x.decode().encode("cp1252") if b",cp1252 bytes," in x else x for x in lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "pool", lambda workers: ThreadPoolExecutor(1))  # processes take seconds to start
        arguments = {"source": "table", "root": table, "out": folder / "out", "cache": folder / "cache"}
        fields = [f"--config.{name}={value}" for name, value in (arguments | {"video.frames": 4}).items()]
        assert cli.run(extract.main, [f"--config={root / 'configs/extract/lite.py'}", *fields]) == 0
    return store.load(folder / "out")


@pytest.fixture(scope="module")
def features(dataset: store.Dataset) -> dict[str, dict[str, np.ndarray | None]]:
    """utterance -> modality -> `[D]`, None where masked."""
    return {
        name.partition("_")[2]: {m: d.values[m][i] if d.present[m][i] else None for m in MODALITIES}
        for d in dataset.split("train")
        for i, name in enumerate(d.utterance_ids)
    }


@pytest.mark.parametrize("name", ROWS)
def test_row(dataset: store.Dataset, features, name: str):
    *_, present, status, reason = ROWS[name]
    (row,) = (row for row in dataset.manifest["rows"] if row["utterance"].partition("_")[2] == name)
    assert row["status"] == status
    assert row["reason"].startswith(reason)
    assert bool(row["reason"]) == bool(reason)
    found = {m: vector for m, vector in features[name].items() if vector is not None}
    assert " ".join(found) == present
    for vector in found.values():
        assert np.isfinite(vector).all()
        assert vector.any(), "zeros that pretend"


def test_labels_stay_and_what_is_masked_is_zero(dataset: store.Dataset):
    assert dataset.labels == ("anger", "joy")
    i = 0
    for dialogue in dataset.split("train"):
        assert dialogue.labels.tolist() == [(i + j + 1) % 2 for j in range(len(dialogue))]
        i += len(dialogue)
        for modality in MODALITIES:
            assert not dialogue.values[modality][~dialogue.present[modality]].any()
    assert i == len(ROWS)


def test_damaged_texts_are_as_the_intact_one(features):
    damaged = [name for name in ROWS if name.startswith("cp1252")]
    assert len(damaged) == 3
    for name in damaged:
        np.testing.assert_array_equal(features[name]["text"], features["intact"]["text"])
    assert (features["emoji"]["text"] != features["emoji and words"]["text"]).any()


def test_the_same_sound_at_any_rate_and_in_any_channels_has_the_same_features(features):
    expected = features["16000 1"]["audio"]
    for rate in RATES:
        for channels in CHANNELS:
            vector = features[f"{rate} {channels}"]["audio"]
            np.testing.assert_allclose(vector, expected, rtol=0, atol=1)
            np.testing.assert_allclose(vector[PROSODY], expected[PROSODY], rtol=0, atol=0.01)
    # What that is worth: without its upper half, the sound itself is far away.
    assert np.abs(features["whole"]["audio"] - expected).max() > 50
