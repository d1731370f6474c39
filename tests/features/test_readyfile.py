"""Files of ready features that cannot be used: each is refused with its name, the row or array, and what to do."""

import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from ready_files import TABLE, write, write_parquet
from ready_files import extract as extract_table

from jmer.base.errors import UserError
from jmer.features import readyfile
from jmer.features.readyfile import open_file

FORMATS = (".parquet", ".npz", ".safetensors")
ARRAYS = (".npz", ".safetensors")


def extract(folder: Path, file: Path, **options: str) -> None:
    """Extracts a table of one split with the file as its video features."""
    extract_table(folder, file, table=TABLE.removesuffix("a,1,x,what,glad,dev\n"), **options)


def read(path: Path) -> list[readyfile.Entry]:
    return list(open_file(path).entries())


# ---- any format ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", *FORMATS])
def test_a_file_that_is_missing_or_a_folder(tmp_path: Path, suffix: str):
    path = tmp_path / f"f{suffix}"
    with pytest.raises(UserError, match=rf"f{suffix}: cannot be read \(No such file or directory\); give the path of"):
        extract(tmp_path, path)
    path.mkdir()
    with pytest.raises(UserError, match=rf"f{suffix}: cannot be read \(Is a directory\); give the path of a file"):
        extract(tmp_path, path)


@pytest.mark.parametrize("suffix", [".csv", *FORMATS])
def test_a_file_of_no_bytes(tmp_path: Path, suffix: str):
    (tmp_path / f"f{suffix}").write_bytes(b"")
    with pytest.raises(UserError, match=rf"f{suffix}: "):
        extract(tmp_path, tmp_path / f"f{suffix}")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_of_no_features(tmp_path: Path, suffix: str):
    path = tmp_path / f"f{suffix}"
    if suffix == ".parquet":
        write_parquet(path, utterance=pyarrow.array([], "string"), x=pyarrow.array([], "float32"))
    else:
        write(path, {})
    unit = "row" if suffix == ".parquet" else "array"
    with pytest.raises(UserError, match=rf"f{suffix}: is empty; expected at least one {unit} of features"):
        extract(tmp_path, path)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_that_was_cut_or_is_none(tmp_path: Path, suffix: str):
    path = write(tmp_path / f"f{suffix}", {f"d_{i}": np.arange(50.0) for i in range(9)})
    whole = path.read_bytes()
    assert len(read(path)) == 9
    for content in [whole[: len(whole) * i // 40] for i in range(40)] + [pickle.dumps({"d_1": [1.0]}), b"\0" * 500]:
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"f{suffix}.*(save it|make the file) anew"):
            read(path)


@pytest.mark.parametrize("suffix", ARRAYS)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1.0, np.nan], r"the value at \[1\] is nan in float32; expected finite numbers: correct the value, or leave"),
        ([[1.0], [-np.inf]], r"the value at \[1, 0\] is -inf in float32"),
        ([1e39, 1.0], r"the value at \[0\] is inf in float32"),
        (np.ones((1, 1, 1)), r"has shape \[1, 1, 1\]; expected \[D\] for a vector or \[T, D\] for a sequence"),
        (np.float32(1), r"has shape \[\]; expected"),
        (np.ones(0), r"has shape \[0\]; expected \[D\] .*, of at least one number: leave the utterance out if"),
        (np.ones((0, 5)), r"has shape \[0, 5\]; expected"),
        ([True, False], r"holds .*; expected numbers: save them as"),
        (np.ones(1, np.complex64), r"holds .*; expected numbers: save them as"),
    ],
)
def test_arrays_that_are_no_features(tmp_path: Path, suffix: str, value: Any, message: str):
    path = write(tmp_path / f"f{suffix}", {"a_1": np.asarray(value)})
    with pytest.raises(UserError, match=rf"f{suffix}, array 'a_1': {message}"):
        extract(tmp_path, path)


@pytest.mark.parametrize("suffix", FORMATS)
def test_arrays_of_several_forms(tmp_path: Path, suffix: str):
    where = rf"f{suffix}, (array 'a_2'|row 2)"
    path = write(tmp_path / f"f{suffix}", {"a_1": np.ones(3), "a_2": np.ones(4)})
    with pytest.raises(
        UserError, match=where + ": holds 4 features, and the first one of the file holds 3; expected as"
    ):
        extract(tmp_path, path)
    path = write(tmp_path / f"f{suffix}", {"a_1": np.ones((5, 3)), "a_2": np.ones((3, 5))})
    with pytest.raises(UserError, match=where + ": holds 5 features, and the first one of the file holds 3"):
        extract(tmp_path, path)
    if suffix != ".parquet":  # one column of Parquet holds values of one type
        path = write(tmp_path / f"f{suffix}", {"a_1": np.ones((2, 3)), "a_2": np.ones(3)})
        message = (
            r": holds an array of shape \[3\], and the first one of the file has shape \[2, 3\]; keep vectors \[D\]"
        )
        with pytest.raises(UserError, match=where + message):
            extract(tmp_path, path)


# ---- CSV -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,AU01\na_1,1\n", "lacks the column utterance"),
        ("utterance\na_1\n", "one column of features beside the utterance"),
        ("utterance,AU01\n", "is empty; expected at least one row of features"),
        ("utterance,AU01\na_1,1\na_1,2\n", "faces.csv:3: utterance a_1 has a row already"),
        ("dialogue,utterance,AU01\na,1,1\na,1,2\n", "faces.csv:3: utterance a/1 has a row already"),
        ("dialogue,utterance,AU01\na,1,1\n,2,2\n", "faces.csv:3: the dialogue cell is empty; fill it in"),
        ("dialogue,UttID,AU01\na,,1\n", "faces.csv:2: the UttID cell is empty; fill it in"),
        ("session,conv,utterance,AU01\na,a,1,1\n", "session and conv may be the dialogue; rename the right one to"),
        ("utterance,split,split,AU01\na_1,train,train,1\n", "has the column split more than once"),
        ("utterance,AU01,AU01\na_1,1,2\n", "has the column AU01 more than once; rename or remove one"),
        (",utterance,AU01\n0,a_1,1\n", "the column '' has no name, as the row numbers that pandas writes; save with"),
        ("utterance,AU01\na_1,nan\n", "faces.csv:2, column AU01: 'nan' is no finite number"),
        ("utterance,AU01\na_1,\n", "faces.csv:2, column AU01: '' is no finite number"),
        ("utterance,AU01\na_2,1e39\n", r"faces.csv:2: the value at \[0\] is inf in float32; expected finite numbers"),
        (
            "utterance,AU01\nz,1\n",
            "no row is of an utterance of table; the first row is of 'z', and ids there are like",
        ),
    ],
)
def test_wrong_csv(tmp_path: Path, content: str, message: str):
    (tmp_path / "faces.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        extract(tmp_path, tmp_path / "faces.csv")


# ---- Parquet ---------------------------------------------------------------------------------------------------------


NAMES = {"utterance": ["a_1", "a_2"]}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"id": ["a_1"], "x": [1.0]},
            r"f.parquet: lacks the column utterance \(found: id, x\); it says which utterance",
        ),
        (NAMES, "f.parquet: expected at least one column of features beside the utterance; add it"),
        (
            NAMES | {"who": ["x", "y"], "x": [1, 2]},
            "f.parquet, column who: holds string; expected numbers, or lists or",
        ),
        (NAMES | {"x": [True, False]}, "column x: holds bool; expected numbers"),
        (NAMES | {"x": [[[[1.0]]], [[[1.0]]]]}, "column x: holds list.*; expected numbers, or lists or lists of lists"),
        (NAMES | {"x": [["1"], ["2"]]}, "column x: holds list.*string.*; expected numbers"),
        (
            NAMES | {"x": [[1.0], [1.0]], "y": [1.0, 2.0]},
            "has 2 columns of features, of which x holds lists; expected one column of lists, or a number in each col",
        ),
        (NAMES | {"x": [1.0, None]}, r"f.parquet, row 2: the value at \[0\] is nan in float32"),
        (NAMES | {"x": [1, None], "y": [1, 1]}, r"f.parquet, row 2: the value at \[0\] is nan in float32"),
        (NAMES | {"x": [[1.0], [None]]}, r"f.parquet, row 2: the value at \[0\] is nan in float32"),
        (
            NAMES | {"x": [[1.0], None]},
            "f.parquet, row 2: there is no list where one is expected; fill it in, or leave",
        ),
        (NAMES | {"x": [[[1.0]], [[1.0], None]]}, "f.parquet, row 2: there is no list where one is expected"),
        (NAMES | {"x": [[[1.0]], None]}, "f.parquet, row 2: there is no list where one is expected"),
        (NAMES | {"x": [[1.0], []]}, r"f.parquet, row 2: has shape \[0\]; expected"),
        (NAMES | {"x": [[[1.0]], []]}, r"f.parquet, row 2: has shape \[0, 0\]; expected"),
        (NAMES | {"x": [[[1.0]], [[], []]]}, r"f.parquet, row 2: has shape \[2, 0\]; expected"),
        (
            NAMES | {"x": [[[1.0]], [[1.0], [1.0, 2.0]]]},
            r"row 2: the lists in the list hold from 1 to 2 numbers; expected as many in each, \[T, D\]",
        ),
        ({"utterance": ["a_1", "a_1"], "x": [1.0, 2.0]}, "f.parquet, row 2: utterance a_1 has a row already"),
        ({"utterance": ["a_1", None], "x": [1.0, 2.0]}, "f.parquet, row 2: the utterance cell is empty; fill it in"),
        (
            {"dialogue": ["a"], "utterance": [1.0], "x": [1.0]},
            "f.parquet, row 1: utterance is 1.0, of the type float; expected a text or a whole number",
        ),
        ({"utterance": [True], "x": [1.0]}, "row 1: utterance is True, of the type bool; expected a text or a whole"),
        (NAMES | {"__index_level_0__": [0, 1]}, "the column '__index_level_0__' has no name, as the row numbers that"),
    ],
)
def test_wrong_parquet(tmp_path: Path, columns: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        extract(tmp_path, write_parquet(tmp_path / "f.parquet", **columns))


def test_parquet_of_many_rows_and_row_groups_is_read_in_order(tmp_path: Path):
    count = 3 * 1024 + 5
    ids, numbers = [f"d_{i}" for i in range(count)], np.arange(2.0 * count).reshape(count, 2)
    for columns in ({"x": numbers[:, 0], "y": numbers[:, 1]}, {"both": list(numbers)}):
        file = pyarrow.table({"utterance": ids, **columns})
        parquet.write_table(file, tmp_path / "f.parquet", row_group_size=700)
        entries = read(tmp_path / "f.parquet")
        assert [entry.key for entry in entries] == [("", "", name) for name in ids]
        np.testing.assert_array_equal([entry.values for entry in entries], numbers)
        assert entries[-1].where.endswith(f"f.parquet, row {count}")


def test_categories_of_pandas_are_names(tmp_path: Path):
    names = pyarrow.array(["a", "a"]).dictionary_encode()
    path = write_parquet(tmp_path / "f.parquet", dialogue=names, utterance=[1, 2], x=[1.0, 2.0])
    assert [entry.name for entry in read(path)] == ["a/1", "a/2"]


# ---- npz and safetensors ---------------------------------------------------------------------------------------------


class Hostile:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_npz_is_never_unpickled(tmp_path: Path):
    trace = tmp_path / "trace"
    path = tmp_path / "f.npz"
    np.savez(path, good=np.ones(2), a_1=np.array([Hostile(trace)], object))
    with pytest.raises(
        UserError, match=r"f.npz, array 'a_1': cannot be read \(Object arrays cannot .*without Python obj"
    ):
        extract(tmp_path, path)
    with pytest.raises(UserError, match=r"f.npz, array 'a_1': cannot be read"):
        extract(tmp_path, path, **{"text.model": str(path), "video.model": "none"})
    path.write_bytes(pickle.dumps(Hostile(trace)))
    with pytest.raises(UserError, match=r"f.npz: is no npz archive, or a damaged one"):
        extract(tmp_path, path)
    assert not trace.exists()
    pickle.loads(path.read_bytes())
    assert trace.exists()  # so that the pickle is a hostile one


def test_npz_with_other_members(tmp_path: Path):
    path = write(tmp_path / "f.npz", {"a_1": [1.0]})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("about.txt", "hello")
    with pytest.raises(
        UserError, match=r"f.npz, array 'about.txt': is no .npy; expected the arrays of numpy.savez alone"
    ):
        read(path)
    path = write(tmp_path / "g.npz", {"a_1": [1.0]})
    with zipfile.ZipFile(path) as archive:
        content = archive.read("a_1.npy")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a_1.npy", content)
    with pytest.raises(UserError, match=r"g.npz: holds 'a_1.npy' twice; save the file anew"):
        read(path)
    np.save(tmp_path / "h.npy", np.ones(2))
    (tmp_path / "h.npy").rename(tmp_path / "h.npz")
    with pytest.raises(UserError, match=r"h.npz: is no npz archive"):
        read(tmp_path / "h.npz")


def test_npz_with_a_changed_byte_or_a_shape_of_terabytes(tmp_path: Path):
    path = write(tmp_path / "f.npz", {"a_1": np.ones(100)})
    content = bytearray(path.read_bytes())
    content[content.index(np.ones(50).tobytes()) + 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"f.npz, array 'a_1': cannot be read \(Bad CRC-32"):
        read(path)
    with zipfile.ZipFile(path, "w") as archive, archive.open("a_1.npy", "w") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (10**14,)})
    with pytest.raises(UserError, match=r"f.npz, array 'a_1': cannot be read"):
        read(path)


def test_npz_keeps_names_that_end_like_files(tmp_path: Path):
    path = write(tmp_path / "f.npz", {"a": [1.0], "a.npy": [2.0]})
    assert [(entry.name, entry.values.tolist()) for entry in read(path)] == [("a", [1]), ("a.npy", [2])]


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3", "BOOL"])
def test_safetensors_of_other_types(tmp_path: Path, kind: str):
    size = 2 if kind == "BF16" else 1
    head = json.dumps({"a_1": {"dtype": kind, "shape": [3], "data_offsets": [0, 3 * size]}}).encode()
    path = tmp_path / "f.safetensors"
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"\1" * 3 * size)
    with pytest.raises(
        UserError, match=f"f.safetensors, array 'a_1': holds {kind}; expected numbers: save them as F32 o"
    ):
        read(path)


def test_a_file_is_closed_when_its_first_array_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    closed = []
    monkeypatch.setattr(zipfile.ZipFile, "__exit__", lambda archive, *_: closed.append(archive.filename))
    path = write(tmp_path / "f.npz", {"a": [1.0, 2.0], "b": [3.0, 4.0]})
    closed.clear()
    file = open_file(path)
    assert (file.dim, file.ndim) == (2, 1)
    assert closed == [str(path)]
