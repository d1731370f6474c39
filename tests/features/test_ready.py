"""Ready features from a file: they reach the right utterances, whatever the format and however the file names them."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import soundfile
from ready_files import extract, results, without_clips, write, write_parquet

from jmer.base.errors import UserError
from jmer.base.types import Corpus, Dialogue, Utterance
from jmer.corpora import ravdess, sample, table
from jmer.features import engine, registry
from jmer.features.ready import ReadyAudio, ReadyVideo
from jmer.features.summary import encoded

FORMATS = (".parquet", ".npz", ".safetensors")
ARRAYS = (".npz", ".safetensors")


def features(folder: Path, content: str) -> Path:
    (folder / "faces.csv").write_text(content)
    return folder / "faces.csv"


def corpus_of(**dialogues: list[str]) -> Corpus:
    """A corpus of the split train alone: dialogues with the ids of their utterances."""
    made = [
        Dialogue(id=name, utterances=tuple(Utterance(id=u, speaker="x") for u in ids))
        for name, ids in dialogues.items()
    ]
    return Corpus(name="made", labels=("glad",), splits={"train": tuple(made)})


def test_rows_reach_their_utterances(tmp_path: Path):
    content = "AU01,utterance,split,AU02\n1,a_1,train,2\n3,a_1,dev,4\n9,b_1,train,9\n"
    dataset = extract(tmp_path, features(tmp_path, content), **{"text.model": "lite"})
    (train,), (dev,) = dataset.split("train"), dataset.split("dev")
    np.testing.assert_array_equal(train.values["video"], [[1, 2], [0, 0]])
    np.testing.assert_array_equal(train.present["video"], [True, False])
    np.testing.assert_array_equal(dev.values["video"], [[3, 4]])
    assert train.present["text"].all()
    assert dataset.manifest["notes"][1:] == ["1 rows of faces.csv are of no utterance and are left out"]
    spec = dataset.manifest["modalities"]["video"]["extractor"]
    assert registry.build(spec).dim == 2
    features(tmp_path, content.replace("4", "5"))
    with pytest.raises(UserError, match="have changed since the features were made"):
        registry.build(spec)
    (tmp_path / "faces.csv").unlink()
    with pytest.raises(UserError, match=r"faces\.csv: cannot be read \(No such file or directory\); give the path"):
        registry.build(spec)


# ---- formats ---------------------------------------------------------------------------------------------------------


VALUES = np.array([[0.1, -3e38], [1 / 3, 1e-40], [7.0, 2.0**-130]])  # float64; some of them are not exact in float32


@pytest.fixture(scope="module")
def of_csv(tmp_path_factory: pytest.TempPathFactory):
    """The dataset that a CSV file gives."""
    folder = tmp_path_factory.mktemp("csv")
    keys = ("a_1,train", "a_2,train", "a_1,dev")
    rows = "".join(f"{key},{float(x)!r},{float(y)!r}\n" for key, (x, y) in zip(keys, VALUES, strict=True))
    return extract(folder, features(folder, f"utterance,split,x,y\n{rows}"))


@pytest.mark.parametrize("form", ["semicolons", "numbers", "lists", "large lists", *ARRAYS])
def test_every_format_gives_the_bytes_of_the_csv(tmp_path: Path, of_csv, form: str):
    names = {"dialogue": ["a"] * 3, "utterance": [1, 2, 1], "split": ["training", "train", "Val"]}
    path = tmp_path / "faces.parquet"
    if form == "semicolons":
        path = tmp_path / "faces.csv"
        rows = [f"{s};{x};a;{y};{u}\n" for s, u, (x, y) in zip(names["split"], names["utterance"], VALUES, strict=True)]
        path.write_text("Set;x;Dialogue ID;y;turn\n" + "".join(rows))
    elif form == "numbers":
        write_parquet(path, x=VALUES[:, 0], **names, y=VALUES[:, 1])
    elif form == "lists":
        write_parquet(path, **names, both=list(VALUES))
    elif form == "large lists":
        write_parquet(path, **names, both=pyarrow.array(list(VALUES), pyarrow.large_list(pyarrow.float64())))
    else:
        path = write(tmp_path / f"faces{form}", dict(zip(("train/a_1", "a/2", "val/a/1"), VALUES, strict=True)))
    dataset = extract(tmp_path, path)
    for split in ("train", "dev"):
        (found,), (expected,) = dataset.split(split), of_csv.split(split)
        assert found.values["video"].tobytes() == expected.values["video"].tobytes()
        assert found.present["video"].all()
    assert dataset.manifest["rows"] == of_csv.manifest["rows"]
    assert registry.build(dataset.manifest["modalities"]["video"]["extractor"]).dim == 2


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64, np.uint8])
@pytest.mark.parametrize("suffix", FORMATS)
def test_numbers_of_other_types_become_float32(tmp_path: Path, suffix: str, dtype: type):
    file = write(tmp_path / f"f{suffix}", {"d_1": np.array([1, 200], dtype)})
    found = results(corpus_of(d=["d_1"]), file, tmp_path)["train d_1"].vector
    assert found is not None
    assert found.dtype == np.float32
    assert found.tolist() == [1, 200]


def test_fixed_size_lists_of_parquet(tmp_path: Path):
    frames = np.arange(12.0).reshape(2, 3, 2)
    kind = pyarrow.list_(pyarrow.list_(pyarrow.float32(), 2), 3)
    write_parquet(tmp_path / "f.parquet", utterance=["d_1", "d_2"], x=pyarrow.array(frames.tolist(), kind))
    found = results(corpus_of(d=["d_1", "d_2"]), tmp_path / "f.parquet", tmp_path, sequence_frames=9)
    np.testing.assert_array_equal(found["train d_2"].sequence, frames[1])


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["dia1_utt2", "dia1/dia1_utt2", "dia1/utt2", "1/2"])
@pytest.mark.parametrize("split", ["dev", "val"])
@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_names_of_utterances_of_meld(tmp_path: Path, suffix: str, key: str, split: str):
    """The sample has the layout of MELD, and its dialogues have the same ids in every split."""
    if suffix == ".csv":
        *dialogue, utterance = key.split("/")
        head = "Dialogue_ID,Utterance_ID,Split,x" if dialogue else "utterance,split,x"
        file = features(tmp_path, f"{head}\n{','.join([*dialogue, utterance, split, '5'])}\n")
    else:
        file = write(tmp_path / "f.npz", {f"{split}/{key}": [5.0]})
    found = results(without_clips(sample.load()), file, tmp_path)
    assert [name for name, result in found.items() if result.vector is not None] == ["dev dia1_utt2"]


@pytest.mark.parametrize("key", ["01-06-01-02-01-12", "{}/01-06-01-02-01-12"])
@pytest.mark.parametrize("by_actor", [False, True])
def test_names_of_utterances_of_ravdess(tmp_path: Path, key: str, by_actor: bool):
    for name in ("03-01-06-01-02-01-12.wav", "03-01-01-01-01-02-12.wav"):
        soundfile.write(tmp_path / name, np.zeros(800, np.float32), 8000)
    key = key.format("actor 12" if by_actor else "01-06-01-02-01-12")
    # Without actors every utterance's id is that of a dialogue too, and means the utterance.
    file = write(tmp_path / "f.npz", {key: np.eye(3)})
    corpus = without_clips(ravdess.load(tmp_path, by_actor=by_actor))
    found = results(corpus, file, tmp_path, sequence_frames=3)
    sequences = {name: result.sequence for name, result in found.items()}
    np.testing.assert_array_equal(sequences.pop("train 01-06-01-02-01-12"), np.eye(3))
    assert list(sequences.values()) == [None]


def test_names_of_utterances_of_a_table(tmp_path: Path):
    rows = ("a_1,2", "a,1_2", "a,utt x", "b,a_1", "caf\u00c3\u00a9,1")  # the last one is mojibake
    text = "dialogue,utterance,speaker,text,label,split\n" + "".join(f"{row},x,hi,glad,train\n" for row in rows)
    (tmp_path / "table.csv").write_text(text)
    corpus = table.load(tmp_path / "table.csv")
    ids = [u.id for dialogue in corpus.splits["train"] for u in dialogue.utterances]
    assert ids == ["a_1_2", "a__1_2", "a_utt x", "b_a_1", "caf\u00e9_1"]
    content = "dialogue,utterance,x\n" + "".join(f"{row},{i}\n" for i, row in enumerate(rows))
    by_pair = results(corpus, features(tmp_path, content), tmp_path)
    by_id = results(corpus, write(tmp_path / "f.npz", {name: [float(i)] for i, name in enumerate(ids)}), tmp_path)
    for found in (by_pair, by_id):
        assert [None if r.vector is None else r.vector.tolist() for r in found.values()] == [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "a_1",
            "'a_1' may be utterance a_1 of train or utterance a_1 of dev; put the split before the name, as train/",
        ),
        ("a", "'a' may be dialogue a of train or dialogue a of dev; put the split before the name, as train/a"),
    ],
)
def test_a_name_of_two_splits_needs_the_split(tmp_path: Path, key: str, message: str):
    with pytest.raises(UserError, match=message):
        extract(tmp_path, write(tmp_path / "f.npz", {"a_2": [1.0], key: [1.0]}))
    if key == "a_1":
        with pytest.raises(
            UserError, match=r"faces.csv:2: 'a_1' may be .* or utterance a_1 of dev; fill in a column split"
        ):
            extract(tmp_path, features(tmp_path, "utterance,x\na_1,1\n"))


def test_what_is_named_twice_or_not_at_all(tmp_path: Path):
    corpus = corpus_of(d=["d_1", "d_2"])
    with pytest.raises(
        UserError, match=r"array 'd/1': 'd/1' is utterance d_1 of train, whose .* at .*array 'd_1'; remove"
    ):
        results(corpus, write(tmp_path / "f.npz", {"d_1": [1.0], "d/1": [1.0]}), tmp_path)
    with pytest.raises(
        UserError, match="no array is of an utterance of made; the first array is of 'x', and ids there a"
    ):
        results(corpus, write(tmp_path / "f.npz", {"x": [1.0]}), tmp_path)
    content = "session,utterance,x\nd,9,1\n"
    with pytest.raises(UserError, match=r"row is of 'd/9', .*\(faces.csv: the column session was taken for dialogue\)"):
        results(corpus, features(tmp_path, content), tmp_path)
    dataset = extract(tmp_path, write(tmp_path / "f.npz", {"y": [1.0], "a_2": [2.0], "x": [3.0]}))
    assert dataset.manifest["notes"][-1] == "2 arrays of f.npz are of no utterance and are left out"
    (train,) = dataset.split("train")
    np.testing.assert_array_equal(train.values["video"], [[0], [2]])


def test_columns_that_were_taken_for_others_are_noted(tmp_path: Path):
    dataset = extract(tmp_path, features(tmp_path, "Conversation-ID,turn,x\na,2,1\n"))
    note = "faces.csv: the columns turn, Conversation-ID were taken for utterance, dialogue"
    assert dataset.manifest["notes"] == [*dataset.manifest["notes"][:-1], note]


def test_columns_by_their_own_names_leave_usual_names_to_features(tmp_path: Path):
    file = features(tmp_path, "index,utterance,dialogue,turn,session\n5,2,a,6,7\n")
    found = results(corpus_of(a=["a_1", "a_2"]), file, tmp_path)["train a_2"].vector
    assert found is not None
    assert found.tolist() == [5, 6, 7]


def test_a_row_never_means_a_whole_dialogue(tmp_path: Path):
    with pytest.raises(
        UserError, match="no row is of an utterance of made; the first row is of 'd', and ids there are"
    ):
        results(corpus_of(d=["d_1"]), features(tmp_path, "utterance,x\nd,1\n"), tmp_path)


# ---- whole dialogues -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ARRAYS)
@pytest.mark.parametrize("key", ["{}", "train/{}"])
@pytest.mark.parametrize("name", ["dia4", "4"])
def test_an_array_of_a_whole_dialogue(tmp_path: Path, suffix: str, key: str, name: str):
    corpus = corpus_of(dia3=["dia3_utt0"], dia4=["dia4_utt0", "dia4_utt1", "dia4_utt5"])
    file = write(tmp_path / f"f{suffix}", {key.format(name): np.arange(6.0).reshape(3, 2)})
    for frames in (0, 2):
        found = results(corpus, file, tmp_path, sequence_frames=frames)
        vectors = {name: result.vector for name, result in found.items()}
        assert vectors.pop("train dia3_utt0") is None
        np.testing.assert_array_equal(
            np.stack([v for v in vectors.values() if v is not None]), [[0, 1], [2, 3], [4, 5]]
        )
        assert all(result.sequence is None for result in found.values())


def test_whole_dialogues_have_no_sequences_in_the_dataset(tmp_path: Path):
    file = write(tmp_path / "f.npz", {"train/a": np.eye(2), "dev/a": np.ones((1, 2))})
    dataset = extract(tmp_path, file, sequence_frames=4, **{"text.model": "vader"})
    assert dataset.manifest["sequence_dims"] == {"text": 4}
    (train,) = dataset.split("train")
    np.testing.assert_array_equal(train.values["video"], np.eye(2))
    spec = dataset.manifest["modalities"]["video"]["extractor"]
    assert spec["options"]["sequence_frames"] == 0
    assert registry.build(spec).sequence_dim == 0


@pytest.mark.parametrize("shape", [(1, 2), (3, 2), (2,)])
def test_a_wrong_number_of_rows_names_the_dialogue(tmp_path: Path, shape: tuple[int, ...]):
    file = write(tmp_path / "f.npz", {"d": np.ones(shape)})
    message = (
        rf"array 'd': has shape \[{', '.join(map(str, shape))}\], but 'd' is dialogue d of train, which has 2 utter"
    )
    with pytest.raises(UserError, match=message + r"ances; expected \[2, D\], a row for each utterance in their order"):
        results(corpus_of(d=["d_1", "d_2"]), file, tmp_path)


def test_utterances_and_whole_dialogues_are_not_mixed(tmp_path: Path):
    file = write(tmp_path / "f.npz", {"d": np.ones((2, 2)), "e_1": np.ones((2, 2))})
    message = (
        "'e_1' is utterance e_1 of train, but .*array 'd' is dialogue d of train; give utterances and whole dialogues"
    )
    with pytest.raises(UserError, match=message):
        results(corpus_of(d=["d_1", "d_2"], e=["e_1"]), file, tmp_path)


# ---- sequences -------------------------------------------------------------------------------------------------------


FRAMES = {
    "train/a_1": np.random.default_rng(0).normal(size=(7, 3)),
    "train/a_2": np.random.default_rng(1).normal(size=(2, 3)),
}


def sequences_file(folder: Path, suffix: str) -> Path:
    if suffix == ".parquet":
        frames = [frames.tolist() for frames in FRAMES.values()]
        return write_parquet(folder / "f.parquet", utterance=["a_1", "a_2"], split=["train"] * 2, frames=frames)
    return write(folder / f"f{suffix}", FRAMES)


@pytest.mark.parametrize("suffix", FORMATS)
def test_sequences_from_the_file_to_the_dataset(tmp_path: Path, suffix: str):
    dataset = extract(tmp_path, sequences_file(tmp_path, suffix), sequence_frames=4)
    assert dataset.manifest["sequence_dims"] == {"video": 3}
    (train,), (dev,) = dataset.split("train"), dataset.split("dev")
    for i, frames in enumerate(FRAMES.values()):
        expected = encoded(frames.astype(np.float32), pooling=("mean",), sequence_frames=4)
        assert train.values["video"][i].tobytes() == expected.vector.tobytes()
        np.testing.assert_array_equal(train.sequences["video"][i], expected.sequence)
    assert [len(sequence) for sequence in train.sequences["video"]] == [4, 2]
    np.testing.assert_allclose(train.sequences["video"][0][0], FRAMES["train/a_1"][:2].mean(axis=0), atol=1e-3)
    assert len(dev.sequences["video"][0]) == 0
    assert not dev.present["video"].any()
    assert registry.build(dataset.manifest["modalities"]["video"]["extractor"]).sequence_dim == 3


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_sequence_gives_its_mean_where_none_is_kept(tmp_path: Path, suffix: str):
    dataset = extract(tmp_path, sequences_file(tmp_path, suffix))
    assert dataset.manifest["sequence_dims"] == {}
    (train,) = dataset.split("train")
    expected = [frames.astype(np.float32).mean(axis=0) for frames in FRAMES.values()]
    np.testing.assert_array_equal(train.values["video"], expected)


@pytest.mark.parametrize("suffix", [".csv", *FORMATS])
def test_vectors_give_no_sequences(tmp_path: Path, suffix: str):
    content = {"a_2": [1.0, 2.0]}
    file = (
        features(tmp_path, "utterance,x,y\na_2,1,2\n") if suffix == ".csv" else write(tmp_path / f"f{suffix}", content)
    )
    dataset = extract(tmp_path, file, sequence_frames=4)
    assert dataset.manifest["sequence_dims"] == {}
    assert dataset.manifest["modalities"]["video"]["extractor"]["options"]["sequence_frames"] == 4


def test_values_beyond_float16_are_clipped_in_a_sequence_alone(tmp_path: Path):
    file = write(tmp_path / "f.npz", {"d_1": [[1e6], [3e6]]})
    found = results(corpus_of(d=["d_1"]), file, tmp_path, sequence_frames=2)["train d_1"]
    assert found.vector is not None
    assert found.sequence is not None
    assert found.vector.tolist() == [2e6]
    assert found.sequence.tolist() == [[65504], [65504]]


# ---- extractors and prediction ---------------------------------------------------------------------------------------


def test_an_npz_of_text_is_one_of_word_vectors_by_its_arrays(tmp_path: Path):
    np.savez(tmp_path / "words.npz", words=np.array(["a"]), vectors=np.ones((1, 2)))
    write(tmp_path / "ready.npz", {"words": [1.0]})
    (tmp_path / "damaged.npz").write_bytes(b"PK")
    names = {"words": "glove", "ready": "ready", "damaged": "ready", "missing": "glove"}
    for name, kind in names.items():
        assert registry._class_of("text", str(tmp_path / f"{name}.npz")).kind == kind
    for suffix in (".csv", ".CSV", ".parquet", ".safetensors"):
        assert registry._class_of("text", f"a/b{suffix}").kind == "ready"
    for modality in ("audio", "video"):
        for suffix in (".csv", ".npz", *FORMATS):
            assert registry._class_of(modality, f"a/b{suffix}").kind == "ready"


def test_text_comes_from_a_file_of_arrays(tmp_path: Path):
    file = write(tmp_path / "f.npz", {"a_2": [4.0]})
    dataset = extract(tmp_path, file, **{"text.model": str(file), "video.model": "none"})
    np.testing.assert_array_equal(dataset.split("train")[0].values["text"], [[0], [4]])
    rows = [row["reason"] for row in dataset.manifest["rows"]]
    assert rows == ["text: not in f.npz", "", "text: not in f.npz"]


def test_an_utterance_that_is_predicted_has_no_features_of_its_own(tmp_path: Path):
    dataset = extract(tmp_path, sequences_file(tmp_path, ".npz"), sequence_frames=4)
    video = registry.build(dataset.manifest["modalities"]["video"]["extractor"])
    prepared = video.prepare(None)
    assert (prepared.payload, prepared.status, prepared.reason) == (None, "degraded", "not in f.npz")
    dialogue = Dialogue(id="d", utterances=(Utterance(id="a_1", speaker="x", text="hello"),))
    found = engine.extract_dialogue(dialogue, {"video": video})
    assert not found.present["video"].any()
    assert [sequence.shape for sequence in found.sequences["video"]] == [(0, 3)]


def test_a_worker_gets_the_extractor_without_the_file(tmp_path: Path):
    ready = ReadyVideo(model=str(features(tmp_path, "utterance,x\na_2,1\n")))
    assert ready.dim == 1
    sent = pickle.loads(pickle.dumps(ready))
    assert "file" not in vars(sent)
    assert sent == ready != ReadyAudio(model=ready.model)
