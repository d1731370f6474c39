"""Clips, and runs of the extraction engine on them."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import av
import fakes
import numpy as np

from jmer.base.types import SAMPLE_RATE, Corpus, Extracted
from jmer.features import engine, worker
from jmer.features.cache import Cache
from jmer.features.extractor import Extractor

EXTRACTORS: dict[str, Extractor] = {"text": fakes.Letters(), "audio": fakes.Loudness(), "video": fakes.Colour()}


def write_clip(path: Path, *, sound: bool = True, pictures: bool = True, seconds: float = 1.0) -> Path:
    rng = np.random.default_rng(len(path.name))
    shades = np.linspace(0, 255, round(10 * seconds)) if pictures else ()
    samples = rng.integers(-9000, 9000, (1, round(SAMPLE_RATE * seconds))).astype(np.int16)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10) if pictures else None
        audio = (
            container.add_stream("pcm_s16le" if path.suffix == ".wav" else "aac", rate=SAMPLE_RATE) if sound else None
        )
        if video is not None:
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            for shade in shades:
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), shade, np.uint8))
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        if audio is not None:
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate = SAMPLE_RATE
            container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def extract(
    corpus: Corpus, root: Path, extractors=EXTRACTORS, *, workers: int = 1, **kwargs
) -> list[engine.Extraction]:
    paths = {u.clip for ds in corpus.splits.values() for d in ds for u in d.utterances if u.clip}
    digests = {path: worker.digest(path) for path in paths}
    return list(engine.extract(corpus, extractors, digests=digests, cache=Cache(root), workers=workers, **kwargs))


def flat(extractions: list[engine.Extraction], *, view: int = 0) -> dict[str, dict[str, Extracted]]:
    """By utterance, the results of a view, or of the original as view 0."""
    chosen = [(e.dialogue.utterances, (e.results, *e.views)[view]) for e in extractions if view <= len(e.views)]
    pairs = [zip(utterances, results, strict=True) for utterances, results in chosen]
    return {u.id: dict(results) for pair in pairs for u, results in pair}


def same(a: dict[str, dict[str, Extracted]], b: dict[str, dict[str, Extracted]]) -> bool:
    def key(results):
        return {
            name: {m: (None if e.vector is None else e.vector.tobytes(), e.status, e.reason) for m, e in result.items()}
            for name, result in results.items()
        }

    return key(a) == key(b)


class NoPool:
    """In place of worker processes: works when the result is asked for, and counts."""

    def __init__(self):
        self.clips: list[str] = []

    def submit(self, function: Callable, clip: Path, *args, **kwargs) -> Future:
        self.clips.append(clip.name)
        future: Future = Future()
        future.set_result(function(clip, *args, **kwargs))
        return future

    def shutdown(self, **_):
        pass
