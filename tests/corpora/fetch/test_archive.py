"""Tests archives that are nested, cut off while they are unpacked, or too large for the disk.

Hostile ones, and other kinds of damage: test_hostile_archives.py.
"""

import contextlib
import io
import logging
import os
import random
import resource
import shutil
import tarfile
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import meld_archive
import pytest
from meld_archive import read_tree, tar_bytes

from jmer.base import files
from jmer.base.errors import UserError
from jmer.corpora.fetch import archive, disk, members

FILES = {"a.txt": b"one", "folder/b.bin": bytes(range(256)) * 50, "folder/deep/c": b"", "empty/": b""}
NESTED = {
    "top/readme": b"read",
    "top/in.tar.gz": tar_bytes(FILES),
    "top/sub/more.tgz": tar_bytes({"d": b"dd", "inner.zip": b""} | {"inner.zip": b""}),
}


def zip_bytes(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return buffer.getvalue()


NESTED["top/sub/more.tgz"] = tar_bytes({"d": b"dd", "inner.zip": zip_bytes({"e/f": b"ef"})})
UNPACKED = {
    "top/readme": b"read",
    **{f"top/{name}": data for name, data in FILES.items() if not name.endswith("/")},
    "top/sub/d": b"dd",
    "top/sub/e/f": b"ef",
}


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "w:", "zip"])
def test_formats_by_content(tmp_path: Path, mode: str):
    data = zip_bytes(FILES) if mode == "zip" else tar_bytes(FILES, mode=mode)
    archive.unpack(written(tmp_path / "of_any_name", data), tmp_path / "out")
    assert read_tree(tmp_path / "out") == {name: data for name, data in FILES.items() if name != "empty/"}
    assert (tmp_path / "out/empty").is_dir()


def test_archives_within_archives(tmp_path: Path):
    file = written(tmp_path / "x.tar.gz", tar_bytes(NESTED))
    archive.unpack(file, tmp_path / "out")
    assert read_tree(tmp_path / "out") == UNPACKED
    assert file.exists()

    archive.unpack(file, tmp_path / "kept", keep=True)
    inner = {name: data for name, data in NESTED.items() if name.endswith("gz")}
    assert inner.items() <= read_tree(tmp_path / "kept").items()
    assert len(read_tree(tmp_path / "kept")) == len(UNPACKED) + 3


def test_archive_that_holds_itself_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = written(tmp_path / "x.tar.gz", tar_bytes({"y.tar.gz": b"?"}))
    monkeypatch.setattr(members, "members", lambda raw: members.of_tar(io.BytesIO(QUINE)))
    archive.unpack(file, tmp_path / "out")
    assert list(read_tree(tmp_path / "out")) == ["y/" * 4 + "y.tar.gz"]


QUINE = tar_bytes({"y/y.tar.gz": b"stands for itself"}, mode="w:")


def test_leftovers_of_macos_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "jmer")
    files = {"a": b"1", "._a": b"2", "x/._b": b"3", "x/.DS_Store": b"4", "__MACOSX/x/c": b"5", "x/.hidden": b"6"}
    for name, data in (("x.tar.gz", tar_bytes(files)), ("x.zip", zip_bytes(files))):
        archive.unpack(written(tmp_path / name, data), tmp_path / "out")
        assert read_tree(tmp_path / "out") == {"a": b"1", "x/.hidden": b"6"}
        assert f"{name}: 4 files that macOS had added were left out" in caplog.text


@pytest.mark.parametrize("kind", ["w:gz", "w:bz2", "w:xz", "w:", "zip"])
def test_cut_off_anywhere_is_an_error_and_never_a_file_less(tmp_path: Path, kind: str):
    files = {f"{i}.bin": random.Random(i).randbytes(700) for i in range(6)}
    data = zip_bytes(files) if kind == "zip" else tar_bytes(files, mode=kind)
    file = tmp_path / "x"
    refused = 0
    for length in sorted({*range(0, len(data), 211), *range(0, len(data), 512), len(data) - 1}):
        file.write_bytes(data[:length])
        try:
            archive.unpack(file, tmp_path / "out")
        except archive.Damaged:
            refused += 1
        else:
            assert read_tree(tmp_path / "out") == files, length  # only tar's padding is gone
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert refused > 15


@pytest.mark.parametrize("kind", ["w:gz", "w:xz", "zip"])
def test_flipped_bits_are_errors_or_without_effect(tmp_path: Path, kind: str):
    files = {f"{i}.bin": random.Random(i).randbytes(100) for i in range(3)}
    data = zip_bytes(files) if kind == "zip" else tar_bytes(files, mode=kind)
    draw = random.Random(0)
    refused = 0
    for i in range(0, len(data), 5):
        damaged = bytearray(data)
        damaged[i + draw.randrange(min(5, len(data) - i))] ^= 1 << draw.randrange(8)
        try:
            archive.unpack(written(tmp_path / "x", bytes(damaged)), tmp_path / "out")
        except UserError:
            refused += 1
        else:
            assert read_tree(tmp_path / "out") == files
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert refused > 30


def test_no_file_at_all(tmp_path: Path):
    with pytest.raises(UserError, match="there is no such file"):
        archive.unpack(tmp_path / "absent", tmp_path / "out")


def test_bad_archive_leaves_what_an_earlier_call_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    good = written(tmp_path / "x.tar.gz", tar_bytes({"a": b"1", "in.tar.gz": tar_bytes({"b": b"2"})[:-9]}))
    with monkeypatch.context() as patch:  # killed between the archive and the one within
        patch.setattr(archive, "_unpack_within", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            archive.unpack(good, tmp_path / "out")
    written(tmp_path / "out/mine", b"added by hand")
    before = read_tree(tmp_path)
    with pytest.raises(archive.Damaged):  # the archive within
        archive.unpack(good, tmp_path / "out")
    assert read_tree(tmp_path) == before
    bad = written(tmp_path / "y.tar.gz", b"no archive")
    with pytest.raises(archive.Damaged):
        archive.unpack(bad, tmp_path / "out")
    assert read_tree(tmp_path) == before | {"y.tar.gz": b"no archive"}


STEPS = (
    (Path, "rename"),
    (Path, "unlink"),
    (Path, "mkdir"),
    (shutil, "rmtree"),
    (files, "save_json"),
    (disk, "need"),
    (archive, "install"),
)


def killed_at(step: int, monkeypatch: pytest.MonkeyPatch, *, after: bool) -> Callable[[], bool]:
    """Makes the process die before or after the step of that number. Returns whether there was such a step."""
    count = 0

    def wrapped(original: Callable) -> Callable:
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count == step and not after:
                raise KeyboardInterrupt
            result = original(*args, **kwargs)
            if count == step and after:
                count += 1  # of steps within steps only the innermost
                raise KeyboardInterrupt
            return result

        return call

    for owner, name in STEPS:
        monkeypatch.setattr(owner, name, wrapped(getattr(owner, name)))
    return lambda: count >= step


@pytest.mark.parametrize(("keep", "after"), [(False, False), (True, True)])
def test_killed_at_any_step_and_run_again(tmp_path: Path, monkeypatch, keep: bool, after: bool):
    file = written(tmp_path / "x.tar.gz", tar_bytes(NESTED))
    archive.unpack(file, tmp_path / "unbroken", keep=keep)
    expected = read_tree(tmp_path / "unbroken")
    step = 0
    while True:
        step += 1
        out = tmp_path / f"{step}"
        with monkeypatch.context() as patch:
            died = killed_at(step, patch, after=after)
            with contextlib.suppress(KeyboardInterrupt):
                archive.unpack(file, out, keep=keep)
            if not died():
                break
        archive.unpack(file, out, keep=keep)
        assert read_tree(out) == expected, step
        assert not list(tmp_path.rglob("*.partial")), step
    assert step > 30


def test_what_is_unpacked_is_not_unpacked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = written(tmp_path / "x.tar.gz", tar_bytes({name: tar_bytes({f"{name}.d": b"1"}) for name in INNER}))
    opened: list[str] = []
    original = archive._unpack_one

    def unpack_one(path: Path, into: Path, job: archive._Job) -> None:
        opened.append(path.name)
        if len(opened) == 3:
            raise KeyboardInterrupt
        original(path, into, job)

    monkeypatch.setattr(archive, "_unpack_one", unpack_one)
    with pytest.raises(KeyboardInterrupt):
        archive.unpack(file, tmp_path / "out", keep=True)
    archive.unpack(file, tmp_path / "out", keep=True)
    archive.unpack(file, tmp_path / "out", keep=True)
    assert opened == ["x.tar.gz", "a.tar.gz", "b.tar.gz", "b.tar.gz", "c.tar.gz"]


INNER = ("a.tar.gz", "b.tar.gz", "c.tar.gz")


def test_another_archive_starts_over(tmp_path: Path):
    contents = {"x.tar.gz": {"a": b"1", "b": b"2"}, "y.tar.gz": {"a": b"3"}}
    for name, content in contents.items():
        written(tmp_path / name, tar_bytes(content))
    for name in ("x.tar.gz", "y.tar.gz", "x.tar.gz"):
        archive.unpack(tmp_path / name, tmp_path / "out")
        assert read_tree(tmp_path / "out") == contents[name]
    file = written(tmp_path / "x.tar.gz", tar_bytes({"c": b"4"}))
    os.utime(file, ns=(0, 0))
    archive.unpack(file, tmp_path / "out")
    assert read_tree(tmp_path / "out") == {"c": b"4"}
    shutil.rmtree(tmp_path / "out")
    archive.unpack(file, tmp_path / "out")
    assert read_tree(tmp_path / "out") == {"c": b"4"}


def test_what_a_kill_left_half_written_is_not_used(tmp_path: Path):
    tree = tmp_path / "tree"
    work = tree / ".x.tar.gz.partial"
    work.mkdir(parents=True)
    written(work / "stale", b"of an archive that was here before")
    written(work / "in.tar.gz", tar_bytes({"a": b"1"})[:-9])
    written(tree / "x.tar.gz", tar_bytes({"in.tar.gz": tar_bytes({"a": b"1"})}))
    archive.unpack_inner(tree, keep=False)
    assert read_tree(tree) == {"a": b"1"}


def test_inner_archives_of_a_folder_unpacked_by_hand(tmp_path: Path):
    tree = tmp_path / "tree"
    tree.mkdir()
    written(tree / "x.tar.gz", tar_bytes({"folder/a": b"1", "b": b"2"}))
    (tree / "folder").mkdir()
    written(tree / "folder/other", b"mine")
    written(tree / "b", b"2")
    archive.unpack_inner(tree, keep=True)
    unpacked = read_tree(tree)
    assert {"folder/a": b"1", "folder/other": b"mine", "b": b"2"}.items() <= unpacked.items()
    assert "x.tar.gz" in unpacked

    shutil.rmtree(tree)
    tree.mkdir()
    written(tree / "x.tar.gz", tar_bytes({"a/b": b"1", "c": b"2"}))
    written(tree / "c", b"mine")
    with pytest.raises(UserError, match=r"tree/c is there already and differs from the archive's; move .* away"):
        archive.unpack_inner(tree, keep=False)
    assert (tree / "c").read_bytes() == b"mine"
    assert not (tree / "a").exists(), "all or nothing"
    assert (tree / "x.tar.gz").exists()


@pytest.mark.parametrize("there", ["file", "folder", "link"])
def test_install_overwrites_nothing(tmp_path: Path, there: str):
    tree, out = tmp_path / "tree", tmp_path / "out"
    (tree / "a").mkdir(parents=True)
    written(tree / "a/b", b"1")
    out.mkdir()
    if there == "file":
        written(out / "a", b"")
    elif there == "folder":
        (out / "a/b").mkdir(parents=True)
    else:
        (out / "a").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is there already and differs"):
        archive.install(tree, out)
    assert (tree / "a/b").read_bytes() == b"1"


def disk_of(monkeypatch: pytest.MonkeyPatch, free: Callable[[], int]) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(64 * 2**20 + free()))


def test_bomb_is_refused_before_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A few kilobytes unpack to more than the disk has room for."""
    bomb = tar_bytes({"small": b"1", "zeros": bytes(3_000_000)})
    assert len(bomb) < 10_000
    file = written(tmp_path / "x.tar.gz", tar_bytes({"in.tar.gz": bomb}))
    disk_of(monkeypatch, lambda: 2_999_999)
    with pytest.raises(UserError, match=r"unpacking .*in\.tar\.gz, at 'zeros', needs .* make room"):
        archive.unpack(file, tmp_path / "out")
    assert sum(map(len, read_tree(tmp_path / "out").values())) < 20_000
    disk_of(monkeypatch, lambda: 3_000_000)
    archive.unpack(file, tmp_path / "out")
    assert read_tree(tmp_path / "out") == {"small": b"1", "zeros": bytes(3_000_000)}


def test_archive_larger_than_the_room_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = written(tmp_path / "x.tar", tar_bytes({"a": b"1"}, mode="w:"))
    disk_of(monkeypatch, lambda: file.stat().st_size - 1)
    with pytest.raises(UserError, match=r"unpacking .*x\.tar needs"):
        archive.unpack(file, tmp_path / "out")
    assert read_tree(tmp_path / "out") == {}


def test_disk_that_fills_up_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = written(tmp_path / "x.tar.gz", tar_bytes({str(i): random.Random(i).randbytes(9000) for i in range(9)}))
    free = iter(range(200_000, 0, -32_000))
    disk_of(monkeypatch, lambda: next(free))
    with pytest.raises(UserError, match=r"at '\d', needs"):
        archive.unpack(file, tmp_path / "out")


def test_write_that_fails(tmp_path: Path):
    file = written(tmp_path / "x.tar.gz", tar_bytes({"a": b"1", "b": bytes(100_000)}))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(UserError, match=r"b: cannot be written \(File too large\); make room"):
            archive.unpack(file, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    archive.unpack(file, tmp_path / "out")
    assert read_tree(tmp_path / "out") == {"a": b"1", "b": bytes(100_000)}


def test_memory_does_not_grow_with_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    original = members._chunks

    def chunks(opener):
        for chunk in original(opener):
            sizes.append(len(chunk))
            yield chunk

    monkeypatch.setattr(members, "_chunks", chunks)
    archive.unpack(written(tmp_path / "x.tar.gz", tar_bytes({"a": bytes(5 << 20)})), tmp_path / "out")
    assert max(sizes) <= 1 << 20


def test_helper_writes_what_it_says(tmp_path: Path):
    """The archives that other tests use can be read by tarfile itself."""
    clips = meld_archive.damaged_clips()
    file = meld_archive.write_meld_archive(tmp_path / "MELD.Raw.tar.gz", clips=clips)
    with tarfile.open(file) as outer:
        names = outer.getnames()
        inner = outer.extractfile("MELD.Raw/train.tar.gz")
        assert inner is not None
        with tarfile.open(fileobj=inner) as train:
            assert train.getnames() == [
                "train_splits",
                *(
                    f"train_splits/{name}"
                    for name in ("dia0_utt0.mp4", "dia0_utt1.mp4", "dia125_utt3.mp4", ".DS_Store")
                ),
                "train_sent_emo.csv",
            ]
    assert names == [
        f"MELD.Raw/{name}"
        for name in ("dev_sent_emo.csv", "test_sent_emo.csv", "train.tar.gz", "dev.tar.gz", "test.tar.gz")
    ]
    archive.unpack(file, tmp_path / "out")
    assert read_tree(tmp_path / "out/MELD.Raw") == meld_archive.expected_tree(clips)
