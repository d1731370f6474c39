"""Packed datasets: features of a whole corpus as TFDS array_record shards, beside `manifest.json`.

The shards are written record by record, without TFDS's builder, for two reasons. Memory stays flat however long the
corpus is. And the bytes are the same in every run, while the builder serialises protobuf maps in hash order. The result
is an ordinary TFDS folder: `tfds.builder_from_directory(path).as_data_source("train")` reads it, as jmer does not.
"""

import errno
import functools
import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jmer.base.errors import UserError
from jmer.base.types import MODALITIES, UNLABELLED, Features
from jmer.dataset import manifest as manifests
from jmer.dataset import records
from jmer.dataset.manifest import MANIFEST as MANIFEST  # the name of the file, for messages about a dataset
from jmer.dataset.manifest import view_split as view_split

_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


def shard_file(split: str) -> str:
    """Returns the name of the one file that holds a split; that of `_TEMPLATE`."""
    return f"jmer-{split}.array_record-00000-of-00001"


def write(
    out: Path,
    *,
    dims: Mapping[str, int],
    sequence_dims: Mapping[str, int] = MappingProxyType({}),
    splits: Sequence[str],
    examples: Iterable[tuple[str, Features]],
    describe: Callable[[], Mapping[str, Any]],
) -> None:
    """Writes a dataset directory, which appears at `out` only when it is whole.

    Args:
      dims: modality -> D.
      sequence_dims: modality -> D', of the modalities whose sequences are kept.
      splits: names of the splits.
      examples: dialogues with their splits, in any order of splits; read once and not held.
      describe: returns the other entries of the manifest (`jmer.dataset.manifest`); called after the last example. It
        must give `name`, `labels`, `modalities` and `rows`. A modality of dim 0 is absent, whatever was written.

    Raises:
      UserError: `out` exists and is not a dataset of jmer.
    """
    with _replacing(out) as folder:
        counts = _write_shards(folder, dims=dims, sequence_dims=sequence_dims, splits=splits, examples=examples)
        defaults = {"notes": [], "views": 0, "augmentation": {}, "libraries": {}, "inputs_sha256": ""}
        manifests.write(folder, counts | {"sequence_dims": dict(sequence_dims)} | defaults | dict(describe()))


def _write_shards(
    folder: Path,
    *,
    dims: Mapping[str, int],
    sequence_dims: Mapping[str, int],
    splits: Sequence[str],
    examples: Iterable[tuple[str, Features]],
) -> dict[str, Any]:
    """Writes a shard for each split and TFDS's metadata; returns the manifest's `splits` and `sequence_lengths`."""
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter
    from etils import epath
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    layout = records.layout(dims, sequence_dims)
    serializer = ExampleSerializer(layout.get_serialized_info())
    templates = {
        split: tfds.core.ShardedFileTemplate(
            data_dir=epath.Path(folder),
            dataset_name="jmer",
            filetype_suffix="array_record",
            template=_TEMPLATE,
            split=split,
        )
        for split in splits
    }
    sizes = {split: {"dialogues": 0, "utterances": 0} for split in splits}
    lengths = dict.fromkeys(sequence_dims, 0)
    num_bytes = Counter()
    with ExitStack() as stack:
        writers = {}
        for split, template in templates.items():
            path = str(template.sharded_filepath(shard_index=0, num_shards=1))
            writers[split] = ArrayRecordWriter(path, "group_size:1")
            stack.callback(writers[split].close)
        for split, dialogue in examples:
            example = serializer.get_tf_example(
                layout.encode_example(records.to_example(dialogue, dims, sequence_dims))
            )
            record = example.SerializeToString(deterministic=True)
            writers[split].write(record)
            sizes[split]["dialogues"] += 1
            sizes[split]["utterances"] += len(dialogue)
            num_bytes[split] += len(record)
            lengths = {m: max([length, *map(len, dialogue.sequences[m])]) for m, length in lengths.items()}
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder),
        features=layout,
        split_infos=[
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[sizes[split]["dialogues"]],
                num_bytes=num_bytes[split],
                filename_template=template,
            )
            for split, template in templates.items()
        ],
        filename_template=next(iter(templates.values())),
        check_data=False,  # the check would read through TensorFlow, which jmer does without
    )
    return {"splits": sizes, "sequence_lengths": lengths}


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset directory, opened and checked.

    dims: modality -> D, of the modalities that it holds.
    sequence_dims: modality -> D', of the modalities whose sequences it holds too.
    manifest: the parsed `manifest.json`.
    members: of a dataset whose dialogues were put into other splits: split -> the stored split and the position there
      of each dialogue.
    """

    path: Path
    labels: tuple[str, ...]
    dims: Mapping[str, int]
    sequence_dims: Mapping[str, int]
    manifest: Mapping[str, Any]
    members: Mapping[str, Sequence[tuple[str, int]]] | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the hashes of the files: equal for equal data."""
        return hashlib.sha256(json.dumps(self.manifest["files"], sort_keys=True).encode()).hexdigest()

    @functools.cached_property
    def sequence_lengths(self) -> Mapping[str, int]:
        """Modality -> T of the longest sequence in any split, 0 where all are empty.

        The manifest has the lengths. Those of a dataset of an earlier jmer are counted once, by reading it all.
        """
        if "sequence_lengths" in self.manifest:
            return {m: self.manifest["sequence_lengths"][m] for m in self.sequence_dims}
        lengths = dict.fromkeys(self.sequence_dims, 0)
        for split in self.manifest["splits"]:
            for dialogue in self.stored(split):
                lengths = {m: max([length, *map(len, dialogue.sequences[m])]) for m, length in lengths.items()}
        return lengths

    @property
    def views(self) -> tuple[str, ...]:
        """The splits that hold the augmented views of train."""
        return tuple(view_split(i + 1) for i in range(self.manifest["views"]))

    @functools.cached_property
    def labelled(self) -> Mapping[tuple[str, int], tuple[str, ...]]:
        """The split and position of each dialogue that has a label, views apart -> the speakers of its utterances."""
        return {
            (split, i): dialogue.speakers
            for split in self.manifest["splits"]
            if split not in self.views
            for i, dialogue in enumerate(self.stored(split))
            if (dialogue.labels != UNLABELLED).any()
        }

    def split(self, name: str) -> tuple[Features, ...]:
        """Returns the dialogues of a split; arguments and errors as for `stored`."""
        return tuple(self.stored(name))

    def stored(self, name: str) -> Iterator[Features]:
        """Yields the dialogues of a split, each read when it is asked for.

        Raises:
          UserError: the dataset has no such split, or a record is damaged or holds something else than the manifest
            says.
        """
        if name not in self.manifest["splits"]:
            raise UserError(f"{self.path}: no split '{name}' (it has {', '.join(self.manifest['splits'])})")
        if self.members is None:
            return self._shard(name).all(**self.manifest["splits"][name])
        shard = functools.cache(self._shard)
        return (shard(split)[i] for split, i in self.members[name])

    def _shard(self, split: str) -> records.Shard:
        """Returns the records of a stored split.

        They are not read by `tfds.builder_from_directory`, which imports the Python classes that features.json names:
        a stranger may have written that file.
        """
        return records.Shard(
            self.path / shard_file(split),
            dims={m: each["dim"] for m, each in self.manifest["modalities"].items() if each["dim"]},
            sequence_dims=self.manifest["sequence_dims"],
            wanted=(self.dims, self.sequence_dims),
            classes=len(self.labels),
        )


def load(path: Path) -> Dataset:
    """Opens a dataset directory and checks its files by `jmer.dataset.manifest.check_files`.

    Raises:
      UserError: there is no dataset, it is of another schema version, or a file is missing or damaged.
    """
    manifest = manifests.read(path)
    manifests.check_files(path, manifest)
    if missing := [name for name in map(shard_file, manifest["splits"]) if name not in manifest["files"]]:
        raise UserError(f"{path / MANIFEST} is no manifest of jmer's: files lacks {missing[0]}; run jmer.extract again")
    dims = {m: manifest["modalities"][m]["dim"] for m in MODALITIES if manifest["modalities"][m]["dim"]}
    return Dataset(
        path=path,
        labels=tuple(manifest["labels"]),
        dims=dims,
        sequence_dims={m: dim for m, dim in manifest["sequence_dims"].items() if m in dims},
        manifest=manifest,
    )


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """Gives a new folder that takes the place of `out` when the block ends well, and vanishes when it does not.

    Other processes may write the same `out` at the same time. Folders that killed processes left are removed.
    """
    manifests.check_replaceable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{out.name}-{socket.gethostname()}-"
    for leftover in out.parent.iterdir():
        pid = leftover.name.removeprefix(prefix).partition("-")[0]
        if leftover.name.startswith(prefix) and pid.isdecimal() and not _is_running(int(pid)):
            shutil.rmtree(leftover, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=out.parent))
    folder = work / "new"
    folder.mkdir()
    try:
        yield folder
        while not _is_same(folder, out):
            try:
                os.replace(folder, out)
                break
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            with suppress(FileNotFoundError):  # another process has just moved it out of the way
                os.replace(out, tempfile.mkdtemp(dir=work))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process of another user
        return True
    return True


def _is_same(folder: Path, out: Path) -> bool:
    """Says whether `out`, undamaged, holds the dataset that is in `folder`."""
    try:
        return manifests.read(out) == manifests.read(folder) and bool(load(out))
    except (UserError, OSError):
        return False
