"""The download command, from a server on this machine to the command that it names last."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import file_server
import meld_archive
import pytest
from meld_archive import CORRUPT, LONG, Row, damaged_clips, expected_tree, read_tree, write_meld_archive

from jmer import download
from jmer.base import cli
from jmer.corpora import meld
from jmer.corpora.fetch import archive, remote

CLIPS = damaged_clips()
TREE = expected_tree(CLIPS)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    return write_meld_archive(tmp_path / "elsewhere/MELD.Raw.tar.gz", clips=CLIPS)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, packed: Path):
    monkeypatch.setattr(remote, "_WAITS", (0, 0))
    with file_server.serving(monkeypatch) as server:
        server.data = packed.read_bytes()
        yield server


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Runs the command on `tmp_path / "data"`."""

    def run(*arguments: object, dataset: str = "meld") -> tuple[int, str, str]:
        code = cli.run(download.main, [dataset, f"--root={tmp_path / 'data'}", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err.replace("\r", "\n")

    return run


def error_of(err: str) -> str:
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    return line


def check_report(out: str, tree: Path) -> None:
    for line in (
        "split       rows   clips  missing  stray",
        "train          3       3        0      0",
        "dev            2       1        1      0",
        "test           2       2        0      1",
        "dev: missing: dia110_utt7.mp4",
        "test: stray: final_videos_testdia0_utt0.mp4",
    ):
        assert line in out
    root = shlex.quote(str(tree))
    next_command = (
        f"next: python -m jmer.extract --config configs/extract/lite.py --config.source=meld --config.root={root}"
    )
    assert out.splitlines()[-1] == next_command


def left(root: Path) -> list[str]:
    """What is in the root, besides the lock that keeps two downloads apart."""
    return sorted(set(os.listdir(root)) - {".MELD.Raw.lock"})


def test_from_a_server(tmp_path: Path, server, run, monkeypatch: pytest.MonkeyPatch):
    tree = tmp_path / "data/MELD.Raw"
    code, out, _ = run(f"--url={server.url}/down/MELD.Raw.tar.gz")
    assert code == 0
    assert read_tree(tree) == TREE
    check_report(out, tree)
    assert re.search(r"SHA-256 [0-9a-f]{64} \(not checked, as no --sha256 was given\)", out)
    assert "4 files that macOS" not in out
    assert out.count("1 files that macOS had added were left out") == 2
    assert left(tmp_path / "data") == ["MELD.Raw", "MELD.Raw.tar.gz", "MELD.Raw.tar.gz.json"]

    code, out, _ = run("--quiet")
    assert (code, "is complete" in out) == (0, False)
    check_report(out, tree)

    # Again: nothing is done, not even with the network and the archive gone.
    (tmp_path / "data/MELD.Raw.tar.gz").unlink()
    before = {path: path.stat().st_mtime_ns for path in tree.rglob("*")}
    code, out, _ = run()
    assert code == 0
    assert "is complete; there is nothing to download or unpack" in out
    check_report(out, tree)
    assert {path: path.stat().st_mtime_ns for path in tree.rglob("*")} == before
    assert len(server.asked) == 1


def test_the_corpus_is_read_with_its_damage(tmp_path: Path, packed: Path, run):
    assert run(f"--archive={packed}")[0] == 0
    corpus = meld.load(tmp_path / "data/MELD.Raw")
    rows = {f"{split}/{u.id}": u for split, dialogues in corpus.splits.items() for d in dialogues for u in d.utterances}
    assert {key for key, row in rows.items() if row.clip is None} == {"dev/dia110_utt7"}
    for split, name in (("train", CORRUPT), ("test", LONG)):
        clip = rows[f"{split}/{name.removesuffix('.mp4')}"].clip
        assert clip is not None
        assert clip.read_bytes() == CLIPS[f"{split}/{name}"]


@pytest.mark.parametrize("name", ["MELD.Raw.tar.gz", "whole.zip"])
@pytest.mark.parametrize("top", ["MELD.Raw/", "", "MELD-RAW/MELD.Raw/"])
def test_from_an_archive_on_the_disk(tmp_path: Path, run, name: str, top: str):
    file = write_meld_archive(tmp_path / name, clips=CLIPS, top=top)
    code, out, _ = run(f"--archive={file}")
    assert code == 0
    assert read_tree(tmp_path / "data/MELD.Raw") == TREE
    check_report(out, tmp_path / "data/MELD.Raw")
    assert left(tmp_path / "data") == ["MELD.Raw"]
    assert file.exists()


def test_archive_in_an_archive_and_what_lies_beside(tmp_path: Path, packed: Path, run):
    file = tmp_path / "all.zip"
    data = {"MELD.Raw.tar.gz": packed.read_bytes(), "notes.txt": b""}
    file.write_bytes(meld_archive.tar_bytes(data))
    code, out, _ = run(f"--archive={file}")
    assert code == 0
    assert read_tree(tmp_path / "data/MELD.Raw") == TREE
    assert "left out, since not part of meld: notes.txt" in out


def test_keep(tmp_path: Path, packed: Path, run):
    assert run(f"--archive={packed}", "--keep")[0] == 0
    kept = {f"{split}.tar.gz" for split in meld.CLIP_FOLDERS}
    assert set(read_tree(tmp_path / "data/MELD.Raw")) == set(TREE) | kept
    assert "nothing to download or unpack" in run()[1]


def test_unpacked_by_hand(tmp_path: Path, packed: Path, run):
    """Only the outer archive is unpacked, as by a user who follows MELD's README."""
    with tarfile.open(packed) as outer:
        outer.extractall(tmp_path / "data", filter="data")
    code, out, _ = run()
    assert code == 0
    check_report(out, tmp_path / "data/MELD.Raw")
    unpacked = read_tree(tmp_path / "data/MELD.Raw")
    assert TREE.items() <= unpacked.items()
    assert len(unpacked) == len(TREE) + 3, "the inner archives are left"


def test_the_csvs_were_there(tmp_path: Path, packed: Path, run):
    tree = tmp_path / "data/MELD.Raw"
    tree.mkdir(parents=True)
    (tree / "dev_sent_emo.csv").write_bytes(TREE["dev_sent_emo.csv"])
    (tree / "mine.txt").write_text("mine")
    assert run(f"--archive={packed}")[0] == 0
    assert read_tree(tree) == TREE | {"mine.txt": b"mine"}

    shutil.rmtree(tree)
    tree.mkdir()
    (tree / "dev_sent_emo.csv").write_text("other")
    code, _, err = run(f"--archive={packed}")
    assert code == 2
    assert "dev_sent_emo.csv is there already and differs" in error_of(err)
    assert read_tree(tree) == {"dev_sent_emo.csv": b"other"}
    tree.rename(tmp_path / "moved")
    code, out, _ = run(f"--archive={packed}")
    assert (code, "unpacking" in out) == (0, False)
    assert read_tree(tree) == TREE


def test_interrupted_at_any_stage(tmp_path: Path, server, run, monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C comes in the download, before each archive, and before the end. No byte is downloaded twice."""
    url = f"--url={server.url}/MELD.Raw.tar.gz"

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    stages = [(remote.time, "sleep"), (archive, "unpack"), (archive, "_unpack_within"), (archive, "install")]
    server.cuts = [1000]
    for owner, name in stages:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, interrupted)
            code, _, err = run(url)
        assert code == 75, name
        assert "run the same command again" in err
        assert not (tmp_path / "data/MELD.Raw").exists()
    code, out, _ = run(url)
    assert code == 0
    check_report(out, tmp_path / "data/MELD.Raw")
    assert read_tree(tmp_path / "data/MELD.Raw") == TREE
    assert sum(server.sent) == len(server.data)


def test_ctrl_c_of_a_real_process(tmp_path: Path, server, run):
    server.cuts, server.stall = [5 * len(server.data) // 10], True
    root, url = tmp_path / "data", f"{server.url}/MELD.Raw.tar.gz"
    command = [sys.executable, "-m", "jmer.download", "meld", f"--root={root}", f"--url={url}"]
    # The background jobs of a shell ignore Ctrl-C, and children inherit that. A handler set here is not inherited.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    signal.signal(signal.SIGINT, previous)
    assert server.stalled.wait(60)
    part = root / "MELD.Raw.tar.gz.part"
    while not part.exists():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert err.strip().splitlines()[-1].startswith("interrupted;")
    assert "Traceback" not in err
    there = part.stat().st_size
    server.go.set()
    assert run(f"--url={url}")[0] == 0
    assert server.sent[1] == len(server.data) - there
    assert read_tree(root / "MELD.Raw") == TREE


def test_without_a_network(tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch):
    def no_name(*_: object, **__: object) -> None:
        raise OSError("Temporary failure in name resolution")

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("socket.getaddrinfo", no_name)
    code, _, err = run()
    assert code == 2
    file = tmp_path / "data/MELD.Raw.tar.gz"
    assert error_of(err) == (
        "error: cannot reach web.eecs.umich.edu (Temporary failure in name resolution); fetch "
        "http://web.eecs.umich.edu/~mihalcea/downloads/MELD.Raw.tar.gz (10.9 GB, and up to three times that while it "
        f"is unpacked) by other means, put it at {file} and run: python -m jmer.download meld --root={file.parent} "
        f"--archive={file} (another address: "
        "--url=https://huggingface.co/datasets/declare-lab/MELD/resolve/main/MELD.Raw.tar.gz)"
    )
    # The command that the message names works.
    write_meld_archive(file, clips=CLIPS)
    assert run(f"--archive={file}")[0] == 0
    shutil.rmtree(tmp_path / "data/MELD.Raw")
    code, out, _ = run()
    assert (code, "is there already and is used" in out) == (0, True)


def test_connection_that_stays_broken_says_how_to_go_on(server, run):
    server.cuts = [1000, 0, 0, 0]
    code, _, err = run(f"--url={server.url}/x.tgz")
    assert code == 2
    assert "broke off at 1.00kB of" in error_of(err)
    assert "3 times in a row; run the same command again to go on, or fetch" in error_of(err)


def test_sha256(tmp_path: Path, server, packed: Path, run):
    wrong, digest = "0" * 64, remote.check_sha256(packed, "")
    for where in (f"--archive={packed}", f"--url={server.url}/x.tgz"):
        code, _, err = run(where, f"--sha256={wrong}")
        assert code == 2
        assert f"its SHA-256 is {digest}, expected {wrong}" in error_of(err)
        assert not (tmp_path / "data/MELD.Raw").exists()
    code, out, _ = run(f"--url={server.url}/x.tgz", f"--sha256={digest.upper()}")
    assert code == 0
    assert f"SHA-256 {digest}\n" in out
    assert (tmp_path / "data/x.tgz").exists()


def test_sha256_that_jmer_knows(tmp_path: Path, server, packed: Path, run, monkeypatch: pytest.MonkeyPatch):
    assert download.SOURCES["meld"].sha256 is None
    digest = remote.check_sha256(packed, "")
    url = f"--url={server.url}/x.tgz"
    monkeypatch.setitem(download.SOURCES, "meld", replace(download.SOURCES["meld"], sha256="0" * 64))
    for where in (f"--archive={packed}", url):
        code, _, err = run(where)
        assert code == 2
        assert f"its SHA-256 is {digest}, expected {'0' * 64}" in error_of(err)
        assert not (tmp_path / "data/MELD.Raw").exists()
    code, out, _ = run(url, f"--sha256={digest}")
    assert (code, "not checked" in out) == (0, False)

    shutil.rmtree(tmp_path / "data")
    monkeypatch.setitem(download.SOURCES, "meld", replace(download.SOURCES["meld"], sha256=digest))
    code, out, _ = run(url)
    assert (code, "not checked" in out) == (0, False)


def test_refused_archive_is_not_used_again(tmp_path: Path, server, run):
    whole, url = server.data, f"--url={server.url}/MELD.Raw.tar.gz"
    server.data = meld_archive.tar_bytes({"MELD.Raw/../../evil": b""})
    code, _, err = run(url)
    assert code == 2
    aside = tmp_path / "data/MELD.Raw.tar.gz.rejected"
    assert "holds 'MELD.Raw/../../evil', which is outside of its folder" in error_of(err)
    assert error_of(err).endswith(f"the archive is now {aside}")
    assert left(tmp_path / "data") == [aside.name]
    server.data = whole
    assert run(url)[0] == 0

    mine = tmp_path / "data/mine.tar.gz"  # a file that jmer did not fetch stays where it is
    mine.write_bytes(meld_archive.tar_bytes({"../evil": b""}))
    shutil.rmtree(tmp_path / "data/MELD.Raw")
    for where in (f"--archive={mine}", f"--url={server.url}/mine.tar.gz"):
        assert run(where)[0] == 2
        assert mine.exists()


def test_damaged_archives_and_those_of_something_else(tmp_path: Path, server, packed: Path, run):
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-500])
    code, _, err = run(f"--archive={packed}")
    assert code == 2
    assert f"delete {packed} and give a whole one" in error_of(err)

    server.data = b"<html>log in"
    url = f"--url={server.url}/MELD.Raw.tar.gz"
    code, _, err = run(url)
    assert code == 2
    fetched = tmp_path / "data/MELD.Raw.tar.gz"
    assert f"sent something else: {fetched}.part: is cut off, damaged or no tar or zip archive" in error_of(err)
    assert left(tmp_path / "data") == []
    server.data, server.etag = whole, '"2"'
    assert run(url)[0] == 0
    assert read_tree(tmp_path / "data/MELD.Raw") == TREE


def test_damaged_inner_archive_is_put_right_by_another_outer_one(tmp_path: Path, packed: Path, run):
    whole = packed.read_bytes()
    inner = {"MELD.Raw/dev_sent_emo.csv": b"", "MELD.Raw/train.tar.gz": meld_archive.tar_bytes({"a": b"1"})[:-9]}
    packed.write_bytes(meld_archive.tar_bytes(inner))
    code, _, err = run(f"--archive={packed}")
    assert code == 2
    assert "train.tar.gz: is cut off" in error_of(err)
    assert f"delete {packed} and give a whole one" in error_of(err)
    packed.write_bytes(whole)
    assert run(f"--archive={packed}")[0] == 0
    assert read_tree(tmp_path / "data/MELD.Raw") == TREE


def test_archive_that_lacks_a_part(tmp_path: Path, run):
    rows = {split: meld_archive.ROWS[split] for split in ("train", "dev")}
    file = write_meld_archive(tmp_path / "x.tar.gz", clips=CLIPS, rows=rows)
    code, _, err = run(f"--archive={file}")
    assert code == 2
    stage = tmp_path / "data/MELD.Raw.partial"
    assert f"{file} is not the whole of meld: it holds no test_sent_emo.csv, output_repeated_splits_test; " in err
    assert f"complete {stage}, which holds the unpacked files, by hand and rename it" in error_of(err)
    assert error_of(err).endswith(f"to {tmp_path / 'data/MELD.Raw'}")
    assert not (tmp_path / "data/MELD.Raw").exists()


def test_many_missing_clips_are_counted(tmp_path: Path, run):
    rows = {**meld_archive.ROWS, "dev": [Row(dialogue=0, number=number) for number in range(30)]}
    file = write_meld_archive(tmp_path / "x.tar.gz", clips=CLIPS, rows=rows)
    code, out, _ = run(f"--archive={file}")
    assert code == 0
    assert "dev           30       1       29      0" in out
    assert "dia0_utt20.mp4 and 9 more" in out


def test_csv_that_cannot_be_read(tmp_path: Path, run):
    file = write_meld_archive(tmp_path / "x.tar.gz", clips=CLIPS, rows={**meld_archive.ROWS, "dev": b"a,b\n1,2\n"})
    code, _, err = run(f"--archive={file}")
    assert code == 2
    assert "dev_sent_emo.csv: lacks the columns" in error_of(err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--archive=/no/such.tar.gz"], "/no/such.tar.gz: there is no such file"),
        (["--archive=x", "--url=http://y"], "--archive is for an archive on the disk and --url for one to download"),
        (["--sha256=abc"], "--sha256 is 'abc'; expected 64 hexadecimal digits"),
        (["--url=MELD.Raw.tar.gz"], "'MELD.Raw.tar.gz' is no address to fetch from"),
        (["--keeep"], "unknown argument '--keeep'; did you mean '--keep'?"),
    ],
)
def test_bad_arguments(run, arguments: list[str], message: str):
    code, _, err = run(*arguments)
    assert code == 2
    assert message in error_of(err)


def test_data_sets_that_are_not_known(run, capsys: pytest.CaptureFixture[str]):
    code, _, err = run(dataset="MELDD")
    assert code == 2
    assert error_of(err) == "error: no data set 'MELDD' to download (known: meld); did you mean 'meld'?"
    assert cli.run(download.main, []) == 2
    assert "dataset" in capsys.readouterr().err


def test_archive_may_be_an_address(tmp_path: Path, server, run):
    assert run(f"--archive={server.url}/MELD.Raw.tar.gz")[0] == 0
    assert read_tree(tmp_path / "data/MELD.Raw") == TREE


def test_no_room_to_unpack(tmp_path: Path, packed: Path, run, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 1000))  # pyright: ignore
        code, _, err = run(f"--archive={packed}")
    assert code == 5
    assert "has 1.00kB free; make room or give another --root" in error_of(err)
    assert run(f"--archive={packed}")[0] == 0
