"""Finds models in Hugging Face's layout: a directory, or an id on their hub, which is fetched once.

Worker processes import this file, so it does not import jax. It opens no file that could hold code.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import typing
from collections.abc import Collection, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from jmer.base import files, forms
from jmer.base.errors import UserError
from jmer.base.forms import at_least

WEIGHTS = ("flax_model.msgpack", "model.safetensors", "model.safetensors.index.json")  # the first that exists is read
ADAPTERS = "adapter_config.json"  # a directory with this file holds adapters, and no encoder

ENCODERS = "JMER_ENCODERS"  # environment variable that names a folder with one folder for each encoder

_PACKAGE = Path(__file__).resolve().parent.parent

_Config = TypeVar("_Config")

_named: ContextVar[Path | None] = ContextVar("_named", default=None)  # by `encoders_in`
_names: ContextVar[Path | None] = ContextVar("_names", default=None)  # by `named_by`

# Other names that the folder of an encoder may have.
_FOLDERS: Mapping[str, tuple[str, ...]] = {
    "all-MiniLM-L6-v2": ("minilm-l6-v2",),
    "whisper-tiny.en": ("whisper-tiny-en-encoder",),
}

_LARGEST, _MOST_LAYERS = 1 << 24, 1000  # of the numbers in a config.json; a billion layers would never be made

_TORCH_ONLY = "pytorch_model.bin"
SHARDS = "model-*.safetensors"
_SAFE = ("model*.safetensors", "adapter_model.safetensors")
_CONFIGURATION = ("*.json", "*.txt", "*.model")  # of the model and of its tokenizer


@contextlib.contextmanager
def encoders_in(folder: Path | None) -> Iterator[None]:
    """Lets `resolve` look for encoders in a folder, before it looks in that of $JMER_ENCODERS; None changes nothing.

    Raises:
      UserError: there is no such folder.
    """
    if folder is not None and not folder.is_dir():
        raise UserError(f"the folder of encoders {folder} does not exist; give the one in which the encoders lie")
    token = _named.set(folder or _named.get())
    try:
        yield
    finally:
        _named.reset(token)


@contextlib.contextmanager
def named_by(file: Path) -> Iterator[None]:
    """Keeps `resolve` from fetching what a file names and the user does not, since a stranger may have made the file.

    What was fetched before is found. A file of jmer's own may name what is fetched.
    """
    if file.resolve().is_relative_to(_PACKAGE):
        yield
        return
    token = _names.set(file)
    try:
        yield
    finally:
        _names.reset(token)


def resolve(model: str, *, field: str) -> Path:
    """Returns the directory of a model, or of adapters.

    A model that is no directory here is looked for in the folder of `encoders_in`, and then in the one that
    $JMER_ENCODERS names, under the last part of its name. Otherwise an id on the hub is fetched, unless it is cached.
    Within `named_by`, nothing is fetched.

    Args:
      model: a directory, or an id on the hub.
      field: the config field that names the model, for messages.

    Raises:
      UserError: neither the directory nor a model of that id exists, the hub cannot be reached, or the weights are in
        no format that jmer reads.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir() and (local := _in_encoders(model)):
        folder = local
    if not folder.is_dir():
        if not re.fullmatch(r"([\w-][\w.-]*/)?[\w-][\w.-]*", model):
            raise UserError(
                f"{field}: no directory {model}, and no model on the Hugging Face hub can have that id; give the "
                "directory of a model, or an id such as bert-base-uncased"
            )
        folder = _from_hub(model, field=field)
    if (folder / ADAPTERS).is_file():
        return folder.resolve()
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{field}: {folder} has no config.json; give a directory in Hugging Face's layout, with config.json, "
            "tokenizer and weights"
        )
    if not any((folder / name).is_file() for name in WEIGHTS):
        found = f"only {_TORCH_ONLY}" if (folder / _TORCH_ONLY).is_file() else "no weights"
        raise UserError(
            f"{field}: {folder} has {found}; expected {', '.join(WEIGHTS[:-1])} or {WEIGHTS[-1]}: where PyTorch is "
            "installed, AutoModel.from_pretrained(DIR).save_pretrained(DIR, safe_serialization=True) converts it"
        )
    return folder.resolve()


def _in_encoders(model: str) -> Path | None:
    """Returns the folder of a model in one of the folders of encoders; None where none has it."""
    name, given = Path(model).name, os.environ.get(ENCODERS)
    roots = [root for root in (_named.get(), Path(given).expanduser() if given else None) if root]
    folders = [root / each for root in roots for each in (name, *_FOLDERS.get(name, ()))]
    return next((folder for folder in folders if folder.is_dir()), None)


def read_json(folder: Path, name: str, *, field: str) -> dict[str, Any]:
    """Returns the JSON object in `folder/name`.

    Raises:
      UserError: the file is missing or holds no JSON object.
    """
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # RecursionError: thousands of brackets in brackets
        raise UserError(f"{field}: {folder / name} cannot be read ({error}); fetch the model again") from error
    if not isinstance(content, dict):
        raise UserError(f"{field}: {folder / name} is not a JSON object; fetch the model again")
    return content


def parse(
    content: Mapping[str, Any],
    cls: type[_Config],
    *,
    types: Collection[str],
    covered: Mapping[str, Collection[Any]],
    where: object,
) -> _Config:
    """Returns what a config.json says of the shape of a network.

    Args:
      content: of the file.
      cls: a dataclass whose fields have the names that they have in the file.
      types: the values of `model_type` that the network covers.
      covered: the values that other fields may have, where they are given.
      where: names the field and the file in messages.

    Raises:
      UserError: jmer has no network for the architecture or for a variant of it, or a field is missing or has a value
        that no network has.
    """
    if content.get("model_type") not in types:
        raise UserError(
            f"{where}: model_type is '{content.get('model_type')}'; expected {', '.join(types)}; give a model of these "
            "types"
        )
    for name, values in covered.items():
        if name in content and content[name] not in list(values):
            known = ", ".join(repr(value) for value in values if value is not None)
            raise UserError(f"{where}: {name} is {content[name]!r}; jmer covers {known} only; give another model")
    fields = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
    required = [field.name for field in fields if field.default is dataclasses.MISSING]
    if missing := [name for name in required if name not in content]:
        raise UserError(f"{where}: {missing[0]} is missing; fetch the model again")
    given = {field.name: content[field.name] for field in fields if field.name in content}
    kinds: Mapping[str, Any] = typing.get_type_hints(cls)
    for name, value in given.items():
        form = [at_least(1, _LARGEST)] if kinds[name] == tuple[int, ...] else kinds[name]
        least = 0 if name == "pad_token_id" else 1
        form = at_least(least, _MOST_LAYERS if name.endswith("layers") else _LARGEST) if form is int else form
        if fault := forms.fault(value, form, at=name):
            raise UserError(f"{where}: {fault}; fetch the model again")
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


def sha256(folder: Path) -> str:
    """Returns one hash over the weights, the configuration and the tokenizer files of a model."""
    weights = next(name for name in WEIGHTS if (folder / name).is_file())
    shards = folder.glob(SHARDS) if weights.endswith(".index.json") else [folder / weights]
    digest = hashlib.sha256()
    for path in [*sorted(p for pattern in _CONFIGURATION for p in folder.glob(pattern)), *sorted(shards)]:
        digest.update(f"{path.name} {files.sha256(path)}\n".encode())
    return digest.hexdigest()


def _from_hub(model: str, *, field: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    file = _names.get()
    try:
        # The safetensors suffice where they exist; Flax's own format is the second choice. PyTorch's pickles are never
        # fetched, so `resolve` refuses a model that has nothing else.
        folder = Path(snapshot_download(model, allow_patterns=[*_CONFIGURATION, *_SAFE], local_files_only=bool(file)))
        if not any(any(folder.glob(pattern)) for pattern in _SAFE):
            wanted = [*_CONFIGURATION, WEIGHTS[0]]
            folder = Path(snapshot_download(model, allow_patterns=wanted, local_files_only=bool(file)))
    except RepositoryNotFoundError as error:
        raise UserError(
            f"{field}: no directory {model}, and no such model on the Hugging Face hub; correct the path or the id"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        if file:
            raise UserError(
                f"{field}: {file} names {model}, which is not on this machine, and jmer fetches only what you name; if "
                f"you trust the model, fetch it (hf download {model}), or put it as {Path(model).name} into the folder "
                f"that ${ENCODERS} names"
            ) from error
        raise UserError(
            f"{field}: no directory {model}, and the Hugging Face hub cannot be reached; fetch the model where there "
            f"is a network (hf download {model}), and give its directory, or put it as {Path(model).name} into the "
            f"folder that ${ENCODERS} names"
        ) from error
    return folder
