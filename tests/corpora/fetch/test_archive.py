"""Tests archives that are nested, damaged, hostile, cut off while they are unpacked, or too large for the disk."""

import contextlib
import copy
import io
import os
import random
import resource
import shutil
import stat
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
from jmer.corpora.fetch import archive, disk

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
    monkeypatch.setattr(archive, "_entries", lambda raw: archive._tar_entries(io.BytesIO(QUINE)))
    archive.unpack(file, tmp_path / "out")
    assert list(read_tree(tmp_path / "out")) == ["y/" * 4 + "y.tar.gz"]


QUINE = tar_bytes({"y/y.tar.gz": b"stands for itself"}, mode="w:")


def test_leftovers_of_macos_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    files = {"a": b"1", "._a": b"2", "x/._b": b"3", "x/.DS_Store": b"4", "__MACOSX/x/c": b"5", "x/.hidden": b"6"}
    for name, data in (("x.tar.gz", tar_bytes(files)), ("x.zip", zip_bytes(files))):
        archive.unpack(written(tmp_path / name, data), tmp_path / "out")
        assert read_tree(tmp_path / "out") == {"a": b"1", "x/.hidden": b"6"}
        assert f"{name}: 4 files that macOS had added were left out" in capsys.readouterr().out


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


HOSTILE = {
    "parent": member("../evil"),
    "parent_within": member("a/../../evil"),
    "parent_at_the_end": member("folder/.."),
    "absolute": member("/ROOT/evil"),
    "windows_parent": member("..\\evil"),
    "windows_drive": member("C:/evil"),
    "windows_drive_relative": member("C:evil"),
    "windows_share": member("\\\\server\\share\\evil"),
    "nul": member("evil"),
    "symlink_out": member("link", tarfile.SYMTYPE, "../.."),
    "symlink_absolute": member("link", tarfile.SYMTYPE, "/etc"),
    "symlink_in": member("link", tarfile.SYMTYPE, "good"),
    "hard_link_out": member("link", tarfile.LNKTYPE, "../secret"),
    "hard_link_absolute": member("link", tarfile.LNKTYPE, "/etc/passwd"),
    "character_device": member("device", tarfile.CHRTYPE),
    "block_device": member("device", tarfile.BLKTYPE),
    "pipe": member("pipe", tarfile.FIFOTYPE),
}
HOSTILE["nul"].pax_headers = {"path": "evil\0.mp4"}


def hostile_tar(info: tarfile.TarInfo, *, form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=form) as file:
        file.addfile(member("good"))
        file.addfile(info)
        if info.name == "link":  # and something written through it
            file.addfile(member("link/evil"))
    return buffer.getvalue()


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("inner", [False, True])
def test_hostile_tar_is_refused(tmp_path: Path, name: str, inner: bool):
    (tmp_path / "secret").write_text("s")
    info = copy.copy(HOSTILE[name])
    info.name = info.name.replace("/ROOT", str(tmp_path))
    data = hostile_tar(info)
    data = tar_bytes({"in.tar.gz": data}) if inner else data
    place = tmp_path / "place"
    place.mkdir()
    file = written(place / "x.tar.gz", data)
    with pytest.raises(UserError, match=r"(x|in)\.tar\.gz: holds") as caught:
        archive.unpack(file, place / "out")
    assert "which is a link or device" in str(caught.value) or "outside of its folder" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, archive.Damaged)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["place", "secret"]
    assert {path.name for path in place.iterdir()} <= {"x.tar.gz", "out", "out.unpacked.json"}
    assert not [path for path in (place / "out").rglob("*") if path.is_symlink() or "evil" in path.name]


def test_no_laxer_than_the_data_filter(tmp_path: Path):
    """Entries that Python's own filter refuses are refused here too."""
    for name, info in HOSTILE.items():
        try:
            tarfile.data_filter(info, str(tmp_path))
        except tarfile.FilterError:
            with pytest.raises(UserError):
                archive.unpack(written(tmp_path / f"{name}.tar.gz", hostile_tar(info)), tmp_path / name)


@pytest.mark.parametrize(("name", "mode"), [("../evil", 0), ("/evil", 0), ("..\\evil", 0), ("l", stat.S_IFLNK | 0o777)])
def test_hostile_zip_is_refused(tmp_path: Path, name: str, mode: int):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match=r"which is (a link or device|outside of its folder)"):
        archive.unpack(written(tmp_path / "x.zip", buffer.getvalue()), tmp_path / "out")
    assert not [path for path in tmp_path.rglob("*") if path.name == "evil" or path.is_symlink()]


def test_modes_of_the_archive_are_not_taken_over(tmp_path: Path):
    info = member("run")
    info.mode = 0o4777
    archive.unpack(written(tmp_path / "x.tar.gz", hostile_tar(info)), tmp_path / "out")
    assert not (tmp_path / "out/run").stat().st_mode & 0o7111


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
        shutil.rmtree(tmp_path / "out")
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


def test_damaged_header_in_the_middle_of_a_plain_tar(tmp_path: Path):
    data = bytearray(tar_bytes({"a": b"1", "b": b"2", "c": b"3"}, mode="w:"))
    data[1024] ^= 1  # of b's name; tarfile would end here, and say nothing
    with pytest.raises(archive.Damaged, match="neither a file nor the end at 1024"):
        archive.unpack(written(tmp_path / "x.tar", bytes(data)), tmp_path / "out")


@pytest.mark.parametrize("data", [b"", b"<!DOCTYPE html><html>log in</html>" * 100, b"\x1f\x8b", b"PK\x03\x04junk"])
def test_what_is_no_archive(tmp_path: Path, data: bytes):
    with pytest.raises(archive.Damaged):
        archive.unpack(written(tmp_path / "x.tar.gz", data), tmp_path / "out")
    with pytest.raises(UserError, match="there is no such file"):
        archive.unpack(tmp_path / "absent", tmp_path / "out")


def test_inner_archive_that_is_damaged_is_named(tmp_path: Path):
    data = tar_bytes({"good.tar.gz": tar_bytes(FILES), "bad.tar.gz": tar_bytes(FILES)[:-20]})
    with pytest.raises(archive.Damaged, match=r"out/bad\.tar\.gz: is cut off"):
        archive.unpack(written(tmp_path / "x.tar.gz", data), tmp_path / "out")


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
def test_killed_at_any_step_and_run_again(tmp_path: Path, monkeypatch, capsys, keep: bool, after: bool):
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

    def unpack_one(path: Path, into: Path, tree: Path) -> None:
        opened.append(path.name)
        if len(opened) == 3:
            raise KeyboardInterrupt
        original(path, into, tree)

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
    with pytest.raises(UserError, match=r"unpacking .*in\.tar\.gz, at zeros, needs .* make room"):
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
    with pytest.raises(UserError, match=r"at \d, needs"):
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
    original = archive._chunks

    def chunks(opener):
        for chunk in original(opener):
            sizes.append(len(chunk))
            yield chunk

    monkeypatch.setattr(archive, "_chunks", chunks)
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
