"""What `fuzz.py` tries: for each kind of input a property, which a strategy of hypothesis feeds.

A property reads an input and returns; the only error that may come out is `jmer.UserError`. Inputs are good files with
mistakes in them: bytes flipped, pieces cut or repeated, lines in another order, cells replaced. Bytes of no form at all
are the smaller part.
"""

import io
import json
import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from safetensors.numpy import save

import jmer
from jmer.base import cli, files, options
from jmer.base.types import Dialogue, Utterance
from jmer.config import base
from jmer.corpora import table, transcript
from jmer.dataset import manifest
from jmer.features import readyfile
from jmer.features.text.glove import Vectors
from jmer.runs.given import dialogue_of
from jmer.training.options import TrainOptions

Property = Callable[[Any], object]

# Words that parsers trip over, beside any text.
ODD = st.sampled_from(
    ["", " ", "0", "-1", "1e999", "nan", "inf", "None", "none", "\t", "\0", '"', '""', "'", ",", ";", "\r", "\n",
     "\x85", "\u2028", "\ufeff", "\ud800", "é", "=1+1", "00:00:01,500", "-00:01", "99:99:99", "-->", "[", "{", "[]",
     "{}", "/", "..", "../x", "<v Ada>", "train", "test", "dev", "text", "1" * 5000, "9" * 20]
)  # fmt: skip
WORDS = st.one_of(ODD, st.text(max_size=12))
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([0, -1, 1 << 70, math.nan, math.inf, 1e300, True]))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(WORDS, inner, max_size=4)),
    max_leaves=8,
)


@st.composite
def mutated(draw: st.DrawFn, good: bytes) -> bytes:
    """Bytes of a good file with a few mistakes, or bytes of no form."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        at, to = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        how = draw(st.integers(0, 6))
        if how == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << draw(st.integers(0, 7))
        elif how == 1:
            del data[at:to]
        elif how == 2:
            data[at:at] = data[at : min(to, at + 64)]
        elif how == 3:
            data[at:at] = draw(st.binary(max_size=6))
        elif how == 4:
            data[at : at + 1] = draw(WORDS).encode("utf-8", "surrogatepass")
        elif how == 5:
            lines = bytes(data).splitlines(keepends=True)
            data = bytearray(b"".join(draw(st.permutations(lines)) if len(lines) < 30 else lines[::-1]))
        else:
            data = data[:at]
    return bytes(data)


def files_of(goods: Mapping[str, bytes]) -> st.SearchStrategy[tuple[str, bytes]]:
    """Pairs of a file's name and of mutated content."""
    return st.one_of([st.tuples(st.just(name), mutated(good)) for name, good in goods.items()])


def reading(read: Callable[[Path], object]) -> Property:
    """Returns the property that a file of a name and a content is read."""

    def property_of(given: tuple[str, bytes]) -> None:
        name, content = given
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / name
            file.write_bytes(content)
            read(file)

    return property_of


# ---- tables ----------------------------------------------------------------------------------------------------------

HEAD = ["dialogue", "utterance", "speaker", "text", "label", "split", "clip", "sentiment", "start", "end"]
GOOD_ROWS = [
    ["a", "1", "x", "hello, you", "glad", "train", "", "positive", "0", "1.5"],
    ["a", "2", "y", 'he said "no"', "cross", "train", "clip.mp4", "negative", "0:01", "00:00:02.5"],
    ["b", "1", "x", "", "glad", "dev", "", "", "", ""],
    ["c", "1", "z", "café", "", "test", "", "neutral", "", ""],
]


def as_csv(rows: list[list[str]], delimiter: str = ",") -> bytes:
    quoted = [
        ['"' + cell.replace('"', '""') + '"' if set(cell) & set(',;\t"\n') else cell for cell in row] for row in rows
    ]
    return "\n".join(delimiter.join(row) for row in quoted).encode("utf-8", "surrogatepass")


@st.composite
def cells(draw: st.DrawFn) -> tuple[str, bytes]:
    """A table of which some cells, names or rows are others."""
    rows = [list(HEAD), *(list(row) for row in GOOD_ROWS)]
    for _ in range(draw(st.integers(0, 4))):
        row = draw(st.sampled_from(rows))
        row[draw(st.integers(0, len(row) - 1))] = draw(WORDS)
    if draw(st.booleans()):
        rows = [rows[0], *draw(st.permutations(rows[1:]))]
    return "t.csv", as_csv(rows, draw(st.sampled_from(",;\t")))


def read_table(file: Path) -> None:
    error = None
    for for_prediction in (True, False):
        try:
            corpus = table.load(file, for_prediction=for_prediction)
        except jmer.UserError as refusal:
            error = refusal
            continue
        for dialogues in corpus.splits.values():
            for dialogue in dialogues:
                names = [u.id for u in dialogue.utterances]
                assert len(set(names)) == len(names)
                assert all(u.label is None or u.label in corpus.labels for u in dialogue.utterances)
    if error:
        raise error


# ---- transcripts -----------------------------------------------------------------------------------------------------

SEGMENTS = [{"text": "Hi.", "start": 0.5, "end": 1.0, "speaker": "A", "id": 1}, {"text": "Bye", "start": 2, "end": 3}]
CUES = "1\n00:00:01,000 --> 00:00:02,500\nANA: Hi <i>there</i>\n\n2\n00:00:03,000 --> 00:00:04,000\n- Bye\n- No\n"
TRANSCRIPTS = {
    "t.srt": CUES.encode(),
    "t.vtt": b"WEBVTT\n\nNOTE x\n\n" + CUES.replace(",", ".").replace("ANA: ", "<v Ana>").encode(),
    "t.csv": b'start,end,speaker,text\n0,1.5,A,hello\n00:02,00:03.5,B,"no, you"\n',
    "t.tsv": b"start\tend\ttext\n0\t1500\thello\n2000\t3500\tyou\n",
    "t.json": json.dumps({"segments": SEGMENTS}).encode(),
    "t.txt": b"ANA: Hello.\n\nBO: Why?\nNote: this\n",
}


def read_transcript(file: Path) -> None:
    dialogue, _ = transcript.read(file)
    names = [u.id for u in dialogue.utterances]
    assert names
    assert len(set(names)) == len(names)
    for u in dialogue.utterances:
        assert (u.start is None) == (u.end is None)
        assert u.start is None or u.end is None or 0 <= u.start < u.end < math.inf


@st.composite
def segments(draw: st.DrawFn) -> tuple[str, bytes]:
    """A transcript in JSON of which some fields are others."""
    listed = [dict(segment) for segment in SEGMENTS]
    for _ in range(draw(st.integers(1, 3))):
        draw(st.sampled_from(listed))[draw(st.sampled_from(["text", "start", "end", "speaker", "id"]))] = draw(JSON)
    return "t.json", json.dumps(draw(st.sampled_from([listed, {"segments": listed}]))).encode("utf-8", "surrogatepass")


# ---- manifests and configs -------------------------------------------------------------------------------------------

ABSENT = {"dim": 0, "extractor": None, "fingerprint": "", "reason": "off"}
MANIFEST = {
    "schema_version": 4, "name": "x", "labels": ["a", "b"], "splits": {"train": {"dialogues": 1, "utterances": 2}},
    "modalities": {"text": {"dim": 2, "extractor": {"kind": "lite"}, "fingerprint": "f", "reason": ""}, "audio": ABSENT,
                   "video": ABSENT},
    "sequence_dims": {"text": 3}, "sequence_lengths": {"text": 5}, "rows": [{"split": "train"}], "notes": [],
    "views": 0, "augmentation": {}, "libraries": {}, "inputs_sha256": "", "files": {"a": "0"},
}  # fmt: skip


@st.composite
def manifests(draw: st.DrawFn) -> dict[str, Any]:
    """A manifest in which some entries, at any depth, are others or missing."""
    content = json.loads(json.dumps(MANIFEST))
    for _ in range(draw(st.integers(0, 3))):
        place = content
        while True:
            key = draw(st.sampled_from(sorted(place)))
            inner = place[key]
            if isinstance(inner, dict) and inner and draw(st.booleans()):
                place = inner
                continue
            break
        if draw(st.integers(0, 4)) == 0:
            del place[key]
            if not content:
                break
        else:
            place[key] = draw(JSON)
    return content


def sealed(content: dict[str, Any]) -> bytes:
    return json.dumps(content | {files.SEAL: files.seal(content)}).encode()


def read_manifest(content: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / manifest.MANIFEST).write_bytes(sealed(content))
        found = manifest.read(Path(name))
        manifest.check_files(Path(name), found)


FIELDS = [name for name, _, _ in options.fields(TrainOptions())]
OVERRIDES = st.lists(
    st.sampled_from([(name, str(value)) for name, value, _ in options.fields(TrainOptions())])
    | st.tuples(
        st.one_of(st.sampled_from(FIELDS), WORDS),
        st.one_of(WORDS, NUMBERS.map(str), JSON.map(repr), st.sampled_from(["gat", "rgcn,gat", "gru", "true", "1e-3"])),
    ),
    min_size=1,
    max_size=3,
)


def read_config(overrides: list[tuple[str, str]]) -> None:
    config = base()
    for name, text in overrides:
        cli.set_field(config, name, text)
    options.from_config(TrainOptions, config)


def read_run_config(content: dict[str, Any]) -> None:
    options.from_config(TrainOptions, content)


RUN_CONFIGS = st.dictionaries(st.one_of(st.sampled_from([f.split(".")[0] for f in FIELDS]), WORDS), JSON, max_size=3)

# ---- arguments of predict --------------------------------------------------------------------------------------------

VECTORS = st.one_of(
    JSON,
    st.lists(st.floats(width=32), max_size=4),
    st.sampled_from(
        [np.ones(3), np.ones((2, 2)), np.array(["a"]), np.array([None]), np.float32(1), np.ones(0), object()]
    ),
)
VALUES = st.one_of(JSON, NUMBERS, WORDS, st.binary(max_size=3), st.sampled_from([Path("x"), object(), np.float64(1.5)]))
GIVEN = st.dictionaries(
    st.one_of(st.sampled_from(["id", "speaker", "text", "clip", "start", "end", "features"]), WORDS, st.integers()),
    st.one_of(
        VALUES, st.dictionaries(st.one_of(st.sampled_from(["text", "audio", "video"]), WORDS), VECTORS, max_size=2)
    ),
    max_size=4,
)
DIALOGUES = st.one_of(
    VALUES,
    st.lists(st.one_of(WORDS, GIVEN, VALUES), max_size=4),
    st.tuples(GIVEN),
    st.builds(lambda f: Dialogue(id="d", utterances=(Utterance(id="u", speaker="a", features=f),)),
              st.dictionaries(st.sampled_from(["text", "x"]), VECTORS, max_size=2)),
)  # fmt: skip


def read_dialogue(given: Any) -> None:
    found = dialogue_of(given)
    assert isinstance(found, Dialogue)
    for u in found.utterances:
        assert isinstance(u.text, str)
        assert isinstance(u.id, str)


# ---- arrays ----------------------------------------------------------------------------------------------------------

ARRAYS = {"a_1": np.arange(4, dtype=np.float32), "a_2": np.ones(4, np.float32)}


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


READY = {
    "f.npz": npz(**ARRAYS),
    "f.safetensors": save(ARRAYS),
    "f.csv": b"dialogue,utterance,x,y\na,1,0.5,1\na,2,3,4e-3\n",
}
WORD_FILES = {
    "w.txt": b"the 0.1 0.2 0.3\nof 1 2 3\nnaive -1 0 1e-3\n",
    "w.npz": npz(words=np.array(["the", "of"]), vectors=np.ones((2, 3), np.float32)),
}


def read_ready(file: Path) -> None:
    for entry in readyfile.open_file(file).entries():
        assert np.isfinite(entry.values).all()


def read_words(file: Path) -> None:
    vectors = Vectors(file)
    for word in [*vectors._index][:20]:
        assert vectors[word].shape == (vectors.dim,)
        assert np.isfinite(vectors[word]).all()


# name -> the strategy of its inputs, and the property.
PROPERTIES: Mapping[str, tuple[st.SearchStrategy[Any], Property]] = {
    "tables": (st.one_of(cells(), files_of({"t.csv": as_csv([HEAD, *GOOD_ROWS])})), reading(read_table)),
    "transcripts": (st.one_of(files_of(TRANSCRIPTS), segments()), reading(read_transcript)),
    "manifests": (manifests(), read_manifest),
    "manifests as bytes": (files_of({"manifest.json": sealed(MANIFEST)}),
                           reading(lambda file: manifest.read(file.parent))),
    "config overrides": (OVERRIDES, read_config),
    "config.json of runs": (RUN_CONFIGS, read_run_config),
    "arguments of predict": (DIALOGUES, read_dialogue),
    "ready features": (files_of(READY), reading(read_ready)),
    "word vectors": (files_of(WORD_FILES), reading(read_words)),
}  # fmt: skip
