"""CSV files with other delimiters, and the message that names all wrong rows. `test_meld.py` tests damaged text."""

from pathlib import Path

import pytest

from jmer.base.errors import UserError
from jmer.corpora import csvfile


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "any.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("a,b,c\n1,2,3\n", ("a", "b", "c")),
        ("a;b;c\n1;2;3\n", ("a", "b", "c")),
        ("a\tb\tc\n1\t2\t3\n", ("a", "b", "c")),
        ("\n;;\na;b\n1;2\n", ("a", "b")),
        ('"a";"b"\n"1";"2"\n', ("a", "b")),
        ('"a,x,y";b\n1;2\n', ("a,x,y", "b")),
        ('"a\nx";"b,c"\n1;2\n', ("a\nx", "b,c")),
        ("a\n1\n", ("a",)),
    ],
)
def test_the_delimiter_is_that_of_the_header(tmp_path: Path, text: str, columns: tuple[str, ...]):
    table = csvfile.read(write(tmp_path, text), delimiters=",;\t")
    assert table.columns == columns
    assert list(table.rows[0].cells) == list(columns)


def test_the_delimiter_of_two_is_the_one_whose_header_fits(tmp_path: Path):
    path = write(tmp_path, "a,1,2;b;c,3,4\nx;y;z\n")
    assert csvfile.read(write(tmp_path, "a,1,2;b;c,3,4\nx,y,z,u,v\n"), delimiters=",;").columns[1] == "1"
    path.write_text("a,1,2;b;c,3,4\nx;y;z\n")
    assert csvfile.read(path, delimiters=",;", fit=lambda header: "b" in header).columns == ("a,1,2", "b", "c,3,4")


def test_only_commas_by_default(tmp_path: Path):
    assert csvfile.read(write(tmp_path, "a;b\n1;2\n")).columns == ("a;b",)


def test_rows_of_another_length_are_named_at_once(tmp_path: Path):
    path = write(tmp_path, "a;b\n1;2\n1\n1;2;3\n1\n")
    with pytest.raises(UserError) as caught:
        csvfile.read(path, delimiters=",;")
    assert str(caught.value) == (
        f"{path}: 3 rows are wrong: (1) lines 3, 5: has 1 cells where the header has 2; put quotes around a cell that "
        "holds a semicolon (2) line 4: has 3 cells where the header has 2; put quotes around a cell that holds a "
        "semicolon"
    )
    with pytest.raises(UserError, match=r"any\.csv:2: has 3 cells .* holds a comma$"):
        csvfile.read(write(tmp_path, "a,b\n1,2,3\n"))


def test_a_header_that_no_delimiter_makes_well_formed(tmp_path: Path):
    with pytest.raises(UserError, match=r"any\.csv:1: is not well-formed CSV"):
        csvfile.read(write(tmp_path, '"a"x,"b\n'), delimiters=",;\t")
