"""Finds models in Hugging Face's layout: a directory, or an id on their hub, which is fetched once.

Worker processes import this file, so it does not import jax. It opens no file that could hold code.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from jmer.base import files
from jmer.base.errors import UserError

WEIGHTS = ("flax_model.msgpack", "model.safetensors", "model.safetensors.index.json")  # the first that exists is read
_TORCH_ONLY = "pytorch_model.bin"
_CONFIGURATION = ("*.json", "*.txt", "*.model")  # of the model and of its tokenizer


def resolve(model: str, *, field: str) -> Path:
    """Returns the directory of a model. A model that is an id on the hub is fetched unless it is in the hub's cache.

    Args:
      model: a directory, or an id on the hub.
      field: the config field that names the model, for messages.

    Raises:
      UserError: neither the directory nor a model of that id exists, the hub cannot be reached, or the weights are in
        no format that jmer reads.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        if not re.fullmatch(r"([\w-][\w.-]*/)?[\w-][\w.-]*", model):
            raise UserError(
                f"{field}: no directory {model}, and no model on the Hugging Face hub can have that id; give the "
                "directory of a model, or an id such as bert-base-uncased"
            )
        folder = _from_hub(model, field=field)
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


def read_json(folder: Path, name: str, *, field: str) -> dict[str, Any]:
    """Returns the JSON object in `folder/name`.

    Raises:
      UserError: the file is missing or holds no JSON object.
    """
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{field}: {folder / name} cannot be read ({error}); fetch the model again") from error
    if not isinstance(content, dict):
        raise UserError(f"{field}: {folder / name} is not a JSON object; fetch the model again")
    return content


def sha256(folder: Path) -> str:
    """Returns one hash over the weights, the configuration and the tokenizer files of a model."""
    weights = next(name for name in WEIGHTS if (folder / name).is_file())
    shards = folder.glob("model-*.safetensors") if weights.endswith(".index.json") else [folder / weights]
    digest = hashlib.sha256()
    for path in [*sorted(p for pattern in _CONFIGURATION for p in folder.glob(pattern)), *sorted(shards)]:
        digest.update(f"{path.name} {files.sha256(path)}\n".encode())
    return digest.hexdigest()


def _from_hub(model: str, *, field: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        # The safetensors suffice where they exist; Flax's own format is the second choice. PyTorch's pickles are never
        # fetched, so `resolve` refuses a model that has nothing else.
        folder = Path(snapshot_download(model, allow_patterns=[*_CONFIGURATION, "model*.safetensors"]))
        if not any(folder.glob("model*.safetensors")):
            folder = Path(snapshot_download(model, allow_patterns=[*_CONFIGURATION, WEIGHTS[0]]))
    except RepositoryNotFoundError as error:
        raise UserError(
            f"{field}: no directory {model}, and no such model on the Hugging Face hub; correct the path or the id"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise UserError(
            f"{field}: no directory {model}, and the Hugging Face hub cannot be reached; give the directory of a "
            "downloaded model, or fetch the model where there is a network (hf download) and copy it here"
        ) from error
    return folder
