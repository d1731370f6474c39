"""jmer's half of extract_speed.py: `jmer_extract.py JOB.json` runs one measurement and prints one JSON line."""

# ruff: noqa: E402 (the imports are timed)

import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

START = time.perf_counter()

import numpy as np

from jmer.base import jaxsetup
from jmer.base.types import Corpus, Dialogue, Turn, Utterance
from jmer.features import engine, worker
from jmer.features.audio.encoder import HFAudio
from jmer.features.audio.lite import MFCC, LiteAudio, LogMel, Prosody
from jmer.features.cache import Cache
from jmer.features.extractor import Extractor
from jmer.features.text.encoder import HFText
from jmer.features.text.glove import Glove
from jmer.features.text.lite import LiteText, Vader
from jmer.features.video.encoder import HFVideo
from jmer.features.video.lite import LiteVideo
from jmer.media import decoding

EXTRACTORS: dict[str, Any] = {
    cls.__name__: cls
    for cls in (LiteText, Vader, Glove, HFText, LiteAudio, MFCC, LogMel, Prosody, HFAudio, LiteVideo, HFVideo)
}


def main(file: str) -> None:
    jaxsetup.keep_freed_memory()  # as jmer.extract does

    import jax  # not above, as workers import this module and do without

    job = json.loads(Path(file).read_text())
    jax.config.update("jax_enable_compilation_cache", False)  # every measurement compiles
    print(json.dumps(KINDS[job["kind"]](job)))


def extract(job: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs, texts or files, through the engine; all that is compiled has been before the clock starts."""
    extractor = EXTRACTORS[job["cls"]](**job["options"])
    utterances = list(map(utterance, job["inputs"])) if extractor.modality == "text" else list(map(clip, job["inputs"]))
    first: dict[Any, Utterance] = {}
    for each in utterances:
        first.setdefault(group(extractor, each), each)
    start = time.perf_counter()
    run({extractor.modality: extractor}, list(first.values()), workers=0)
    begun, cpu = time.perf_counter(), time.process_time()
    results = run({extractor.modality: extractor}, utterances, workers=job["workers"])
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    failed = [r[extractor.modality].reason for r in results if r[extractor.modality].status == "failed"]
    if failed:
        raise SystemExit(f"{len(failed)} inputs failed; the first one: {failed[0]}")
    vectors = [np.zeros(0) if (v := r[extractor.modality].vector) is None else v for r in results]
    np.save(job["out"], np.stack([v for v in vectors if len(v)]))
    absent = sum(not len(v) for v in vectors)
    return {"start": READY - START + begun - start, "seconds": seconds, "cpu": cpu, "absent": absent}


def idle(job: Mapping[str, Any]) -> dict[str, Any]:
    """How long encoders stand still though a batch is decoded; it listens in on the engine's pool and encoders."""
    events: list[tuple[float, Any, int]] = []  # when, a group, how many payloads joined it
    encoding: list[tuple[float, float]] = []
    extractors = {"audio": HFAudio(model=job["model"], window=job["window"]), "video": LiteVideo()}

    def key(extractor: Extractor, prepared: Any) -> Any:
        return extractor.modality, extractor.group(prepared.payload)

    def decoded(future: Future) -> None:
        now = time.perf_counter()
        for (modality, _), prepared in future.result().items():
            if prepared.payload is not None:
                events.append((now, key(extractors[modality], prepared), 1))

    class Heard(Executor):
        def __init__(self, pool: Executor):
            self.pool = pool
            self.shutdown = pool.shutdown

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future:
            future = self.pool.submit(fn, *args, **kwargs)
            future.add_done_callback(decoded)
            return future

    whole, pool = engine._encode, worker.pool

    def encode(extractor: Extractor, prepared: Sequence[Any], *, exact: bool) -> Any:
        begun = time.perf_counter()
        events.append((begun, key(extractor, prepared[0]), -len(prepared)))
        result = whole(extractor, prepared, exact=exact)
        encoding.append((begun, time.perf_counter()))
        return result

    inputs = [clip(file) for file in job["inputs"]]
    run(extractors, inputs[:1], workers=0)
    engine._encode, worker.pool = encode, lambda workers: Heard(pool(workers))
    begun, cpu = time.perf_counter(), sum(os.times()[:4])
    run(extractors, inputs, workers=job["workers"])
    seconds, cpu = time.perf_counter() - begun, sum(os.times()[:4]) - cpu
    busy = sum(end - start for start, end in encoding)
    still, waiting = 0.0, Counter()
    edges = [(t, (g, n), 0) for t, g, n in events] + [
        (t, None, d) for span in encoding for t, d in zip(span, (1, -1), strict=True)
    ]
    edges.sort(key=lambda edge: edge[0])
    running, before = 0, begun
    for now, joined, change in edges:
        if not running and any(n >= extractors[g[0]].batch(g[1]) for g, n in waiting.items()):
            still += now - before
        if joined:
            waiting[joined[0]] += joined[1]
        running, before = running + change, now
    return {
        "start": begun - START,
        "seconds": seconds,
        "cpu": cpu,
        "busy": busy / seconds,
        "idle": still / (still + busy),
    }


def video(job: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds of clip that are decoded in a second, as a worker does it."""
    total, begun, cpu = 0.0, time.perf_counter(), time.process_time()
    for file in map(Path, job["inputs"]):
        length = decoding.seconds(file)
        frames = job["frames"] or round(25 * length)
        if job["faces"]:
            worker.prepare(file, {"video": LiteVideo(frames=frames)}, max_seconds=None)
        else:
            decoding.decode(file, frames=frames)
        total += length
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    return {"start": begun - START, "seconds": seconds, "cpu": cpu, "length": total}


def faces(job: Mapping[str, Any]) -> dict[str, Any]:
    """Keeps the faces of clips, the input of a vision transformer."""
    extractor = HFVideo(model=job["model"])
    prepared = [worker.prepare(Path(file), {0: extractor}, max_seconds=None)[0].payload for file in job["inputs"]]
    np.savez(job["out"], *(pictures for pictures in prepared if pictures is not None))
    return {}


def vit(job: Mapping[str, Any]) -> dict[str, Any]:
    """Clips' faces through the encoder alone."""
    extractor, payloads = HFVideo(**job["options"]), list(np.load(job["inputs"]).values())
    size = extractor.batch(None)
    extractor.encode(payloads[:size], exact=True)
    begun, cpu = time.perf_counter(), time.process_time()
    found = [e for i in range(0, len(payloads), size) for e in extractor.encode(payloads[i : i + size], exact=True)]
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    np.save(job["out"], np.stack([e.vector for e in found]))
    return {"start": begun - START, "seconds": seconds, "cpu": cpu}


def utterance(text: str) -> Utterance:
    return Utterance(id=text, speaker="", text=text)


def clip(file: str) -> Utterance:
    return Utterance(id=file, speaker="", clip=Path(file))


def group(extractor: Extractor, utterance: Utterance) -> Any:
    if extractor.modality == "text":
        prepared = extractor.prepare([Turn("", utterance.text)])
    else:
        assert utterance.clip is not None
        prepared = worker.prepare(utterance.clip, {0: extractor}, max_seconds=None)[0]
    return None if prepared.payload is None else extractor.group(prepared.payload)


def run(extractors: Mapping[str, Extractor], utterances: Sequence[Utterance], *, workers: int) -> list[Any]:
    """Results, from an empty cache; ten utterances a dialogue."""
    parts = [tuple(utterances[i : i + 10]) for i in range(0, len(utterances), 10)]
    dialogues = tuple(Dialogue(id=str(i), utterances=part) for i, part in enumerate(parts))
    corpus = Corpus(name="speed", labels=(), splits={"test": dialogues})
    digests = {u.clip: worker.digest(u.clip) for u in utterances if u.clip is not None}
    with tempfile.TemporaryDirectory() as folder:
        done = engine.extract(corpus, extractors, digests=digests, cache=Cache(Path(folder)), workers=workers)
        return [result for extraction in done for result in extraction.results]


KINDS: dict[str, Any] = {"extract": extract, "faces": faces, "vit": vit, "video": video, "idle": idle}
READY = time.perf_counter()

if __name__ == "__main__":
    main(sys.argv[1])
