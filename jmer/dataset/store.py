"""Packed datasets: features of a whole corpus as TFDS array_record shards plus `manifest.json`.

The shards are written record by record, without TFDS's builder, for two reasons: memory stays flat however long the
corpus is, and the bytes are the same in every run (the builder serialises protobuf maps in hash order). The result is
an ordinary TFDS folder: `tfds.builder_from_directory(path).as_data_source("train")` reads it.
"""

import errno
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

import numpy as np

from jmer.base import files
from jmer.base.errors import UserError
from jmer.base.types import MODALITIES, Features

SCHEMA_VERSION = 3
MANIFEST = "manifest.json"
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


def write(
    out: Path,
    *,
    dims: Mapping[str, int],
    sequence_dims: Mapping[str, int] = MappingProxyType({}),
    splits: Sequence[str],
    examples: Iterable[tuple[str, Features]],
    describe: Callable[[], Mapping[str, Any]],
) -> None:
    """Writes a dataset directory; it appears at `out` only when it is whole.

    Args:
      dims, sequence_dims: modality -> D, and D' where sequences are kept.
      splits: names of the splits.
      examples: dialogues with their split, the splits in any order; read once and not held.
      describe: asked after all the examples, what the manifest is to say:
        name: of the corpus.
        labels: the label set.
        modalities: for every modality `{"dim", "extractor", "fingerprint", "reason"}`; `dim` 0 marks it absent, with
          the reason, whatever was written. `remarks` counts what choices rest on, where there were any to make.
        rows: an utterance each: `{"split", "dialogue", "utterance", "status", "reason"}`. Augmented views have none.
        notes: what the source noticed about the whole corpus.
        views: how many of the splits are augmented views of train, named by `view_split` and alike but for the values.
        augmentation: by modality, what the views were made with.
        inputs_sha256: identifies rows, clips and extractors, so that an unchanged extraction can be recognised.

    Raises:
      UserError: `out` exists and is something else than a dataset of jmer's.
    """
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter
    from etils import epath
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    spec = _tfds_features(dims, sequence_dims)
    serializer = ExampleSerializer(spec.get_serialized_info())
    with _replacing(out) as folder, ExitStack() as stack:
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
        writers = {}
        for split, template in templates.items():
            path = str(template.sharded_filepath(shard_index=0, num_shards=1))
            writers[split] = ArrayRecordWriter(path, "group_size:1")
            stack.callback(writers[split].close)
        sizes = {split: {"dialogues": 0, "utterances": 0} for split in splits}
        num_bytes = Counter()
        for split, dialogue in examples:
            example = serializer.get_tf_example(spec.encode_example(_example(dialogue, dims, sequence_dims)))
            record = example.SerializeToString(deterministic=True)
            writers[split].write(record)
            sizes[split]["dialogues"] += 1
            sizes[split]["utterances"] += len(dialogue)
            num_bytes[split] += len(record)
        stack.close()
        tfds.folder_dataset.write_metadata(
            data_dir=str(folder),
            features=spec,
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
            check_data=False,  # the check reads through TensorFlow, which jmer does without
        )
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "splits": sizes,
            "sequence_dims": dict(sequence_dims),
            "notes": [],
            "views": 0,
            "augmentation": {},
            "inputs_sha256": "",
            **describe(),
            "files": {f.name: files.sha256(f) for f in sorted(folder.iterdir())},
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def view_split(number: int) -> str:
    """Name of the split that holds a view of train; views are numbered from 1."""
    return f"train_view{number}"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset directory, opened and checked.

    dims: modality -> D, of the modalities that it holds.
    sequence_dims: modality -> D', of those whose sequences it holds too.
    manifest: the parsed `manifest.json`.
    """

    path: Path
    labels: tuple[str, ...]
    dims: Mapping[str, int]
    sequence_dims: Mapping[str, int]
    manifest: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the hashes of its files: equal for equal data."""
        return hashlib.sha256(json.dumps(self.manifest["files"], sort_keys=True).encode()).hexdigest()

    def split(self, name: str) -> tuple[Features, ...]:
        """Returns the dialogues of a split; arguments and errors as for `stored`."""
        return tuple(self.stored(name))

    def stored(self, name: str) -> Iterator[Features]:
        """Yields the dialogues of a split, each read when it is asked for.

        Raises:
          UserError: the dataset has no such split.
        """
        import tensorflow_datasets as tfds

        if name not in self.manifest["splits"]:
            raise UserError(f"{self.path}: no split '{name}' (it has {', '.join(self.manifest['splits'])})")
        builder = tfds.builder_from_directory(self.path)
        source = builder.as_data_source(name)  # pyright: ignore[reportCallIssue] (a decorator hides its arguments)
        return (_features(source[i], self.dims, self.sequence_dims) for i in range(len(source)))


def load(path: Path) -> Dataset:
    """Opens a dataset directory and checks every file against the manifest's hashes.

    Raises:
      UserError: there is no dataset, it is of another schema version, or a file is missing or damaged.
    """
    manifest = read_manifest(path)
    for name, digest in manifest["files"].items():
        file = path / name
        if not file.is_file():
            raise UserError(f"{file} is missing though {MANIFEST} lists it; run jmer.extract again")
        if files.sha256(file) != digest:
            raise UserError(f"{file} is damaged (its SHA-256 is not the one in {MANIFEST}); run jmer.extract again")
    dims = {m: manifest["modalities"][m]["dim"] for m in MODALITIES if manifest["modalities"][m]["dim"]}
    return Dataset(
        path=path,
        labels=tuple(manifest["labels"]),
        dims=dims,
        sequence_dims={m: dim for m, dim in manifest["sequence_dims"].items() if m in dims},
        manifest=manifest,
    )


def read_manifest(path: Path) -> dict[str, Any]:
    """Returns the manifest of a dataset directory.

    Raises:
      UserError: there is no dataset directory there, or it is of another schema version.
    """
    file = path / MANIFEST
    if not file.is_file():
        what = "has no manifest.json" if path.is_dir() else "does not exist"
        raise UserError(f"dataset {path} {what}; make one with python -m jmer.extract --config.out={path}")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        version = manifest["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not a dataset manifest of jmer's ({error}); run jmer.extract again") from error
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{file}: schema_version is {version}, this jmer reads {SCHEMA_VERSION}; "
            "run jmer.extract again, or use the jmer that wrote it"
        )
    return manifest


def is_replaceable(out: Path) -> bool:
    """Says whether `write` may put a dataset at `out`: nothing is there, or a dataset, or an empty folder."""
    return not out.exists() or (out.is_dir() and ((out / MANIFEST).is_file() or not any(out.iterdir())))


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """Gives a new folder that takes `out`'s place when the block ends well, and vanishes when it does not.

    Other processes may write the same `out` at the same time. What they were killed over is cleared away.
    """
    if not is_replaceable(out):
        raise UserError(f"{out} exists and is not a dataset of jmer's; name another folder with --config.out")
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
            with suppress(FileNotFoundError):  # where another process is as far as this one
                os.replace(out, tempfile.mkdtemp(dir=work))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _is_same(folder: Path, out: Path) -> bool:
    """Whether `out`, undamaged, holds the dataset that is in `folder`."""
    try:
        return read_manifest(out) == read_manifest(folder) and bool(load(out))
    except (UserError, OSError):
        return False


def _tfds_features(dims: Mapping[str, int], sequence_dims: Mapping[str, int]) -> Any:
    import tensorflow_datasets as tfds

    strings = tfds.features.Tensor(shape=(None,), dtype=np.object_)
    spec: dict[str, Any] = {
        "dialogue_id": tfds.features.Text(),
        "utterance_ids": strings,
        "speakers": strings,
        "texts": strings,
        "labels": tfds.features.Tensor(shape=(None,), dtype=np.int32),
        "sentiments": tfds.features.Tensor(shape=(None,), dtype=np.int32),
        "values": {m: tfds.features.Tensor(shape=(None, d), dtype=np.float32) for m, d in dims.items()},
        "present": {m: tfds.features.Tensor(shape=(None,), dtype=np.bool_) for m in dims},
    }
    if sequence_dims:  # those of a dialogue's utterances one after the other, and how long each is
        spec["sequences"] = {
            m: tfds.features.Tensor(shape=(None, d), dtype=np.float16) for m, d in sequence_dims.items()
        }
        spec["sequence_lengths"] = {m: tfds.features.Tensor(shape=(None,), dtype=np.int32) for m in sequence_dims}
    return tfds.features.FeaturesDict(spec)


def _example(dialogue: Features, dims: Mapping[str, int], sequence_dims: Mapping[str, int]) -> dict[str, Any]:
    example: dict[str, Any] = {
        "dialogue_id": dialogue.dialogue_id,
        "utterance_ids": np.array(dialogue.utterance_ids, np.object_),
        "speakers": np.array(dialogue.speakers, np.object_),
        "texts": np.array(dialogue.texts, np.object_),
        "labels": np.asarray(dialogue.labels, np.int32),
        "sentiments": np.asarray(dialogue.sentiments, np.int32),
        "values": {m: np.asarray(dialogue.values[m], np.float32) for m in dims},
        "present": {m: np.asarray(dialogue.present[m], np.bool_) for m in dims},
    }
    if sequence_dims:
        example["sequences"] = {m: np.concatenate(dialogue.sequences[m]) for m in sequence_dims}
        example["sequence_lengths"] = {
            m: np.array([len(sequence) for sequence in dialogue.sequences[m]], np.int32) for m in sequence_dims
        }
    return example


def _features(example: Mapping[str, Any], dims: Mapping[str, int], sequence_dims: Mapping[str, int]) -> Features:
    def strings(key: str) -> tuple[str, ...]:
        return tuple(s.decode() for s in example[key])

    return Features(
        dialogue_id=example["dialogue_id"].decode(),
        utterance_ids=strings("utterance_ids"),
        speakers=strings("speakers"),
        texts=strings("texts"),
        labels=example["labels"],
        sentiments=example["sentiments"],
        values={m: example["values"][m] for m in dims},
        present={m: example["present"][m] for m in dims},
        sequences={
            m: tuple(np.split(example["sequences"][m], np.cumsum(example["sequence_lengths"][m])[:-1]))
            for m in sequence_dims
        },
    )
