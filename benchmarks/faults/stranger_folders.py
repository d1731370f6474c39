"""The folders of `strangers.py` that could do harm: encoders with code, runs and datasets that name other files."""

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from benchmarks.faults.stranger_scene import (
    Scene,
    adapters,
    bert,
    case,
    edited,
    encoder,
    hashed,
    predicting,
    reading,
)  # fmt: skip
from jmer.base import files
from jmer.dataset import store
from jmer.dataset.records import layout, to_example
from jmer.training import checkpoint

# ---- encoders --------------------------------------------------------------------------------------------------------


def changed(file: Path, changes: Mapping[str, Any]) -> None:
    """Changes entries of a JSON file."""
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(content | dict(changes)))


def config_case(name: str, changes: Mapping[str, Any], *, says: str, file: str = "config.json") -> None:
    @case(name, says=says)
    def write(scene: Scene) -> Callable[[], object]:
        folder = bert(scene)
        (folder / "evil.py").write_text(scene.code)
        changed(folder / file, changes)
        return encoder(folder)


OWN = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model", "AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}
config_case("an encoder with code beside it", {"auto_map": OWN, "trust_remote_code": True}, says="")
config_case(
    "an encoder of an architecture in code", {"auto_map": OWN, "model_type": "evil"}, says="model_type is 'evil'"
)
config_case(
    "a tokenizer in code",
    {"auto_map": OWN, "tokenizer_class": "EvilTokenizer", "trust_remote_code": True},
    file="tokenizer_config.json",
    says="",  # transformers takes the plain tokenizer instead
)
config_case(
    "a template that runs code",
    {"chat_template": "{{ ''.__class__.__mro__[1].__subclasses__() }}"},
    file="tokenizer_config.json",
    says="",
)
config_case(
    "a tokenizer whose limit is a text", {"model_max_length": "a"}, file="tokenizer_config.json", says="bert can"
)
config_case("a tokenizer whose padding is a list", {"pad_token": [1]}, file="tokenizer_config.json", says="bert cannot")
for field, value in {
    "num_hidden_layers": 1_000_000_000,
    "hidden_size": "16",
    "num_attention_heads": 0,
    "intermediate_size": -1,
    "vocab_size": 1e9,
    "max_position_embeddings": [50],
    "layer_norm_eps": "1e-12",
    "hidden_act": ["gelu"],
    "type_vocab_size": None,
}.items():
    config_case(f"an encoder whose {field} is {value!r}", {field: value}, says=rf"config\.json: {field} is ")
config_case("an encoder of a trillion weights", {"hidden_size": 1 << 20}, says=r"config\.json asks for")


@case("a config.json of nested lists", says=r"config\.json cannot be read")
def _deep_config(scene: Scene) -> Callable[[], object]:
    folder = bert(scene)
    (folder / "config.json").write_text("[" * 200_000)
    return encoder(folder)


@case("a tokenizer.json of another form", says="bert cannot be loaded")
def _tokenizer_form(scene: Scene) -> Callable[[], object]:
    folder = bert(scene)
    (folder / "tokenizer.json").write_text('{"model": {"type": "Evil"}, "added_tokens": 7}')
    return encoder(folder)


for name in ("../other/model.safetensors", "/etc/passwd", "sub/model-1.safetensors", "weights.bin", 7):

    @case(
        f"an index of shards that names {name!r}",
        says=r"model\.safetensors\.index\.json.*( names |no usable weight_map)",
    )
    def _index(scene: Scene, name: Any = name) -> Callable[[], object]:
        folder = bert(scene)
        (scene.folder / "other").mkdir()
        (folder / "model.safetensors").rename(scene.folder / "other/model.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
        return encoder(folder)


for field, value in {"r": True, "lora_alpha": float("nan"), "base_model_name_or_path": 7}.items():

    @case(f"adapters whose {field} is {value!r}", says=r"adapter_config\.json")
    def _adapter_config(scene: Scene, changes: Any = {field: value}) -> Callable[[], object]:  # noqa: B006
        return encoder(adapters(scene, **changes))


for field, value in {
    "layer": "2",
    "labels": 5,
    "context": {"context": "all"},
    "base_sha256": 1,
    "modality": [],
}.items():

    @case(f"a note of fine-tuning whose {field} is {value!r}", says=r"jmer\.json is damaged")
    def _note(scene: Scene, changes: Any = {field: value}) -> Callable[[], object]:  # noqa: B006
        folder = bert(scene)
        note = {"format": 2, "modality": "text", "labels": ["a"], "layer": 2, "base_sha256": "", "context": {}}
        (folder / "jmer.json").write_text(json.dumps(note | changes))
        return encoder(folder)


# ---- runs ------------------------------------------------------------------------------------------------------------


def run_case(name: str, change: Callable[[Path, Scene], object], *, says: str) -> None:
    """Adds a case of a run, of which `change` changes a file."""

    @case(name, says=says)
    def write(scene: Scene) -> Callable[[], object]:
        run = scene.run()
        change(run, scene)
        return predicting(run)


def extractor(model: str, **entries: Any) -> Callable[[Path, Scene], object]:
    """Returns a change by which the encoder of text of a run is another one."""

    def change(run: Path, scene: Scene) -> None:
        spec = {"modality": "text", "kind": "hf", "version": 3, "weights": "0" * 64}
        spec |= {"options": {"model": model.replace("FOLDER", str(scene.folder))}} | entries
        edited(run / "features.json", lambda content: content["modalities"]["text"].update(extractor=spec))
        (scene.folder / "evil.py").write_text(scene.code)

    return change


run_case("a run that names an encoder outside", extractor("FOLDER/../good"), says="no directory")
run_case("a run that names a folder of the system", extractor("/etc"), says=r"/etc has no config\.json")
run_case("a run that names an id on the hub", extractor("stranger/encoder"), says="stranger/encoder.*hf download")
run_case("a run that names a pickle", extractor("FOLDER/pytorch_model.bin"), says="no directory")
run_case("a run of an unknown extractor", extractor("x", kind="evil.Encoder"), says="no text extractor 'evil.Encoder'")
run_case("a run of an unknown modality", extractor("x", modality="smell"), says=r"features\.json")
run_case("a run with an option of another type", extractor("x", options={"model": 7}), says="text extractor 'hf'")
run_case("a run with an unknown option", extractor("x", options={"model": "x", "code": "y"}), says="no option 'code'")
run_case("a run without options of its extractor", extractor("x", options=None), says=r"features\.json")


def entry(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Returns what makes an entry of a JSON object, or an entry within, another one; None for no such entry."""

    def change(content: dict[str, Any]) -> None:
        *outer, last = key.split(".")
        for name in outer:
            content = content[name]
        if value is None:
            del content[last]
        else:
            content[last] = value

    return change


def shown(value: Any) -> str:
    """Returns what `entry` makes of an entry, for the name of a case."""
    return "missing" if value is None else f"{value!r}"[:40]


def entry_case(file: str, key: str, value: Any, *, says: str) -> None:
    """Adds a case of a run in which an entry of a file, or an entry within, is another one; None for no such entry."""

    def change(run: Path, scene: Scene) -> None:
        edited(run / file, entry(key, value))

    run_case(f"a run whose {key} in {file} is {shown(value)}", change, says=says)


for key, values in {
    "labels": (None, 7, [], [1, 2, 3], ["a", "a", "b"], {"a": 1}),
    "dataset_fingerprint": (None, 7),
    "modalities": (None, [], {}, {"smell": {"dim": 1, "extractor": {}, "fingerprint": ""}}),
    "modalities.text": (7,),
    "modalities.text.dim": (None, "6", -1, 0, 1 << 40, True),
    "modalities.text.extractor": (None, "lite"),
    "modalities.text.fingerprint": (None, 7),
    "modalities.text.states": (0, "2", 5),
    "sequence_dims": (None, [], {"smell": 3}, {"audio": 1 << 40}, {"audio": "3"}),
    "format": (None, "5", 6, 0, [5]),
}.items():
    for value in values:
        entry_case("features.json", key, value, says=r"run/features\.json|run has run format")
for key, value in {
    "seeds": 1 << 30,
    "keep_epochs": 1 << 30,
    "hidden": 1 << 30,
    "heads": 0,
    "encoder_layers": 1 << 30,
    "evil": 1,
    "epochs": "4",
}.items():
    entry_case("config.json", key, value, says="config")


def calibrated(content: dict[str, Any]) -> Callable[[Path, Scene], object]:
    return lambda run, scene: files.save_sealed(run / "calibration.json", content)


for content in (
    {}, {"seeds": [1.0]}, {"seeds": 1.0, "vote": 1.0}, {"seeds": [], "vote": 1.0}, {"seeds": ["1"], "vote": 1.0},
    {"seeds": [float("nan")], "vote": 1.0}, {"seeds": [0.0], "vote": 1.0}, {"seeds": [1.0], "vote": -1.0},
):  # fmt: skip
    run_case(f"a run with the calibration {content}", calibrated(content), says=r"calibration\.json")


def resealed(run: Path, change: Callable[[Path], object]) -> None:
    """Changes the folder of the checkpoint, whose hashes then fit again."""
    folder = run / "checkpoints" / str(checkpoint.latest_epoch(run / "checkpoints"))
    change(folder)
    files.save_sealed(checkpoint._hash_file(folder), {"files": checkpoint._hashes(folder)})


def checkpoint_case(name: str, change: Callable[[Path, Scene], object], *, says: str = r"run/checkpoints/1") -> None:
    run_case(name, lambda run, scene: resealed(run, lambda folder: change(folder, scene)), says=says)


def every_file(folder: Path, scene: Scene, *, but: str = "") -> None:
    for file in folder.rglob("*"):
        if file.is_file() and file.name != but:
            file.write_bytes(scene.pickled)


def progress(value: Any) -> Callable[[Path, Scene], object]:
    return lambda folder, scene: next((folder / "progress").glob("metadata")).write_text(json.dumps(value))


checkpoint_case("a checkpoint of pickles", every_file)
for value in ([], {}, {"epoch": "1"}, {"epoch": 1, "improved_epoch": [1], "best_epoch": 7, "best_score": [[1]]}):
    checkpoint_case(f"a checkpoint whose progress is {value}", progress(value))
checkpoint_case("a checkpoint without its arrays", lambda folder, scene: shutil.rmtree(folder / "best"))
run_case(
    "a checkpoint of other shapes",
    lambda run, scene: edited(run / "config.json", lambda content: content.update(hidden=16)),
    says=r"run/checkpoints/1",
)
run_case(
    "hashes that name files outside",
    lambda run, scene: files.save_sealed(run / "checkpoints/1.sha256.json", {"files": {"../../../evil": "0" * 64}}),
    says="no checkpoint",
)
run_case(
    "hashes that are a list",
    lambda run, scene: files.save_sealed(run / "checkpoints/1.sha256.json", {"files": []}),
    says="no checkpoint",
)
for file in ("config.json", "features.json"):
    run_case(f"a pickle as {file}", lambda run, scene, f=file: (run / f).write_bytes(scene.pickled), says=file)
    run_case(f"nested lists as {file}", lambda run, scene, f=file: (run / f).write_text("[" * 200_000), says=file)


# ---- datasets --------------------------------------------------------------------------------------------------------


def data_case(name: str, change: Callable[[Path, Scene], object], *, says: str) -> None:
    """Adds a case of a dataset, whose hashes fit after `change`."""

    @case(name, says=says)
    def write(scene: Scene) -> Callable[[], object]:
        data = scene.data()
        change(data, scene)
        hashed(data)
        return reading(data)


def manifest_case(key: str, value: Any, *, says: str = r"data/manifest\.json") -> None:
    """Adds a case of a dataset in which an entry of the manifest, or an entry within, is another one."""

    def change(data: Path, scene: Scene) -> None:
        edited(data / "manifest.json", entry(key, value))

    data_case(f"a manifest whose {key} is {shown(value)}", change, says=says)


for key, values in {
    "name": (None, 7),
    "labels": (None, 7, [1, 2], ["a", "a"], []),
    "splits": (None, [], {"../train": {"dialogues": 1, "utterances": 1}}, {"train": 7}),
    "splits.train": ({}, {"dialogues": -1, "utterances": 5}, {"dialogues": 1 << 40, "utterances": 1 << 40}),
    "splits.train.dialogues": (11, 9),
    "splits.train.utterances": (1 << 50, "58", 57),
    "modalities": (None, [], {}),
    "modalities.text": (None, 7, {}),
    "modalities.text.dim": (None, -1, "6", 7, 1 << 40),
    "modalities.text.fingerprint": (None, 7),
    "modalities.text.extractor": (None, "lite"),
    "sequence_dims": (None, [], {"smell": 3}, {"audio": -1}, {"audio": 4}, {"audio": 1 << 40}),
    "sequence_lengths": ([], {"audio": "5"}, {"audio": -1}, {"audio": 1 << 40}),
    "rows": (None, 7, [7]),
    "notes": (7, [7]),
    "views": (None, -1, 1, 1 << 40, "0"),
    "files": (None, [], {"train": 7}),
    "schema_version": (None, "4", 5, [4]),
}.items():
    for value in values:
        says = (
            r"data/(manifest\.json|jmer-train)"
            if key.startswith(("splits.train", "modalities.text.dim", "sequence"))
            else r"data/manifest\.json"
        )
        manifest_case(key, value, says=says)
for name in ("../run/config.json", "/etc/hostname", "../../secret", "."):
    data_case(
        f"a manifest that names the file {name}",
        lambda data, scene, name=name: edited(data / "manifest.json", lambda c: c["files"].update({name: "0" * 64})),
        says=r"data/manifest\.json",
    )


def python_class(data: Path, scene: Scene) -> None:
    """Lets the description of TFDS name a class of the stranger, in a module that lies in the folder of the dataset."""
    (data / "evil.py").write_text(scene.code)
    described = json.loads((data / "features.json").read_text())
    described["pythonClassName"] = "evil.Features"
    (data / "features.json").write_text(json.dumps(described))


@case("a dataset whose description names a class in code", says="")
def _python_class(scene: Scene) -> Callable[[], object]:
    data = scene.data()
    python_class(data, scene)
    hashed(data)

    def opened() -> None:
        with mock.patch.object(sys, "path", [str(data), *sys.path]):  # as `python -m` does in that folder
            reading(data)()

    return opened


def shard(data: Path) -> Path:
    (file,) = data.glob("jmer-train.array_record*")
    return file


def records(*given: bytes) -> Callable[[Path, Scene], object]:
    """Returns a change by which the train split holds these records and no others."""

    def change(data: Path, scene: Scene) -> None:
        writer = ArrayRecordWriter(str(shard(data)), "group_size:1")
        for record in given:
            writer.write(record.replace(b"PICKLE", scene.pickled))
        writer.close()
        sizes = {"dialogues": len(given), "utterances": 5}
        edited(data / "manifest.json", lambda content: content["splits"].update(train=sizes))

    return change


SHARD = r"data/jmer-train\.array_record"
data_case("a shard that is a pickle", lambda data, scene: shard(data).write_bytes(scene.pickled), says=SHARD)
data_case("a shard of zeros", lambda data, scene: shard(data).write_bytes(bytes(1 << 20)), says=SHARD)
data_case("a shard of no bytes", lambda data, scene: shard(data).write_bytes(b""), says=SHARD)
data_case("a record that is a pickle", records(b"PICKLE"), says=SHARD)
data_case("a record of no bytes", records(b""), says=SHARD)
data_case("a record of 1 MiB of zeros", records(bytes(1 << 20)), says=SHARD)


def example_case(name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Adds a case of a dataset whose first record holds something else."""

    def changed_record(data: Path, scene: Scene) -> None:
        opened = store.load(data)
        written = layout(opened.dims, opened.sequence_dims)
        examples = [to_example(d, opened.dims, opened.sequence_dims) for d in opened.split("train")]
        change(examples[0])
        serializer = ExampleSerializer(written.get_serialized_info())
        found = [serializer.get_tf_example(written.encode_example(e)).SerializeToString() for e in examples]
        writer = ArrayRecordWriter(str(shard(data)), "group_size:1")
        for record in found:
            writer.write(record)
        writer.close()

    data_case(name, changed_record, says=SHARD)


def of(key: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda example: example.update({key: value})


example_case("a label that does not exist", lambda e: e["labels"].__setitem__(0, 3))
example_case("a label below -1", lambda e: e["labels"].__setitem__(0, -2))
example_case("a sentiment that does not exist", lambda e: e["sentiments"].__setitem__(0, 3))
example_case("fewer labels than utterances", lambda e: e.update(labels=e["labels"][1:]))
example_case("fewer speakers than utterances", lambda e: e.update(speakers=e["speakers"][1:]))
example_case("fewer vectors than utterances", lambda e: e["values"].update(text=e["values"]["text"][1:]))
example_case("fewer flags than utterances", lambda e: e["present"].update(text=e["present"]["text"][1:]))
example_case("lengths of sequences that do not fit", lambda e: e["sequence_lengths"]["audio"].__setitem__(0, 99))
example_case("a negative length of a sequence", lambda e: e["sequence_lengths"]["audio"].__setitem__(0, -1))
example_case("a name that is no text", of("speakers", np.array([b"\xff\xfe"] * 3, object)))
