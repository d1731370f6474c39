"""Clips that crash or hang the decoder, take all memory or raise: only their own rows fail, and for a reason."""

import logging
import os
from pathlib import Path

import fakes
import pytest
from extractions import EXTRACTORS, extract, flat, same, write_clip

from jmer.base.errors import UserError
from jmer.base.types import Corpus, Dialogue, Utterance
from jmer.features import engine, leash, views, worker
from jmer.features.audio import lite
from jmer.features.cache import Cache
from jmer.features.extractor import Extractor
from jmer.features.results import row_of
from jmer.media import cutting, decoding, guards

SECONDS = {"good": 1.0, "crash": 0.3, "hang": 0.4, "memory": 0.5, "raise": 0.6, "fine": 0.8}
FAULTS = {SECONDS[name]: name for name in ("crash", "hang", "memory")} | {SECONDS["raise"]: "odd\n  sound"}
REASONS = {
    "crash": "audio, video: cannot be decoded: a worker process ended itself with exit code 1, and so did a second one",
    "hang": "audio, video: was given up, since decoding takes more than 0 s",
    "memory": "audio: needs more memory than a clip may take (",
    "raise": "audio: cannot be decoded (ValueError: odd sound)",
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return {name: write_clip(folder / f"{name}.mkv", seconds=seconds) for name, seconds in SECONDS.items()}


def corpus_of(*utterances: Utterance) -> Corpus:
    return Corpus(name="c", labels=(), splits={"train": (Dialogue(id="d", utterances=utterances),)})


def test_a_faulty_clip_fails_alone_and_is_tried_again_by_the_next_run(clips: dict[str, Path], tmp_path: Path):
    utterances = [Utterance(id=name, speaker="a", text="hi", clip=clip) for name, clip in clips.items()]
    extractors = EXTRACTORS | {"audio": fakes.Faulty(faults=FAULTS)}
    results = flat(extract(corpus_of(*utterances), tmp_path, extractors, workers=2))
    for u in utterances:
        status, reason = row_of(u, results[u.id])
        assert status == ("failed" if u.id in REASONS else "ok")
        assert reason.startswith(REASONS.get(u.id, ""))
        assert "\n" not in reason
        assert str(u.clip) not in reason
        assert results[u.id]["text"].vector is not None
    # An extractor that raises or lacks memory costs the other tracks nothing.
    assert {name for name in results if results[name]["video"].vector is not None} == SECONDS.keys() - {"crash", "hang"}
    # Features are kept of sound clips alone, so that the same command tries the faulty ones again.
    assert len([path for path in tmp_path.glob("audio-faulty*/*/*") if path.is_file()]) == len(SECONDS) - len(REASONS)
    sound = [u for u in utterances if u.id not in REASONS]
    assert same({u.id: results[u.id] for u in sound}, flat(extract(corpus_of(*sound), tmp_path / "alone", extractors)))


def test_a_recording_that_crashes_fails_alone(clips: dict[str, Path], tmp_path: Path):
    parts = [Utterance(id=f"p{i}", speaker="a", clip=clips["good"], start=i / 2, end=i / 2 + 0.5) for i in range(2)]
    corpus = corpus_of(*parts, Utterance(id="fine", speaker="a", clip=clips["fine"]))
    results = flat(extract(corpus, tmp_path, {"audio": fakes.Faulty(faults={0.5: "crash"})}))
    assert [results[name]["audio"].status for name in ("p0", "p1", "fine")] == ["failed", "failed", "ok"]
    assert "so did a second one" in results["p0"]["audio"].reason


def test_an_error_that_is_not_of_a_clip_ends_the_run(clips: dict[str, Path], tmp_path: Path):
    corpus = corpus_of(Utterance(id="u", speaker="a", clip=clips["good"]))
    with pytest.raises(UserError, match="no file"):
        extract(corpus, tmp_path, {"audio": fakes.Faulty(faults={SECONDS["good"]: "UserError"})})


def test_workers_that_cannot_start_are_said(clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker, "_one_thread", _dies)
    corpus = corpus_of(Utterance(id="u", speaker="a", clip=clips["good"]))
    with pytest.raises(UserError, match=r"worker processes cannot be started \(a worker process ended itself with"):
        extract(corpus, tmp_path, {"audio": fakes.Loudness()})


def _dies() -> None:
    os._exit(1)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
def test_what_is_no_file_is_neither_hashed_nor_opened(make, tmp_path: Path):
    clip = tmp_path / "clip.mp4"
    make(clip)
    assert worker.digest(clip) == ""
    corpus = corpus_of(Utterance(id="u", speaker="a", clip=clip))
    stream = engine.extract(corpus, EXTRACTORS, digests={clip: ""}, cache=Cache(tmp_path / "cache"), workers=0)
    result = flat(list(stream))["u"]["audio"]
    assert result.status == "failed"
    assert result.reason.endswith("not a file")


def test_in_this_process_any_error_of_the_decoder_is_the_utterances(
    clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """`jmer.predict` decodes without workers."""
    decode = decoding.decode

    def faulty_decode(path: Path, **options):
        if path == clips["crash"]:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, f"invalid start byte in {path}")
        if path == clips["hang"]:
            raise KeyboardInterrupt
        return decode(path, **options)

    def faulty_cut(path: Path, parts, **_):
        yield 0, decoding.MediaError("begins after the end of the recording")
        raise RecursionError("too deep")

    monkeypatch.setattr(decoding, "decode", faulty_decode)
    monkeypatch.setattr(cutting, "cut", faulty_cut)
    utterances = [Utterance(id=name, speaker="a", text="hi", clip=clips[name]) for name in ("crash", "good")]
    utterances += [Utterance(id=f"p{i}", speaker="a", clip=clips["fine"], start=i, end=i + 1) for i in range(2)]
    with caplog.at_level(logging.DEBUG, logger="jmer"):
        results = engine.results_of(Dialogue(id="d", utterances=tuple(utterances)), EXTRACTORS)
    reason = "cannot be decoded (UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0: invalid start"
    assert results[0]["video"].status == "failed"
    assert results[0]["video"].reason.startswith(reason)
    assert results[0]["text"].vector is not None
    assert results[1]["video"].vector is not None
    assert results[2]["audio"].reason == "begins after the end of the recording"
    assert results[3]["audio"].reason == "cannot be decoded (RecursionError: too deep)"
    assert [record.exc_info is not None for record in caplog.records] == [True, True]
    with pytest.raises(KeyboardInterrupt):
        worker.prepare(clips["hang"], {"audio": fakes.Loudness()}, max_seconds=None)


def test_time_grows_with_the_length_as_far_as_the_size_bears_it_out():
    mb = 1_000_000
    assert worker.time_for(mb // 10) == pytest.approx(30, abs=0.1)
    assert worker.time_for(mb // 10, seconds=4) == pytest.approx(30, abs=0.1)
    assert worker.time_for(50 * mb, seconds=600) == 1800 + 5
    assert worker.time_for(mb // 10, seconds=1e9) == pytest.approx(30, abs=0.1)  # what it claims to last is not there
    assert worker.time_for(900 * mb, seconds=3600) == 3 * 3600
    assert worker.time_for(10**15, seconds=1e9) == 3 * 3600


def test_loading_libraries_is_no_time_of_the_clip(clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch):
    """Compiling librosa takes 15 s and more, and 200 MB."""
    told: list[object] = []
    monkeypatch.setattr(lite, "compiled_librosa", lambda: told.append("load"))
    monkeypatch.setattr(views, "compiled_librosa", lambda: told.append("load"))
    monkeypatch.setattr(leash, "allow", told.append)
    monkeypatch.setattr(decoding, "decode", lambda *_, scanned, **__: scanned(99.0))
    monkeypatch.setattr(cutting, "cut", lambda *_, scanned, **__: iter(scanned(99.0) or ()))
    monkeypatch.setattr(guards, "size_of", lambda path: 10_000_000)
    made: list[Extractor] = [lite.LiteAudio(), views.AudioView(base=fakes.Loudness(), number=1)]
    for extractor in made:
        for read in (
            lambda e: worker.prepare(clips["good"], {0: e}, max_seconds=None),
            lambda e: list(worker.prepare_parts(clips["good"], [cutting.Part(0, 1)], {0: e})),
        ):
            told.clear()
            read(extractor)
            assert told == ["load", 31.0, 298.0]
