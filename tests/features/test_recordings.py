"""Utterances that are parts of one recording: the same in the pool, in this process and from the cache."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import fakes
import numpy as np
import pytest
from extractions import NoPool, extract
from media_files import BLUE, GREEN, RED, write_clip

from jmer.base.types import Corpus, Dialogue, Extracted, Utterance
from jmer.dataset.build import Recipe
from jmer.features import engine, worker
from jmer.features.results import row_of

EXTRACTORS = {"text": fakes.Letters(), "audio": fakes.Loudness(), "video": fakes.Colour()}
TIMES = [(0.1, 0.9), (1.1, 1.9), (0.5, 1.5), (2.1, 2.9), (7.0, 8.0)]


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    levels = np.repeat(np.array([0.1, 0.2, 0.4], np.float32), 16_000)
    noise = np.random.default_rng(0).choice([-1, 1], size=len(levels)).astype(np.float32)
    path = tmp_path_factory.mktemp("recordings") / "three.mkv"
    return write_clip(
        path, colours=[RED] * 10 + [GREEN] * 10 + [BLUE] * 10, fps=10, samples=levels * noise, audio_codec="flac"
    )


@pytest.fixture(scope="module")
def dialogue(recording: Path, tmp_path_factory) -> Dialogue:
    """Five parts of a recording, a part of another file that is no clip, and a whole clip."""
    words = tmp_path_factory.mktemp("words") / "words.mp4"
    words.write_text("this is no clip\n" * 100)
    given = [
        *(
            Utterance(id=f"u{i}", speaker="a", text=f"cue {i}", clip=recording, start=start, end=end)
            for i, (start, end) in enumerate(TIMES)
        ),
        Utterance(id="words", speaker="a", text="a cue", clip=words, start=0.0, end=1.0),
        Utterance(id="whole", speaker="a", text="all of it", clip=recording),
    ]
    return Dialogue(id="d", utterances=tuple(given))


def values(results: Mapping[str, Extracted]) -> dict:
    return {m: None if r.vector is None else r.vector[:2].tolist() for m, r in results.items()}


def test_parts_are_cut_at_their_times(dialogue: Dialogue):
    results = engine.results_of(dialogue, EXTRACTORS)
    expected = [(0.1, 0), (0.2, 1), (None, None), (0.4, 2)]
    for found, (level, colour) in zip(results, expected, strict=False):
        audio, video = found["audio"].vector, found["video"].vector
        assert audio is not None
        assert video is not None
        assert audio[1] == pytest.approx(16_000 if level is None else 12_800, abs=2)
        if level is not None:
            assert audio[0] == pytest.approx(level, rel=0.02)
            assert int(np.argmax(video)) == colour
    rows = [row_of(u, r) for u, r in zip(dialogue.utterances, results, strict=True)]
    assert [status for status, _ in rows] == ["ok"] * 4 + ["failed", "failed", "ok"]
    assert "begins after the end of the recording" in rows[4][1]
    assert "cannot be opened" in rows[5][1]
    assert all(r["text"].vector is not None for r in results)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_pool_and_the_cache_give_the_same(dialogue: Dialogue, tmp_path: Path, monkeypatch, workers: int):
    later = replace(dialogue, id="later", utterances=dialogue.utterances[1:3])
    corpus = Corpus(name="c", labels=("joy",), splits={"train": (dialogue, later)})
    passes = []
    monkeypatch.setattr(
        worker.cutting, "cut", lambda *a, real=worker.cutting.cut, **k: passes.append(a) or real(*a, **k)
    )
    found = extract(corpus, tmp_path, workers=workers, extractors=EXTRACTORS)
    alone = engine.results_of(dialogue, EXTRACTORS)
    for extraction, results in zip(found, (alone, alone[1:3]), strict=True):
        assert list(map(values, extraction.results)) == list(map(values, results))
    if not workers:
        assert len(passes) == 5, "each recording once a dialogue: two files and one, and two files alone"
    pool = NoPool()
    monkeypatch.setattr(engine.worker, "pool", lambda workers: pool)
    cached = [Dialogue(id="d", utterances=dialogue.utterances[:4])]
    again = extract(replace(corpus, splits={"train": tuple(cached)}), tmp_path, workers=2, extractors=EXTRACTORS)
    assert list(map(values, again[0].results)) == list(map(values, alone[:4]))
    moved = replace(dialogue.utterances[0], end=0.8)
    other = replace(corpus, splits={"train": (Dialogue(id="d", utterances=(moved,)),)})
    assert not pool.clips
    extract(other, tmp_path, workers=2, extractors=EXTRACTORS)
    assert pool.clips, "other times are other features, which the cache does not have"


def test_a_long_recording_is_encoded_as_it_goes_on(recording: Path, monkeypatch):
    """No more payloads wait for their encoder than it looks ahead."""
    most = []
    encode = engine._encode
    monkeypatch.setattr(
        engine,
        "_encode",
        lambda extractor, items, *, exact: most.append(len(items)) or encode(extractor, items, exact=exact),
    )
    utterances = [
        Utterance(id=f"u{i}", speaker="a", clip=recording, start=0.01 * i, end=0.01 * i + 0.2) for i in range(20)
    ]
    engine.results_of(Dialogue(id="d", utterances=tuple(utterances)), {"video": fakes.Colour()})
    assert max(most) == fakes.Colour.lookahead
    assert sum(most) == 20


def test_other_times_are_another_dataset(dialogue: Dialogue):
    def hashed(utterance: Utterance) -> str:
        corpus = Corpus(name="c", labels=("joy",), splits={"train": (Dialogue(id="d", utterances=(utterance,)),)})
        return Recipe(corpus=corpus, extractors={}, views=(), digests={}).sha256

    first = dialogue.utterances[0]
    assert hashed(first) == hashed(replace(first))
    assert hashed(first) != hashed(replace(first, end=0.8))
