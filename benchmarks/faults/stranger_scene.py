"""What the cases of `strangers.py` share: where they are played, and what opens the files of a stranger.

The files are opened as by a user: an encoder that a config names, ready features, word vectors, a run, a dataset. A
stranger can write every hash that jmer checks, so these are right.
"""

import json
import pickle
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import tiny_encoders  # pyright: ignore[reportMissingImports] (of the tests)

import jmer
from jmer.base import files
from jmer.base.types import Turn
from jmer.dataset import manifest, store
from jmer.encoders.text import TextEncoder
from jmer.features import readyfile
from jmer.features.text.glove import Glove


class Trap:
    """Makes the file `trace` when it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Where a case is played.

    folder: the one that the stranger gives, empty at first.
    trace: a file that exists once code of the stranger has run.
    good: a run, and the dataset that it was trained on, as `run` and `data`.
    size: bytes that a bomb unpacks to.
    """

    folder: Path
    trace: Path
    good: Path
    size: int

    @property
    def pickled(self) -> bytes:
        return pickle.dumps({"a_1": Trap(self.trace)})

    @property
    def code(self) -> str:
        """Python that leaves a trace."""
        return f"open({str(self.trace)!r}, 'w')"

    def run(self) -> Path:
        """Returns a copy of the run."""
        return Path(shutil.copytree(self.good / "run", self.folder / "run"))

    def data(self) -> Path:
        """Returns a copy of the dataset."""
        return Path(shutil.copytree(self.good / "data", self.folder / "data"))


@dataclass(frozen=True, kw_only=True)
class Case:
    """Files of a stranger.

    write: writes them, and returns a function that opens them.
    says: a pattern of the refusal; empty where the files are to be read, since what could do harm is left alone.
    """

    name: str
    write: Callable[[Scene], Callable[[], object]]
    says: str = ""


CASES: list[Case] = []


def case(name: str, *, says: str = ""):
    """Adds the case that the decorated function writes."""

    def add(write: Callable[[Scene], Callable[[], object]]):
        CASES.append(Case(name=name, write=write, says=says))
        return write

    return add


# ---- what opens the files --------------------------------------------------------------------------------------------


def encoder(folder: Path) -> Callable[[], object]:
    """Returns a function that reads all of an encoder of text."""

    def opened() -> object:
        found = TextEncoder(str(folder))
        return found.tokenizer, found.sha256, found.params(found.layers)

    return opened


def bert(scene: Scene) -> Path:
    return tiny_encoders.save_bert(scene.folder / "bert")


def ready(file: Path) -> Callable[[], object]:
    return lambda: list(readyfile.open_file(file).entries())


def words(file: Path) -> Callable[[], object]:
    """Returns a function that reads word vectors, and makes features of a text."""

    def opened() -> object:
        made = Glove(model=str(file))
        prepared = made.prepare([Turn("a", "hello you")])
        return made.dim, made.weights, made.encode([prepared.payload])

    return opened


def predicting(run: Path) -> Callable[[], object]:
    """Returns a function that opens a run and predicts from a text."""
    return lambda: jmer.load(run).predict([{"speaker": "a", "text": "hello"}])


def reading(data: Path) -> Callable[[], object]:
    """Returns a function that reads all of a dataset."""

    def opened() -> object:
        found = store.load(data)
        return [found.split(split) for split in found.manifest["splits"]]

    return opened


def edited(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes a sealed file and seals it again."""
    content = files.load_sealed(file, cure="")
    change(content)
    files.save_sealed(file, content)


def hashed(data: Path, change: Callable[[dict[str, Any]], object] = lambda content: None) -> None:
    """Changes a manifest, and makes it fit to the files that lie there."""

    def all_files(content: dict[str, Any]) -> None:
        change(content)
        for file in data.iterdir():
            if file.name != manifest.MANIFEST and isinstance(content.get("files"), dict):
                content["files"][file.name] = files.sha256(file)

    edited(data / manifest.MANIFEST, all_files)


def adapters(scene: Scene, *, content: bytes | None = None, **config: Any) -> Path:
    """Writes adapters beside a BERT."""
    folder = scene.folder / "adapters"
    folder.mkdir()
    described = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "base_model_name_or_path": str(bert(scene))} | config
    (folder / "adapter_config.json").write_text(json.dumps(described))
    name = "base_model.model.encoder.layer.0.attention.self.query"
    factors = {f"{name}.lora_A.weight": np.ones((2, 16)), f"{name}.lora_B.weight": np.ones((16, 2))}
    save_file({key: x.astype(np.float32) for key, x in factors.items()}, folder / "adapter_model.safetensors")
    if content is not None:
        (folder / "adapter_model.safetensors").write_bytes(content)
    return folder
