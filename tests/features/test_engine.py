"""The extraction engine: order, row statuses, cache, interruption, bounds, and the same values in process."""

import shutil
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from extractions import EXTRACTORS, NoPool, extract, flat, same, write_clip

from jmer.base.errors import UserError
from jmer.base.types import UNLABELLED, Corpus, Dialogue, Media, Utterance
from jmer.features import engine, worker
from jmer.features.cache import Cache
from jmer.features.extractor import Prepared
from jmer.features.results import features_of, row_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clip(folder / "good.mp4")
    write_clip(folder / "other.mp4", seconds=2.0)
    write_clip(folder / "mute.mp4", sound=False)
    write_clip(folder / "blind.mp4", pictures=False)
    write_clip(folder / "sound.wav", pictures=False)
    write_clip(folder / "long.mp4", seconds=30.0)
    (folder / "words.mp4").write_text("this is no clip\n" * 100)
    (folder / "cut.mp4").write_bytes((folder / "other.mp4").read_bytes()[:-3000])
    return folder


# utterance -> modalities present, status, reason
CASES: dict[str, tuple[dict, str, str, str]] = {
    "whole": ({"clip": "good.mp4"}, "text audio video", "ok", ""),
    "no-text": ({"clip": "other.mp4", "text": " "}, "audio video", "ok", ""),
    "only-text": ({}, "text", "ok", ""),
    "sound": ({"clip": "sound.wav"}, "text audio", "ok", ""),
    "mute": ({"clip": "mute.mp4"}, "text video", "degraded", "audio: no audio track"),
    "blind": ({"clip": "blind.mp4"}, "text audio", "degraded", "video: no video track"),
    "miscut": (
        {"clip": "long.mp4", "max_seconds": 14.0},
        "text",
        "degraded",
        "audio, video: mis-cut clip: lasts 30.1 s where the utterance lasts at most 14.0 s",
    ),
    "not-miscut": ({"clip": "long.mp4", "max_seconds": 60.0}, "text audio video", "ok", ""),
    "words": ({"clip": "words.mp4"}, "text", "failed", "audio, video: cannot be opened"),
    "cut": ({"clip": "cut.mp4"}, "text", "failed", "audio, video: cannot be opened"),
    "gone": ({"clip": "gone.mp4"}, "text", "failed", "audio, video: cannot be opened: No such file"),
    "noted": ({"missing_clip": "x.mp4"}, "text", "failed", "clip missing: x.mp4"),
    "times": (
        {"clip": "good.mp4", "notes": ("ends before it starts",)},
        "text audio video",
        "ok",
        "ends before it starts",
    ),
    "cut-text": ({"text": "LONG"}, "text", "degraded", "text: text cut"),
    "nothing": ({"text": "", "notes": ("odd times",)}, "", "failed", "odd times; nothing to extract"),
    "ready": ({"features": {"audio": np.array([7, 8, 9])}, "clip": "good.mp4"}, "text audio video", "ok", ""),
    "only-ready": ({"features": {"video": np.ones(3)}, "text": ""}, "video", "ok", ""),
}


def utterance(name: str, folder: Path) -> Utterance:
    given: dict[str, Any] = {"text": f"{name} says something"} | CASES[name][0]
    if "clip" in given:
        given["clip"] = folder / given["clip"]
    return Utterance(id=name, speaker="a", label="joy", **given)


def corpus_of(utterances: list[Utterance], *, per_dialogue: int = 4) -> Corpus:
    dialogues = [
        Dialogue(id=f"d{i}", utterances=tuple(utterances[i : i + per_dialogue]))
        for i in range(0, len(utterances), per_dialogue)
    ]
    return Corpus(
        name="c", labels=("anger", "joy"), splits={"train": tuple(dialogues[:-1]), "dev": tuple(dialogues[-1:])}
    )


@pytest.fixture(scope="module")
def everything(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """All cases through the pool, with the cache that this filled."""
    root = tmp_path_factory.mktemp("cache")
    corpus = corpus_of([utterance(name, folder) for name in CASES])
    return corpus, extract(corpus, root, workers=2), root


def test_dialogues_come_in_order(everything):
    corpus, extractions, _ = everything
    expected = [(split, dialogue) for split, dialogues in corpus.splits.items() for dialogue in dialogues]
    assert [(e.split, e.dialogue) for e in extractions] == expected


@pytest.mark.parametrize("name", CASES)
def test_row_status_and_reason(everything, name: str):
    _, extractions, _ = everything
    _, present, status, reason = CASES[name]
    results = flat(extractions)[name]
    assert " ".join(m for m in ("text", "audio", "video") if results[m].vector is not None) == present
    given = next(u for e in extractions for u in e.dialogue.utterances if u.id == name)
    got_status, got_reason = row_of(given, results)
    assert got_status == status
    assert got_reason.startswith(reason)
    assert bool(got_reason) == bool(reason)
    assert "\n" not in got_reason
    assert str(given.clip) not in got_reason


def test_workers_do_without_jax(everything):
    _, extractions, _ = everything
    for name in ("whole", "sound"):
        vector = flat(extractions)[name]["audio"].vector
        assert vector is not None
        assert not vector[2]


def test_ready_features_come_first(everything):
    _, extractions, _ = everything
    vector = flat(extractions)["ready"]["audio"].vector
    assert vector is not None
    np.testing.assert_array_equal(vector, np.array([7, 8, 9], np.float32))
    assert vector.dtype == np.float32


def test_one_dialogue_in_process_gives_the_same(everything, folder: Path):
    _, extractions, _ = everything
    names = [name for name in CASES if CASES[name][2] != "failed"]
    features = engine.extract_dialogue(
        Dialogue(id="d", utterances=tuple(utterance(name, folder) for name in names)), EXTRACTORS, labels=("joy",)
    )
    assert features.utterance_ids == tuple(names)
    assert features.labels.tolist() == [0] * len(names)
    pooled = flat(extractions)
    for i, name in enumerate(names):
        for modality in EXTRACTORS:
            expected = pooled[name][modality].vector
            assert features.present[modality][i] == (expected is not None)
            got = features.values[modality][i]
            if modality == "audio" and expected is not None and name != "ready":
                got, expected = got[:2], expected[:2]  # the third tells about the process
            np.testing.assert_allclose(got, 0 if expected is None else expected, rtol=1e-6)


def test_prediction_refuses_an_unreadable_clip(folder: Path):
    with pytest.raises(UserError, match=r"d words: .*words.mp4 cannot be opened.*; give a video"):
        engine.extract_dialogue(Dialogue(id="d", utterances=(utterance("words", folder),)), EXTRACTORS)


def test_ready_features_alone_need_no_extractor():
    dialogue = Dialogue(
        id="d",
        utterances=(
            Utterance(id="u0", speaker="a", features={"audio": np.ones(7)}),
            Utterance(id="u1", speaker="b", text="hi there"),
        ),
    )
    features = engine.extract_dialogue(dialogue, {"text": fakes.Letters()}, dims={"audio": 7})
    assert features.values["audio"].tolist() == [[1.0] * 7, [0.0] * 7]
    assert features.present["audio"].tolist() == [True, False]
    assert features.present["text"].tolist() == [False, True]
    assert features.labels.tolist() == [UNLABELLED] * 2


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"audio": np.ones(4)}, r"d u: ready audio features have shape \[4\]; expected \[3\]"),
        ({"audio": np.array([1, np.nan, 2])}, "all finite"),
        ({"video": np.ones(4)}, "d u: ready video features, but video is not used"),
    ],
)
def test_ready_features_that_do_not_fit(features: dict, message: str):
    dialogue = Dialogue(id="d", utterances=(Utterance(id="u", speaker="a", features=features),))
    with pytest.raises(UserError, match=message):
        engine.extract_dialogue(dialogue, {"audio": fakes.Loudness()})


@pytest.mark.parametrize(
    ("decoded", "expected"),
    [
        (
            Media(wave=np.ones(900, np.float32), frames=None, seconds=1, damage="3 packets could not be decoded"),
            {
                "audio": (True, "degraded", "3 packets could not be decoded"),
                "video": (False, "degraded", "3 packets could not be decoded; no video track"),
            },
        ),
        (
            Media(wave=np.ones(0, np.float32), frames=None, seconds=0, sound_only=True),
            {"audio": (False, "degraded", "no audio track"), "video": (False, "ok", "sound only")},
        ),
    ],
)
def test_damage_found_while_decoding(decoded: Media, expected: dict, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker.decoding, "decode", lambda *_, **__: decoded)
    tracks = {m: e for m, e in EXTRACTORS.items() if m != "text"}
    prepared = worker.prepare(Path("x"), tracks, max_seconds=None)
    assert {m: (p.payload is not None, p.status, p.reason) for m, p in prepared.items()} == expected


def test_unknown_label_is_named():
    dialogue = Dialogue(id="d", utterances=(Utterance(id="u", speaker="a", text="x", label="jog"),))
    with pytest.raises(UserError, match="d u: label 'jog' is not in the set"):
        engine.extract_dialogue(dialogue, {"text": fakes.Letters()}, labels=("anger", "joy"))


def test_features_that_are_not_finite_are_absent(folder: Path):
    dialogue = Dialogue(id="d", utterances=(utterance("whole", folder),))
    features = engine.extract_dialogue(dialogue, {"audio": fakes.Nan()}, labels=("joy",))
    assert not features.present["audio"].any()
    assert not features.values["audio"].any()


@pytest.fixture
def no_pool(monkeypatch: pytest.MonkeyPatch) -> NoPool:
    pool = NoPool()
    monkeypatch.setattr(engine.worker, "pool", lambda workers: pool)
    return pool


def test_second_run_decodes_only_what_failed(everything, no_pool: NoPool):
    corpus, extractions, root = everything
    again = extract(corpus, root)
    assert same(flat(again), flat(extractions))
    assert sorted(no_pool.clips) == ["cut.mp4", "gone.mp4", "words.mp4"]


def test_same_clip_elsewhere_is_known_by_its_content(everything, folder: Path, tmp_path: Path, no_pool: NoPool):
    _, _, root = everything
    shutil.copy(folder / "good.mp4", tmp_path / "renamed.mp4")
    extract(corpus_of([Utterance(id="u", speaker="a", clip=tmp_path / "renamed.mp4")]), root)
    assert no_pool.clips == []
    with (tmp_path / "renamed.mp4").open("ab") as file:
        file.write(b"\0\0\0\x08free")
    extract(corpus_of([Utterance(id="u", speaker="a", clip=tmp_path / "renamed.mp4")]), root)
    assert no_pool.clips == ["renamed.mp4"]


def test_only_missing_modalities_are_computed(folder: Path, tmp_path: Path, no_pool: NoPool):
    corpus = corpus_of([utterance("whole", folder)])
    first = flat(extract(corpus, tmp_path, {"audio": fakes.Loudness()}))["whole"]
    assert set(first) == {"audio"}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    both = flat(extract(corpus, tmp_path, EXTRACTORS))["whole"]
    assert all(result.vector is not None for result in both.values())
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_interrupted_run_goes_on_where_it_was(
    folder: Path, tmp_path: Path, no_pool: NoPool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine, "_AHEAD", 0)
    utterances = []
    for i in range(12):
        clip = tmp_path / f"{i}.mp4"  # each with another content
        clip.write_bytes((folder / "good.mp4").read_bytes() + b"\0\0\0\x09free" + bytes([i]))
        utterances.append(Utterance(id=f"u{i}", speaker="a", clip=clip, text=f"text {i}"))
    corpus = corpus_of(utterances)
    unbroken = flat(extract(corpus, tmp_path / "unbroken"))
    no_pool.clips.clear()
    features = 0

    def interrupt(done: int):
        nonlocal features
        features += done
        if features > 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(corpus, tmp_path / "cache", progress=interrupt)
    begun = len(no_pool.clips)
    no_pool.clips.clear()
    assert same(flat(extract(corpus, tmp_path / "cache")), unbroken)
    # Again only those whose frames waited for a full batch or that were being decoded: 3 and 2 at the most.
    assert 12 - begun <= len(no_pool.clips) <= 12 - begun + 5
    assert begun >= 5


def test_however_long_the_corpus_only_so_much_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine, "_OPEN_UTTERANCES", 10)
    begun = 0
    sizes = [3, 25, 1, 30, 2, 2]  # some longer than the bound
    names = iter(range(1000))
    dialogues = [
        Dialogue(
            id=f"d{i}", utterances=tuple(Utterance(id=f"u{next(names)}", speaker="a", text=f"x {i}") for _ in range(n))
        )
        for i, n in enumerate(sizes)
    ]
    corpus = Corpus(name="c", labels=(), splits={"train": tuple(dialogues)})

    def progress(_):
        nonlocal begun
        begun += 1

    handed = 0
    stream = engine.extract(
        corpus, {"text": fakes.Letters()}, digests={}, cache=Cache(tmp_path), workers=1, progress=progress
    )
    for i, extraction in enumerate(stream):
        handed += len(extraction.results)
        assert extraction.dialogue == dialogues[i]
        open_now = begun - handed
        assert open_now <= max(sizes) + 5
    assert handed == sum(sizes)


def test_clips_in_flight_are_bounded(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pending: list[tuple[Future, Callable]] = []
    most = 0

    class Slow(NoPool):
        def submit(self, function: Callable, clip: Path, *args, **kwargs) -> Future:
            nonlocal most
            future: Future = Future()
            pending.append((future, lambda: function(clip, *args, **kwargs)))
            most = max(most, len(pending))
            return future

    def finish_one(futures, return_when):
        future, work = pending.pop(0)
        future.set_result(work())
        return {future}, set(futures) - {future}

    monkeypatch.setattr(engine.worker, "pool", lambda workers: Slow())
    monkeypatch.setattr(engine, "wait", finish_one)
    monkeypatch.setattr(engine, "_AHEAD", 4)
    utterances = [Utterance(id=f"u{i}", speaker="a", clip=folder / "good.mp4", max_seconds=60.0 + i) for i in range(15)]
    assert len(flat(extract(corpus_of(utterances), tmp_path, workers=3))) == 15
    assert most == 2 * 3 + 4  # two a worker, and those ahead


def test_batches_are_of_one_group_and_full_until_nothing_more_comes(tmp_path: Path):
    """Of like length; when too many wait, the largest group goes as it is."""
    encoded: list[tuple[bool, list[int]]] = []

    @dataclass(frozen=True, kw_only=True)
    class Grouped(fakes.Letters):
        lookahead = 7

        def group(self, payload):
            return len(payload) // 10

        def batch(self, group):
            return 3 if group else 4

        def encode(self, payloads, *, exact=False):
            encoded.append((exact, [len(text) for text in payloads]))
            return super().encode(payloads)

    lengths = [5, 12, 6, 25, 13, 7, 14, 35, 8, 9, 45, 26, 55, 66, 77, 36, 4]
    utterances = [Utterance(id=f"u{i}", speaker="a", text="x" * n) for i, n in enumerate(lengths)]
    assert len(flat(extract(corpus_of(utterances), tmp_path, {"text": Grouped()}))) == len(lengths)
    assert all(exact for exact, _ in encoded)
    batches = [batch for _, batch in encoded]
    assert batches[:3] == [[5, 6, 7, 8], [12, 13, 14], [25, 26]]
    assert sorted(n for batch in batches for n in batch) == sorted(lengths)
    assert all(len({n // 10 for n in batch}) == 1 for batch in batches)


def test_text_extractors_get_the_turns_before_and_the_cache_knows_them(tmp_path: Path):
    def corpus(*turns: tuple[str, str]) -> Corpus:
        utterances = [Utterance(id=f"u{i}", speaker=who, text=text) for i, (who, text) in enumerate(turns)]
        return corpus_of([*utterances, Utterance(id="last", speaker="z", text="z")], per_dialogue=len(turns))

    def lengths(*turns: tuple[str, str], before: int) -> list[float]:
        found = flat(extract(corpus(*turns), tmp_path, {"text": fakes.Letters(before=before)}))
        return [float(found[f"u{i}"]["text"].vector[0]) for i in range(len(turns))]  # pyright: ignore

    spoken = (("a", "one"), ("b", "three"), ("a", "it"), ("b", "eleven"))
    assert lengths(*spoken, before=0) == [3, 5, 2, 6]
    assert lengths(*spoken, before=1) == [3, 9, 8, 9]
    assert lengths(*spoken, before=2) == [3, 9, 12, 15]
    assert lengths(("a", "seven"), *spoken[1:], before=2) == [5, 11, 14, 15]  # what was cached was of other turns
    dialogue = corpus(*spoken).splits["train"][0]
    features = engine.extract_dialogue(dialogue, {"text": fakes.Letters(before=2)})
    assert features.values["text"][:, 0].tolist() == [3, 9, 12, 15]


def test_sequences_are_kept_beside_the_vectors(everything, tmp_path: Path):
    corpus, _, _ = everything
    extractors = EXTRACTORS | {"text": fakes.Letters(sequence_frames=2)}
    assert engine.sequence_dims(extractors) == {"text": 2}
    first, again = (extract(corpus, tmp_path, extractors) for _ in range(2))  # the second time from the cache
    for extractions in (first, again):
        for extraction in extractions:
            features = features_of(
                extraction.dialogue,
                extraction.results,
                dims={"text": 2, "audio": 3},
                sequence_dims={"text": 2},
                labels=corpus.labels,
            )
            for i, utterance in enumerate(extraction.dialogue.utterances):
                words = [[len(word), 1] for word in utterance.text.split()]
                sequence = features.sequences["text"][i]
                assert sequence.dtype == np.float16
                if len(words) <= 2:
                    assert sequence.tolist() == words
                else:
                    assert sequence.shape == (2, 2)


@dataclass(frozen=True, kw_only=True)
class Swapped(fakes.Loudness):
    """Another process writes another clip to the file while this extractor works."""

    clip: str = ""
    other: str = ""

    kind = "swapped"

    def prepare(self, raw: Media) -> Prepared:
        prepared = super().prepare(raw)
        shutil.copy(self.other, self.clip)
        return prepared


def test_clip_that_changes_while_it_is_read_fails_and_is_not_cached(folder: Path, tmp_path: Path, no_pool: NoPool):
    """Nobody knows whether its features are of the content that was hashed or of the other one."""
    clip, cache = tmp_path / "clip.wav", tmp_path / "cache"
    write_clip(tmp_path / "other.wav", pictures=False, seconds=0.5)
    shutil.copy(folder / "sound.wav", clip)
    corpus = corpus_of([Utterance(id="u", speaker="a", clip=clip)])
    swapped = Swapped(clip=str(clip), other=str(tmp_path / "other.wav"))
    extraction = extract(corpus, cache, {"audio": swapped})[0]
    assert row_of(extraction.dialogue.utterances[0], extraction.results[0]) == (
        "failed",
        "audio: the file changed while it was read; run the same command again",
    )
    assert not [path for path in cache.rglob("*") if path.is_file()]
    # Changed between hashing and decoding, the clip fails as well; hashed anew, it has its own features.
    digests = {clip: worker.digest(folder / "sound.wav")}
    (result,) = engine.extract(corpus, {"audio": fakes.Loudness()}, digests=digests, cache=Cache(cache), workers=1)
    assert result.results[0]["audio"].status == "failed"
    vector = flat(extract(corpus, cache, {"audio": fakes.Loudness()}))["u"]["audio"].vector
    assert vector is not None
    assert vector[1] == 8000  # samples in half a second


def test_clip_that_cannot_be_hashed_is_never_cached(folder: Path, tmp_path: Path, no_pool: NoPool):
    """Two such clips would share a key, and each could be given the other's features."""
    corpus = corpus_of([Utterance(id=name, speaker="a", clip=folder / name) for name in ("sound.wav", "mute.mp4")])
    digests = dict.fromkeys((folder / "sound.wav", folder / "mute.mp4"), "")
    for _ in range(2):
        stream = engine.extract(corpus, EXTRACTORS, digests=digests, cache=Cache(tmp_path), workers=1)
        results = flat(list(stream))
        assert results["sound.wav"]["audio"].vector is not None
        assert results["mute.mp4"]["video"].vector is not None
        assert results["mute.mp4"]["audio"].vector is None
    assert no_pool.clips == ["sound.wav", "mute.mp4"] * 2
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
