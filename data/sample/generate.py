"""Makes jmer's sample corpus: tables like MELD's and small clips of talking heads, all synthetic.

Words, voice and face each show which group of emotions an utterance belongs to, and each groups the emotions otherwise.
Any two of them together therefore tell the emotion.

    python data/sample/generate.py [--out DIR]

The script needs the command `espeak-ng` (Debian, Ubuntu: `apt install espeak-ng`; macOS: `brew install espeak-ng`).
With the same versions of espeak-ng, numpy, OpenCV and PyAV it writes the same bytes. The tables depend on no version.
"""

import argparse
import csv
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import face
import numpy as np
import script
import voice

SEED = 2020
CLIP_FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
COLUMNS = (
    "Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID", "Season", "Episode",
    "StartTime", "EndTime",
)  # fmt: skip
FRAME_RATE = 1 / Fraction(script.SECONDS_A_FRAME).limit_denominator(1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write into")
    out = parser.parse_args().out
    voice.check()
    cv2.setNumThreads(1)
    lines = script.write(SEED)
    check_folder(out, lines)
    write_tables(out, lines)
    for number, line in enumerate(lines, start=1):
        write_clip(clip_path(out, line), line)
        print(f"\r{number}/{len(lines)} clips", end="", flush=True)
    print()


def check_folder(out: Path, lines: Sequence[script.Line]) -> None:
    """Ends the program if `out` holds clips of another corpus, such as MELD's own. Nothing has been written then."""
    kept = {clip_path(out, line) for line in lines}
    for folder in CLIP_FOLDERS.values():
        for path in sorted((out / folder).glob("*")):
            if path not in kept:
                raise SystemExit(f"{path} is no clip of the sample corpus; remove it or give another folder as --out")


def clip_path(out: Path, line: script.Line) -> Path:
    return out / CLIP_FOLDERS[line.split] / f"{line.name}.mp4"


def write_tables(out: Path, lines: Sequence[script.Line]) -> None:
    """Writes a table with MELD's columns for each split."""
    out.mkdir(parents=True, exist_ok=True)
    for split in CLIP_FOLDERS:
        with (out / f"{split}_sent_emo.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for number, line in enumerate((line for line in lines if line.split == split), start=1):
                times = (_clock(line.start), _clock(line.start + line.seconds))
                who = (line.text, line.speaker, line.emotion, line.sentiment, line.dialogue, line.utterance)
                writer.writerow((number, *who, 1, line.dialogue + 1, *times))


def write_clip(path: Path, line: script.Line) -> None:
    """Writes one clip: H.264 4:2:0 and AAC mono."""
    rng = np.random.default_rng([SEED, *line.split.encode(), line.dialogue, line.utterance])
    wave = voice.speak(
        line.text,
        speaker=line.speaker,
        emotion=line.emotion,
        weak=line.weak == "audio",
        seconds=line.seconds,
        rng=rng,
    )
    count = round(line.seconds / script.SECONDS_A_FRAME)
    energy = np.sqrt(np.mean(wave[: len(wave) // count * count].reshape(count, -1) ** 2, axis=1))
    images = face.frames(
        speaker=line.speaker,
        emotion=line.emotion,
        weak=line.weak == "video",
        energy=energy / energy.max(),
        rng=rng,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    _encode(path, images, wave)


def _encode(path: Path, images: np.ndarray, wave: np.ndarray) -> None:
    """Encodes a clip. images: `[F, SIZE, SIZE, 3]` uint8 RGB. wave: `[T]` float32."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=FRAME_RATE)
        video.width, video.height, video.pix_fmt = face.SIZE, face.SIZE, "yuv420p"
        # With several threads, the decisions of x264 and thus the bytes would depend on the machine.
        video.options = {"crf": "28", "preset": "slower", "threads": "1", "g": "250"}
        sound = container.add_stream("aac", rate=voice.SAMPLE_RATE, layout="mono")
        sound.bit_rate = 24_000
        for image in images:
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate = voice.SAMPLE_RATE
        container.mux(sound.encode(frame))
        for stream in (video, sound):
            container.mux(stream.encode())


def _clock(seconds: float) -> str:
    """Formats a time as MELD does: `00:20:57,256`."""
    millis = round(seconds * 1000)
    return f"{millis // 3_600_000:02}:{millis // 60_000 % 60:02}:{millis // 1000 % 60:02},{millis % 1000:03}"


if __name__ == "__main__":
    main()
