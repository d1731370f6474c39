"""The extraction command: datasets, tables of rows, exit codes."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tables import CLIPS, copy_clips, hashes, rows_of, write_table

from jmer import extract
from jmer.base import cli
from jmer.dataset import build, store
from jmer.dataset.options import ExtractOptions
from jmer.features import engine, perturb


@pytest.fixture(scope="module")
def clips(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_clips(root, tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(root: Path, cache: Path, capfd: pytest.CaptureFixture[str]):
    def run(*arguments: object, config: str = "lite") -> tuple[int, str, str]:
        argv = [f"--config={root / 'configs' / 'extract' / config}.py", f"--config.cache={cache}", *map(str, arguments)]
        code = cli.run(extract.main, ["--config.workers=1", "--config.video.frames=2", *argv])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def test_table_with_clips_becomes_a_dataset(clips: Path, tmp_path: Path, run):
    rows = rows_of(clips, *CLIPS[:3], "") + rows_of(clips, CLIPS[3], "broken", "gone", split="dev")
    table = write_table(tmp_path / "mine.csv", rows)
    out = tmp_path / "out"
    arguments = ("--config.source=table", f"--config.root={table}", f"--config.out={out}")
    code, printed, _ = run(*arguments)
    assert code == 0
    for line in ("train          4         0       0       4", "dev            1         0       2       3"):
        assert line in printed
    assert "failed     1 x dev dev0_2: clip missing" in printed
    assert "failed     1 x dev dev0_1: audio, video: cannot be opened" in printed

    dataset = store.load(out)
    assert dataset.labels == ("anger", "joy")
    assert dict(dataset.dims) == {"text": 1036, "audio": 217, "video": 526}
    train, dev = dataset.split("train"), dataset.split("dev")
    assert [dialogue.utterance_ids for dialogue in train] == [("train0_0", "train0_1", "train0_2"), ("train1_3",)]
    assert train[0].labels.tolist() == [1, 0, 1]
    assert train[0].present["video"].all()
    assert train[1].present["text"].all()
    assert not train[1].present["audio"].any()
    assert dev[0].present["audio"].tolist() == [True, False, False]
    assert dev[0].present["text"].all()  # text and label stay
    assert dev[0].labels.tolist() == [1, 0, 1]
    statuses = [(row["utterance"], row["status"]) for row in dataset.manifest["rows"]]
    assert statuses[-3:] == [("dev0_0", "ok"), ("dev0_1", "failed"), ("dev0_2", "failed")]

    # The same again: nothing to do. With --strict the failed rows count.
    before = hashes(out)
    code, printed, _ = run(*arguments, "--strict")
    assert code == 3
    assert "already holds this dataset" in printed
    assert hashes(out) == before

    # Another text: replaced. Damaged: made again, the same.
    rows[0]["text"] = "another text"
    write_table(table, rows)
    code, printed, _ = run(*arguments)
    assert (code, "already" in printed) == (0, False)
    after = hashes(out)
    assert after != before
    shard = next(out.glob("*train*record*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    code, printed, _ = run(*arguments)
    assert (code, "is damaged" in printed) == (0, True)
    assert hashes(out) == after


def test_modality_that_no_utterance_has_is_left_out(tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    table = write_table(tmp_path / "words.csv", rows_of(tmp_path, "", ""))
    code, printed, _ = run("--config.source=table", f"--config.root={table}", "--config.video.model=none")
    assert code == 0
    assert "audio: absent: no utterance has it: no clip (2)" in printed
    assert "video: absent: switched off by video.model=none" in printed
    dataset = store.load(tmp_path / "data" / "packed" / "words-lite-lite-none")
    assert list(dataset.dims) == ["text"]
    assert dataset.manifest["modalities"]["audio"]["extractor"] is None
    assert [row["reason"] for row in dataset.manifest["rows"]] == ["", ""]


def test_columns_of_another_name(tmp_path: Path, run):
    table = tmp_path / "t.csv"
    table.write_text("Dialogue,utterance,speaker,text,Emotion,split\n1,1,a,hello,glad,train\n")
    arguments = ["--config.source=table", f"--config.root={table}", f"--config.out={tmp_path / 'out'}"]
    renamed = ["--config.columns.label=Emotion", "--config.columns.dialogue=Dialogue", "--config.labels=sad,glad"]
    assert run(*arguments, *renamed)[0] == 0
    assert store.load(tmp_path / "out").labels == ("sad", "glad")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.source=iemocap"], "config.source is iemocap; expected one of sample, meld, ravdess"),
        (["--config.source=table"], "config.source=table needs the CSV: --config.root=FILE.csv"),
        (["--config.source=meld", "--config.root=/no/such"], "/no/such"),
        (["--config.labels=a,b"], "config.columns and config.labels are for --config.source=table"),
        (
            ["--config.video.model="],
            "config.video.model is ''; expected lite, none, an ONNX file, a CSV file of ready features (or",
        ),
        (["--config.audio.layers=3"], "config.audio.layers is set, but audio.model=lite has no such option"),
        (
            ["--config.text.model="],
            "config.text.model is ''; expected lite, vader, none, a CSV file of",
        ),
        (["--config.text.model=/no/such/dir"], "no directory /no/such/dir"),
        (
            [f"--config.{m}.model=none" for m in ("text", "audio", "video")],
            "are all none, so there is nothing to extract",
        ),
        (["--config.lrr=1"], "config has no field 'lrr'"),
        (["--config.views=-1"], "config.views is -1; expected at least 0"),
        (["--config.lexicon=mine.txt"], "config.lexicon is for augmented views, and config.views is 0"),
        (["--config.views=1", "--config.lexicon=/no/such"], "config.lexicon: /no/such cannot be read"),
        (
            ["--config.views=2", "--config.text.model=none", "--config.audio.model=none"],
            "config.views is 2, but only text and audio are augmented, and both are none",
        ),
        (["--config.video.frames=0"], "config.video.frames is 0; expected at least 1"),
    ],
)
def test_one_line_errors(run, arguments: list[str], message: str):
    code, out, err = run(*arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert message in err
    assert out == ""


@pytest.fixture
def _in_process(monkeypatch: pytest.MonkeyPatch):
    """Decodes in a thread: processes take seconds to start."""
    monkeypatch.setattr(engine.worker, "pool", lambda workers: ThreadPoolExecutor(1))


@pytest.mark.usefixtures("_in_process")
def test_views(clips: Path, tmp_path: Path, run):
    rows = rows_of(clips, *CLIPS[:2], "") + rows_of(clips, CLIPS[2], split="dev")
    for row, sentiment in zip(rows, ["positive", "", "NEGATIVE", "neutral"], strict=True):
        row["sentiment"] = sentiment
    table = write_table(tmp_path / "mine.csv", rows)
    lexicon = tmp_path / "words.txt"
    lexicon.write_text("this that\n")
    arguments = ["--config.source=table", f"--config.root={table}", f"--config.cache={tmp_path / 'cache'}"]
    viewed = ["--config.views=2", f"--config.lexicon={lexicon}", f"--config.out={tmp_path / 'views'}"]
    assert run(*arguments, f"--config.out={tmp_path / 'plain'}")[0] == 0
    code, printed, _ = run(*arguments, *viewed)
    assert code == 0
    assert "views: 2 of train, text and audio augmented\n" in printed
    table_printed = [line.split() for line in printed[printed.index("split") :].splitlines()]
    assert table_printed[:4] == [
        ["split", "ok", "degraded", "failed", "rows"],
        ["train", "3", "0", "0", "3"],
        ["dev", "1", "0", "0", "1"],
        ["all", "4", "0", "0", "4"],
    ]

    plain, dataset = store.load(tmp_path / "plain"), store.load(tmp_path / "views")
    assert list(dataset.manifest["splits"]) == ["train", "dev", "train_view1", "train_view2"]
    assert (dataset.manifest["views"], plain.manifest["views"]) == (2, 0)
    assert dataset.manifest["augmentation"]["audio"] == {"version": 1, "seed": 0, **AUDIO}
    assert len(dataset.manifest["augmentation"]["text"]["lexicon_sha256"]) == 64
    assert dataset.manifest["rows"] == plain.manifest["rows"]
    for split in plain.manifest["splits"]:  # byte for byte
        names = [f"jmer-{split}.array_record-00000-of-00001"] * 2
        one, other = (folder / name for folder, name in zip((plain.path, dataset.path), names, strict=True))
        assert one.read_bytes() == other.read_bytes()
    ((train,), (first,), (second,)) = (dataset.split(split) for split in ("train", "train_view1", "train_view2"))
    assert train.sentiments.tolist() == [2, -1, 0]
    assert (first.values["audio"] != second.values["audio"]).any(axis=1).tolist() == [True, True, False]
    for view in (first, second):
        for name in ("dialogue_id", "utterance_ids", "speakers", "texts"):
            assert getattr(view, name) == getattr(train, name)
        for name in ("labels", "sentiments"):
            np.testing.assert_array_equal(getattr(view, name), getattr(train, name))
        for modality in dataset.dims:
            np.testing.assert_array_equal(view.present[modality], train.present[modality])
            differs = (view.values[modality] != train.values[modality]).any(axis=1)
            assert differs.tolist() == (train.present[modality] & (modality != "video")).tolist()

    # Again: nothing to do. Another lexicon: other views of the text, and the same ones of the sound.
    assert "already holds" in run(*arguments, *viewed)[1]
    lexicon.write_text("this these\n")
    assert "already holds" not in run(*arguments, *viewed)[1]
    (again,) = store.load(tmp_path / "views").split("train_view1")
    np.testing.assert_array_equal(again.values["audio"], first.values["audio"])

    # Another sentiment is another dataset.
    rows[1]["sentiment"] = "neutral"
    write_table(table, rows)
    assert "already holds" not in run(*arguments, f"--config.out={plain.path}")[1]
    assert store.load(plain.path).split("train")[0].sentiments.tolist() == [2, 1, 0]


AUDIO = {name: list(drawn) for name, drawn in perturb.PARAMETERS["audio"].items()}


def test_views_without_train(tmp_path: Path, run):
    table = write_table(tmp_path / "words.csv", rows_of(tmp_path, "", split="dev"))
    code, _, err = run("--config.source=table", f"--config.root={table}", "--config.views=1")
    assert code == 2
    assert "config.views is 1, but only a train split is augmented, and the source has none" in err


@pytest.mark.usefixtures("_in_process")
def test_view_that_loses_a_modality_is_noted(clips: Path, tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(perturb, "perturb_wave", lambda wave, rng: wave[:100])
    table = write_table(tmp_path / "t.csv", rows_of(clips, CLIPS[0], ""))
    arguments = ["--config.source=table", f"--config.root={table}", "--config.video.model=none", "--config.views=1"]
    code, printed, _ = run(*arguments, f"--config.out={tmp_path / 'out'}", f"--config.cache={tmp_path / 'cache'}")
    assert code == 0
    assert "note: train_view1: 1 utterances, augmented, lack audio: 6.2 ms of sound, less than one window" in printed
    dataset = store.load(tmp_path / "out")
    assert dataset.split("train")[0].present["audio"].tolist() == [True, False]
    assert dataset.split("train_view1")[0].present["audio"].tolist() == [False, False]
    assert [row["status"] for row in dataset.manifest["rows"]] == ["ok", "ok"]


def test_folder_that_holds_something_else_is_left_alone(tmp_path: Path, run):
    (tmp_path / "thesis.tex").write_text("")
    code, _, err = run(f"--config.out={tmp_path}")
    assert code == 2
    assert f"{tmp_path} exists and is not a dataset of jmer" in err
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_beam_workers_give_the_same_bytes(clips: Path, tmp_path: Path, run):
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed (pip install '.[beam]')")
    rows = rows_of(clips, *CLIPS, "", "broken") + rows_of(clips, CLIPS[0], split="dev")
    table = write_table(tmp_path / "mine.csv", rows)
    arguments = ("--config.source=table", f"--config.root={table}", "--config.views=1")
    assert run(*arguments, f"--config.out={tmp_path / 'local'}", f"--config.cache={tmp_path / 'cache1'}")[0] == 0
    processes = "--runner=DirectRunner --direct_num_workers=2 --direct_running_mode=multi_processing"
    beam = (f"--config.out={tmp_path / 'beam'}", f"--config.cache={tmp_path / 'cache2'}", f"--config.beam={processes}")
    code, _, err = run(*arguments, *beam)
    assert code == 0, err
    assert hashes(tmp_path / "beam") == hashes(tmp_path / "local")
    entries = [sorted(f.name for f in (tmp_path / c).rglob("*") if f.is_file()) for c in ("cache1", "cache2")]
    assert entries[0] == entries[1]
    code, _, err = run(*arguments, f"--config.out={tmp_path / 'c'}", "--config.beam=--runner=NoSuchRunner")
    assert code == 2
    assert "the Beam pipeline failed" in err


def test_beam_that_is_not_installed_is_said(clips: Path, tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    table = write_table(tmp_path / "mine.csv", rows_of(clips, CLIPS[0]))
    code, _, err = run("--config.source=table", f"--config.root={table}", "--config.beam=--runner=DirectRunner")
    assert code == 2
    assert "pip install 'jmer[beam]'" in err


def test_sequences_become_part_of_the_dataset(clips: Path, tmp_path: Path, run):
    rows = rows_of(clips, *CLIPS[:2], "", "broken")
    table, out = write_table(tmp_path / "mine.csv", rows), tmp_path / "out"
    arguments = ("--config.source=table", f"--config.root={table}", f"--config.out={out}")
    assert run(*arguments, "--config.sequence_frames=5", "--config.audio.model=mfcc")[0] == 0
    dataset = store.load(out)
    assert dataset.sequence_dims == {"text": 1036, "audio": 60, "video": 263}
    (dialogue, other) = dataset.split("train")
    for modality, lengths in (("text", {2, 3}), ("audio", {0, 5}), ("video", {0, 2})):
        sequences = [*dialogue.sequences[modality], *other.sequences[modality]]
        present = [*dialogue.present[modality], *other.present[modality]]
        assert [len(sequence) > 0 for sequence in sequences] == present
        assert {len(sequence) for sequence in sequences} == lengths
    means = dialogue.values["audio"][0][:60]
    np.testing.assert_allclose(dialogue.sequences["audio"][0].mean(axis=0), means, rtol=0.1, atol=0.3)


def test_encoder_from_a_folder(tmp_path: Path, run, shared: Path):
    table = write_table(tmp_path / "words.csv", rows_of(tmp_path, "", "", "", ""))
    code, printed, err = run(
        "--config.source=table",
        f"--config.root={table}",
        f"--config.out={tmp_path / 'out'}",
        f"--config.text.model={shared / 'weights' / 'minilm-l6-v2'}",
        config="hf",
    )
    assert code == 0
    assert "text: 384 features" in printed
    assert "Some weights" not in err
    described = store.load(tmp_path / "out").manifest["modalities"]["text"]
    assert described["extractor"]["options"]["model"] == str(shared / "weights" / "minilm-l6-v2")
    assert len(described["extractor"]["weights"]) == 64


def test_same_features_as_in_process(clips: Path, tmp_path: Path, run):
    from jmer.base.types import Dialogue, Utterance
    from jmer.features import registry

    table = write_table(tmp_path / "t.csv", rows_of(clips, *CLIPS[:2]))
    assert run("--config.source=table", f"--config.root={table}", f"--config.out={tmp_path / 'out'}")[0] == 0
    dataset = store.load(tmp_path / "out")
    (packed,) = dataset.split("train")
    extractors = {m: registry.build(dataset.manifest["modalities"][m]["extractor"]) for m in dataset.dims}
    utterances = [
        Utterance(id=str(i), speaker="a", text=f"this is {name}", clip=clips / f"{name}.mp4")
        for i, name in enumerate(CLIPS[:2])
    ]
    features = engine.extract_dialogue(Dialogue(id="d", utterances=tuple(utterances)), extractors)
    for modality in dataset.dims:
        assert features.present[modality].all()
        np.testing.assert_allclose(features.values[modality], packed.values[modality], atol=2e-4)


def test_sample_without_options_is_what_train_takes(root: Path, monkeypatch: pytest.MonkeyPatch):
    config = extract.default_config()
    assert config.to_dict() == cli.load_config(root / "configs" / "extract" / "lite.py").to_dict()
    monkeypatch.chdir(root)
    assert os.fspath(build.default_out(ExtractOptions(), build.load_source(ExtractOptions()))) == (
        "data/packed/sample-lite-lite-lite"
    )
