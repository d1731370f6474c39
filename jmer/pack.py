"""Packed datasets: features of a whole corpus as TFDS array_record shards plus `manifest.json`.

The shards are written record by record, without TFDS's builder, for two reasons: memory stays flat however long the
corpus is, and the bytes are the same in every run (the builder serialises protobuf maps in hash order). The result is
an ordinary TFDS folder: `tfds.builder_from_directory(path).as_data_source("train")` reads it.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from jmer.errors import UserError
from jmer.types import MODALITIES, Features

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


def write(
    out: Path,
    *,
    name: str,
    labels: Sequence[str],
    splits: Mapping[str, Iterable[Features]],
    modalities: Mapping[str, Mapping[str, Any]],
    rows: Sequence[Mapping[str, str]],
    notes: Sequence[str] = (),
    views: int = 0,
    augmentation: Mapping[str, Any] = MappingProxyType({}),
    inputs_sha256: str = "",
) -> None:
    """Writes a dataset directory; it appears at `out` only when it is whole.

    Args:
      name: of the corpus.
      splits: dialogues by split, read once each, in order.
      modalities: for every modality `{"dim", "extractor", "fingerprint", "reason"}`; `dim` 0 marks it absent, with the
        reason, and its values are not written.
      rows: an utterance each: `{"split", "dialogue", "utterance", "status", "reason"}`; read after all the splits.
        Augmented views have none of their own.
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

    dims = {m: modalities[m]["dim"] for m in MODALITIES if modalities[m]["dim"]}
    spec = _tfds_features(dims)
    serializer = ExampleSerializer(spec.get_serialized_info())
    with _replacing(out) as folder:
        template = tfds.core.ShardedFileTemplate(
            data_dir=epath.Path(folder),
            dataset_name="jmer",
            filetype_suffix="array_record",
            template=_TEMPLATE,
            split="train",
        )
        infos, sizes = [], {}
        for split, dialogues in splits.items():
            split_template = template.replace(split=split)
            writer = ArrayRecordWriter(
                str(split_template.sharded_filepath(shard_index=0, num_shards=1)), "group_size:1"
            )
            count = utterances = num_bytes = 0
            for dialogue in dialogues:
                example = serializer.get_tf_example(spec.encode_example(_example(dialogue, dims)))
                record = example.SerializeToString(deterministic=True)
                writer.write(record)
                count, utterances, num_bytes = count + 1, utterances + len(dialogue), num_bytes + len(record)
            writer.close()
            infos.append(
                tfds.core.SplitInfo(
                    name=split, shard_lengths=[count], num_bytes=num_bytes, filename_template=split_template
                )
            )
            sizes[split] = {"dialogues": count, "utterances": utterances}
        tfds.folder_dataset.write_metadata(
            data_dir=str(folder),
            features=spec,
            split_infos=infos,
            filename_template=template,
            check_data=False,  # the check reads through TensorFlow, which jmer does without
        )
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "name": name,
            "labels": list(labels),
            "modalities": {m: dict(modalities[m]) for m in MODALITIES},
            "splits": sizes,
            "views": views,
            "augmentation": dict(augmentation),
            "inputs_sha256": inputs_sha256,
            "files": {f.name: _sha256(f) for f in sorted(folder.iterdir())},
            "notes": list(notes),
            "rows": [dict(row) for row in rows],
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def view_split(number: int) -> str:
    """Name of the split that holds a view of train; views are numbered from 1."""
    return f"train_view{number}"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset directory, opened and checked.

    dims: modality -> D, of the modalities that it holds.
    manifest: the parsed `manifest.json`.
    """

    path: Path
    labels: tuple[str, ...]
    dims: Mapping[str, int]
    manifest: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the hashes of its files: equal for equal data."""
        return hashlib.sha256(json.dumps(self.manifest["files"], sort_keys=True).encode()).hexdigest()

    def split(self, name: str) -> tuple[Features, ...]:
        """Returns the dialogues of a split.

        Raises:
          UserError: the dataset has no such split.
        """
        import tensorflow_datasets as tfds

        if name not in self.manifest["splits"]:
            raise UserError(f"{self.path}: no split '{name}' (it has {', '.join(self.manifest['splits'])})")
        builder = tfds.builder_from_directory(self.path)
        source = builder.as_data_source(name)  # pyright: ignore[reportCallIssue] (a decorator hides its arguments)
        return tuple(_features(source[i], self.dims) for i in range(len(source)))


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
        if _sha256(file) != digest:
            raise UserError(f"{file} is damaged (its SHA-256 is not the one in {MANIFEST}); run jmer.extract again")
    return Dataset(
        path=path,
        labels=tuple(manifest["labels"]),
        dims={m: manifest["modalities"][m]["dim"] for m in MODALITIES if manifest["modalities"][m]["dim"]},
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
    """Gives a new folder that takes `out`'s place when the block ends well, and vanishes when it does not."""
    if not is_replaceable(out):
        raise UserError(f"{out} exists and is not a dataset of jmer's; name another folder with --config.out")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        yield folder
        folder.chmod(0o755)  # mkdtemp keeps others out
        if out.exists():
            shutil.rmtree(out)
        os.replace(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _tfds_features(dims: Mapping[str, int]) -> Any:
    import tensorflow_datasets as tfds

    strings = tfds.features.Tensor(shape=(None,), dtype=np.object_)
    return tfds.features.FeaturesDict(
        {
            "dialogue_id": tfds.features.Text(),
            "utterance_ids": strings,
            "speakers": strings,
            "texts": strings,
            "labels": tfds.features.Tensor(shape=(None,), dtype=np.int32),
            "sentiments": tfds.features.Tensor(shape=(None,), dtype=np.int32),
            "values": {m: tfds.features.Tensor(shape=(None, d), dtype=np.float32) for m, d in dims.items()},
            "present": {m: tfds.features.Tensor(shape=(None,), dtype=np.bool_) for m in dims},
        }
    )


def _example(dialogue: Features, dims: Mapping[str, int]) -> dict[str, Any]:
    return {
        "dialogue_id": dialogue.dialogue_id,
        "utterance_ids": np.array(dialogue.utterance_ids, np.object_),
        "speakers": np.array(dialogue.speakers, np.object_),
        "texts": np.array(dialogue.texts, np.object_),
        "labels": np.asarray(dialogue.labels, np.int32),
        "sentiments": np.asarray(dialogue.sentiments, np.int32),
        "values": {m: np.asarray(dialogue.values[m], np.float32) for m in dims},
        "present": {m: np.asarray(dialogue.present[m], np.bool_) for m in dims},
    }


def _features(example: Mapping[str, Any], dims: Mapping[str, int]) -> Features:
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
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
