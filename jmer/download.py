"""Downloads a data set, unpacks it and compares its clips with its tables.

    python -m jmer.download meld --root=data
    python -m jmer.download meld --root=data --archive=MELD.Raw.tar.gz    # an archive that is on the disk already
    python -m jmer.download meld --root=data --url=http://localhost:8000/MELD.Raw.tar.gz

The data set gets a folder of its own in the root (data/MELD.Raw). The folder appears once all of it is unpacked, and
the archive stays beside it. If the command is interrupted, the same command goes on where it stopped. If the data set
is complete, the command only reports on it. An archive that holds something that could do harm, or far more than the
data set does, is refused. Exit codes: 0 done; 2 bad arguments or input, or no network; 5 a full disk or a folder that
may not be written to; 75 interrupted.
"""

import logging
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from jmer.base import cli, locks
from jmer.base.errors import UserError, did_you_mean
from jmer.corpora import csvfile, meld
from jmer.corpora.fetch import archive, disk, remote

_log = logging.getLogger(__name__)

_NAMES_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set that can be downloaded.

    urls: addresses of its archive. The first is used unless --url names another.
    size: the size of the archive, for messages.
    folder: the name of the data set's folder.
    lacking: folder -> names of the files and folders that a complete data set has and this folder lacks.
    inventory: folder -> a comparison of clips and rows for each split.
    extract: the arguments of `jmer.extract` for the data set, without its folder.
    sha256: the SHA-256 of its archive, which every archive must have for which --sha256 gives no other one; None if no
      SHA-256 is known, as for MELD.
    """

    urls: tuple[str, ...]
    size: str
    folder: str
    lacking: Callable[[Path], tuple[str, ...]]
    inventory: Callable[[Path], tuple[meld.Inventory, ...]]
    extract: str
    sha256: str | None = None


SOURCES = {
    "meld": Source(
        urls=(
            "http://web.eecs.umich.edu/~mihalcea/downloads/MELD.Raw.tar.gz",
            "https://huggingface.co/datasets/declare-lab/MELD/resolve/main/MELD.Raw.tar.gz",
        ),
        size="10.9 GB, and up to three times that while it is unpacked",
        folder="MELD.Raw",
        lacking=meld.lacking,
        inventory=meld.inventory,
        extract="--config configs/extract/lite.py --config.source=meld",
    ),
}


def main(argv: Sequence[str]) -> None:
    parser = cli.Parser(__doc__, prog="jmer download")
    parser.add_argument("dataset", help=f"data set to download; one of {', '.join(SOURCES)}")
    parser.add_argument(
        "--root",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="folder to put the data set into (default data)",
    )
    parser.add_argument("--archive", default="", metavar="FILE", help="archive on the disk to unpack")
    parser.add_argument("--url", default="", help="address to download the archive from, instead of the published one")
    parser.add_argument(
        "--sha256",
        default="",
        metavar="HEX",
        help="SHA-256 that the archive must have, instead of the one that jmer knows, if it knows one",
    )
    parser.add_argument("--keep", action="store_true", help="keep the archives that lie within the archive")
    args = cli.parse(parser, argv)
    if args.dataset not in SOURCES:
        hint = did_you_mean(args.dataset.lower(), SOURCES)
        raise UserError(f"no data set '{args.dataset}' to download (known: {', '.join(SOURCES)}){hint}")
    if args.sha256 and (len(args.sha256) != 64 or set(args.sha256.lower()) - set("0123456789abcdef")):
        raise UserError(f"--sha256 is '{args.sha256}'; expected 64 hexadecimal digits")
    if urlsplit(args.archive).scheme in ("http", "https"):
        args.archive, args.url = "", args.url or args.archive
    if args.archive and args.url:
        raise UserError("--archive is for an archive on the disk and --url for one to download; give one of them")

    source = SOURCES[args.dataset]
    tree = args.root / source.folder
    if source.lacking(tree):
        file = Path(args.archive) if args.archive else None
        fetch(args.dataset, args.root, archive_file=file, url=args.url, sha256=args.sha256, keep=args.keep)
    else:
        _log.info(f"{tree} is complete; there is nothing to download or unpack")
    _report(source, tree)


def fetch(
    name: str, root: Path, *, archive_file: Path | None = None, url: str = "", sha256: str = "", keep: bool = False
) -> Path:
    """Downloads and unpacks a data set, unless it is complete already, and returns its folder.

    Args:
      name: a key of `SOURCES`.
      root: the folder that gets the data set's folder.
      archive_file: an archive on the disk, which is used instead of a download.
      url: another address to download from.
      sha256: the SHA-256 that the archive must have; empty for that of the source, if one is known.
      keep: keep the archives within the archive.

    Raises:
      UserError: the download fails, the archive is damaged, refused or holds something else, or another process
        downloads into the folder.
      StorageError: the disk is full, or may not be written to.
    """
    source = SOURCES[name]
    refusal = f"another process downloads {name} into {root}; wait until it ends, or give another --root"
    with ExitStack() as stack:
        with disk.writing(root):
            stack.enter_context(locks.held(root / f".{source.folder}.lock", refusal=refusal))
        return _fetch(name, root, archive_file, url=url, sha256=sha256 or source.sha256 or "", keep=keep)


def _fetch(name: str, root: Path, archive_file: Path | None, *, url: str, sha256: str, keep: bool) -> Path:
    """Does what `fetch` does, in a folder that no other process downloads into."""
    source = SOURCES[name]
    tree, stage = root / source.folder, root / f"{source.folder}.partial"
    if tree.is_dir():  # a user who unpacked MELD by hand may have left archives in it, which jmer must not delete
        try:
            archive.unpack_inner(tree, keep=True)
        except archive.Damaged as error:
            raise UserError(f"{error}; delete it and run the same command again") from error
        if not source.lacking(tree):
            return tree

    file = archive_file or _download(name, root, url or source.urls[0], sha256)
    if archive_file and sha256 and archive_file.is_file():
        remote.check_sha256(archive_file, sha256)
    try:
        archive.unpack(file, stage, keep=keep)
    except archive.Damaged as error:
        if archive_file:
            raise UserError(f"{error}; delete {file} and give a whole one") from error
        aside = remote.set_aside(file)
        what = f"the archive is now {aside}, which may be deleted;" if aside else f"delete {file} and"
        raise UserError(f"{error}; {what} run the same command again to fetch it anew") from error
    except archive.Refused as error:
        aside = None if archive_file else remote.set_aside(file)
        raise UserError(f"{error}" + (f"; the archive is now {aside}" if aside else "")) from error
    # The data set may lie in a subfolder of the archive.
    folders = [stage, *(path for path in sorted(stage.rglob("*")) if path.is_dir())]
    found = min(folders, key=lambda folder: len(source.lacking(folder)))
    if lacks := source.lacking(found):
        raise UserError(
            f"{file} is not the whole of {name}: it holds no {', '.join(lacks)}; give another --archive, or complete "
            f"{stage}, which holds the unpacked files, by hand and rename it to {tree}"
        )
    archive.install(found, tree)
    if rest := [str(path.relative_to(stage)) for path in sorted(stage.rglob("*")) if path.is_file()]:
        _log.info(f"left out, since not part of {name}: {csvfile.listing(rest)}")
    archive.finish(stage)
    return tree


def _download(name: str, root: Path, url: str, sha256: str) -> Path:
    """Downloads the archive of a data set into `root`, unless it is there, and returns its path."""
    source = SOURCES[name]
    last = PurePosixPath(unquote(urlsplit(url).path)).name
    target = root / (last if last.endswith(archive.SUFFIXES) else f"{source.folder}.tar.gz")
    if target.exists():
        _log.info(f"{target} is there already and is used")
        if sha256:
            remote.check_sha256(target, sha256)
        return target
    _log.info(f"fetching {url} ({source.size}) to {target}")
    try:
        digest = remote.download(url, target, sha256=sha256, check=archive.check)
    except remote.Unreachable as error:
        again = "run the same command again to go on, or " if target.with_name(f"{target.name}.part").exists() else ""
        command = f"python -m jmer.download {name} --root={shlex.quote(str(root))}"
        others = " or ".join(f"--url={other}" for other in source.urls if other != url)
        raise UserError(
            f"{error}; {again}fetch {url} ({source.size}) by other means, put it at {target} and run: {command} "
            f"--archive={shlex.quote(str(target))}" + (f" (another address: {others})" if others else "")
        ) from error
    _log.info(f"{target}: SHA-256 {digest}" + ("" if sha256 else " (not checked, as no --sha256 was given)"))
    return target


def _report(source: Source, tree: Path) -> None:
    """Prints the number of clips of each split, the names of missing and stray ones, and the next command."""
    parts = source.inventory(tree)
    print(f"\n{tree}\n{'split':8}{'rows':>8}{'clips':>8}{'missing':>9}{'stray':>7}")
    for part in parts:
        found = part.rows - len(part.missing)
        print(f"{part.split:8}{part.rows:8}{found:8}{len(part.missing):9}{len(part.stray):7}")
    for part in parts:
        for kind, names in (("missing", part.missing), ("stray", part.stray)):
            if names:
                print(f"{part.split}: {kind}: {csvfile.listing(names, cap=_NAMES_SHOWN)}")
    print(f"\nnext: python -m jmer.extract {source.extract} --config.root={shlex.quote(str(tree))}")


if __name__ == "__main__":
    sys.exit(cli.run(main))
