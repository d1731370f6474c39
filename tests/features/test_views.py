"""Augmented views through the engine: which there are, what differs, and that nothing but the content decides."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import fakes
import numpy as np
import pytest
from extractions import NoPool, extract, flat, same, write_clip

from jmer.base.types import Corpus, Dialogue, Turn, Utterance
from jmer.features import engine, perturb
from jmer.features.extractor import Encoded, Extractor
from jmer.features.views import AudioView, TextView, views_of

LEXICON = {"glad": ("happy",), "happy": ("glad",)}


@dataclass(frozen=True, kw_only=True)
class Order(fakes.Letters):
    """A figure that any change of the text changes; in batches of 5, which run over dialogues."""

    kind = "order"

    def encode(self, payloads: Sequence[str], *, exact: bool = False) -> list[Encoded]:
        figures = [[sum(i * ord(c) for i, c in enumerate(text, 1)), len(text)] for text in payloads]
        return [Encoded(vector) for vector in np.array(figures, np.float32)]


EXTRACTORS: dict[str, Extractor] = {"text": Order(), "audio": fakes.Loudness(), "video": fakes.Colour()}


def views(count: int, *, seed: int = 0, lexicon: perturb.Lexicon = LEXICON) -> list[dict[str, Extractor]]:
    return views_of(EXTRACTORS, count=count, seed=seed, lexicon=lexicon)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clip(folder / "whole.mp4")
    write_clip(folder / "sound.wav", pictures=False)
    write_clip(folder / "mute.mp4", sound=False)
    write_clip(folder / "dev.mp4", seconds=1.5)
    (folder / "words.mp4").write_text("this is no clip\n" * 100)
    return folder


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Corpus:
    def turn(name: str, text: str = "", clip: str = "", **given) -> Utterance:
        return Utterance(id=name, speaker="a", text=text, clip=folder / clip if clip else None, **given)

    train = (
        turn("whole", "I am so glad to see you again", "whole.mp4"),
        turn("silent", "", "sound.wav"),
        turn("spoken", "Well, well, what have we here"),
        turn("mute", "Say something please", "mute.mp4"),
        turn("ready", "This one came with its features", features={"audio": np.array([7.0, 8.0, 9.0])}),
        turn("broken", "Whatever happened to this clip", "words.mp4"),
        turn("single", "Stop"),
    )
    dev = (turn("dev", "Nobody is ever augmented here", "dev.mp4"),)
    dialogues = {"train": (train[:3], train[3:]), "dev": (dev,)}
    return Corpus(
        name="c",
        labels=(),
        splits={
            split: tuple(Dialogue(id=f"{split}{i}", utterances=turns) for i, turns in enumerate(each))
            for split, each in dialogues.items()
        },
    )


@pytest.fixture(scope="module")
def everything(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[engine.Extraction], Path]:
    """Two views through two workers, and the cache that this filled."""
    root = tmp_path_factory.mktemp("cache")
    return extract(corpus, root, EXTRACTORS, views=views(2), workers=2), root


@pytest.fixture
def no_pool(monkeypatch: pytest.MonkeyPatch) -> NoPool:
    pool = NoPool()
    monkeypatch.setattr(engine.worker, "pool", lambda workers: pool)
    return pool


def vectors(extractions: list[engine.Extraction], name: str, modality: str) -> list[list[float] | None]:
    """Of the original and both views."""
    found = [flat(extractions, view=view)[name][modality].vector for view in range(3)]
    return [None if vector is None else vector.tolist() for vector in found]


def test_only_train_has_views_in_its_order(corpus: Corpus, everything):
    extractions, _ = everything
    for extraction in extractions:
        assert len(extraction.views) == (2 if extraction.split == "train" else 0)
        assert all(len(view) == len(extraction.dialogue.utterances) for view in extraction.views)
    assert [(e.split, e.dialogue) for e in extractions] == [(s, d) for s, ds in corpus.splits.items() for d in ds]


def test_text_and_audio_differ_and_video_does_not(everything):
    extractions, _ = everything
    for name, modality in [("whole", "text"), ("whole", "audio"), ("silent", "audio"), ("spoken", "text")]:
        original, first, second = vectors(extractions, name, modality)
        assert original != first != second != original
    for name, modality in [("whole", "video"), ("mute", "video"), ("ready", "audio"), ("single", "text")]:
        original, first, second = vectors(extractions, name, modality)
        assert original == first == second
        assert original is not None
    for name, modality in [("silent", "text"), ("spoken", "audio"), ("mute", "audio"), ("broken", "audio")]:
        assert vectors(extractions, name, modality) == [None] * 3
        results = {flat(extractions, view=view)[name][modality] for view in range(3)}
        assert len(results) == 1, "with the same status and reason"


def test_workers_of_views_do_without_jax(everything):
    extractions, _ = everything
    for vector in vectors(extractions, "whole", "audio"):
        assert vector is not None
        assert not vector[2]


def test_what_a_view_sees_is_the_augmented_input(everything):
    extractions, _ = everything
    view, text = views(2)[1]["text"], "I am so glad to see you again"
    payload = view.prepare([Turn("a", text)]).payload
    assert payload != text
    assert vectors(extractions, "whole", "text")[2] == Order().encode([payload])[0].vector.tolist()


def test_number_of_workers_changes_nothing(corpus: Corpus, everything, no_pool: NoPool, tmp_path: Path):
    extractions, _ = everything
    again = extract(corpus, tmp_path, EXTRACTORS, views=views(2))
    for name in flat(again, view=1):
        for modality in EXTRACTORS:
            for one, other in zip(vectors(extractions, name, modality), vectors(again, name, modality), strict=True):
                # The third of audio tells about the process.
                assert one == other or (modality == "audio" and one and other and one[:2] == other[:2])


def test_views_and_originals_share_a_cache_and_never_mix(corpus: Corpus, everything, no_pool: NoPool):
    extractions, root = everything
    for count in (2, 0, 1):
        again = extract(corpus, root, EXTRACTORS, views=views(count))
        for view in range(count + 1):
            assert same(flat(again, view=view), flat(extractions, view=view))
    assert no_pool.clips == ["words.mp4"] * 3, "only what cannot be read is tried again"
    # With another seed the views are others, and the originals are still there.
    no_pool.clips.clear()
    other = extract(corpus, root, EXTRACTORS, views=views(1, seed=1))
    assert sorted(no_pool.clips) == ["mute.mp4", "sound.wav", "whole.mp4", "words.mp4"]
    assert same(flat(other), flat(extractions))
    assert not same(flat(other, view=1), flat(extractions, view=1))


def test_clip_is_decoded_once_for_all(corpus: Corpus, no_pool: NoPool, tmp_path: Path):
    extract(corpus, tmp_path, EXTRACTORS, views=views(3))
    named = [u.clip.name for ds in corpus.splits.values() for d in ds for u in d.utterances if u.clip]
    assert no_pool.clips == named


def test_interrupted_run_goes_on_where_it_was(corpus: Corpus, no_pool: NoPool, tmp_path: Path):
    unbroken = extract(corpus, tmp_path / "unbroken", EXTRACTORS, views=views(2))
    for limit in (6, 16):
        done = 0

        def interrupt(count: int, limit: int = limit) -> None:
            nonlocal done
            done += count
            if done > limit:
                raise KeyboardInterrupt

        root = tmp_path / f"cache{limit}"
        with pytest.raises(KeyboardInterrupt):
            extract(corpus, root, EXTRACTORS, views=views(2), progress=interrupt)
        kept = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
        again = extract(corpus, root, EXTRACTORS, views=views(2))
        for view in range(3):
            assert same(flat(again, view=view), flat(unbroken, view=view))
        assert all(path.stat().st_mtime_ns == at for path, at in kept.items())


def test_progress_counts_every_feature(corpus: Corpus, no_pool: NoPool, tmp_path: Path):
    counts: list[int] = []
    extract(corpus, tmp_path, EXTRACTORS, views=views(2), progress=counts.append)
    assert sum(counts) == 8 * 3 + 7 * 2 * 2


def test_fingerprint_tells_views_apart(monkeypatch: pytest.MonkeyPatch):
    audio, text = fakes.Loudness(), fakes.Letters()
    view = TextView(base=text, number=1, lexicon=LEXICON)
    different = [
        text,
        audio,
        view,
        replace(view, number=2),
        replace(view, seed=1),
        replace(view, lexicon={"glad": ("merry",), "merry": ("glad",)}),
        replace(view, base=Order()),
        AudioView(base=audio, number=1),
        AudioView(base=audio, number=2),
        AudioView(base=fakes.Loudness(scale=2.0), number=1),
    ]
    fingerprints = [extractor.fingerprint for extractor in different]
    assert len(set(fingerprints)) == len(different)
    assert TextView(base=fakes.Letters(), number=1, lexicon=dict(LEXICON)).fingerprint == view.fingerprint
    assert (view.dim, view.lookahead, view.modality) == (text.dim, text.lookahead, "text")
    monkeypatch.setattr(perturb, "PARAMETERS", {"audio": {"rate": (0.5, 2.0)}, "text": {"share": 0.1}})
    assert AudioView(base=audio, number=1).fingerprint not in fingerprints


def test_modalities_without_views():
    assert [set(view) for view in views_of({"video": fakes.Colour()}, count=2, seed=0, lexicon={})] == [set(), set()]
    assert set(views_of({"audio": fakes.Loudness()}, count=1, seed=0, lexicon={})[0]) == {"audio"}
