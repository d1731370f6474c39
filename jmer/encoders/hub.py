"""Models in Hugging Face's layout: a directory, or an id on their hub, fetched once."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from jmer.base import files
from jmer.base.errors import UserError

WEIGHTS = ("flax_model.msgpack", "model.safetensors", "model.safetensors.index.json")  # the first found is read
_TORCH_ONLY = "pytorch_model.bin"
_ASIDE = ("*.json", "*.txt", "*.model")  # configuration and tokenizer


def resolve(model: str, *, field: str) -> Path:
    """Returns the directory of a model, fetched from the hub if `model` is an id there and it is not yet cached.

    Args:
      field: of the config that named it, for the messages.

    Raises:
      UserError: there is neither such a directory nor such a model on the hub, the hub cannot be reached, or the
        weights are in no format that can be read.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        if not re.fullmatch(r"([\w-][\w.-]*/)?[\w-][\w.-]*", model):
            raise UserError(f"{field}: no directory {model}, and it is no id on the Hugging Face hub either")
        folder = _from_hub(model, field=field)
    if not (folder / "config.json").is_file():
        raise UserError(f"{field}: {folder} has no config.json; expected a directory in Hugging Face's layout")
    if not any((folder / name).is_file() for name in WEIGHTS):
        found = f"only {_TORCH_ONLY}" if (folder / _TORCH_ONLY).is_file() else "no weights"
        raise UserError(
            f"{field}: {folder} has {found}; expected {', '.join(WEIGHTS[:-1])} or {WEIGHTS[-1]}: where PyTorch is "
            "installed, AutoModel.from_pretrained(DIR).save_pretrained(DIR, safe_serialization=True) converts it"
        )
    return folder.resolve()


def read_json(folder: Path, name: str, *, field: str) -> dict[str, Any]:
    """Returns what `folder/name` holds.

    Raises:
      UserError: it is missing or no JSON object.
    """
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{field}: {folder / name} cannot be read ({error}); fetch the model again") from error
    if not isinstance(content, dict):
        raise UserError(f"{field}: {folder / name} is not a JSON object; fetch the model again")
    return content


def sha256(folder: Path) -> str:
    """Hash of the weights, configuration and tokenizer files of a model's directory."""
    weights = next(name for name in WEIGHTS if (folder / name).is_file())
    shards = folder.glob("model-*.safetensors") if weights.endswith(".index.json") else [folder / weights]
    digest = hashlib.sha256()
    for path in [*sorted(p for pattern in _ASIDE for p in folder.glob(pattern)), *sorted(shards)]:
        digest.update(f"{path.name} {files.sha256(path)}\n".encode())
    return digest.hexdigest()


def _from_hub(model: str, *, field: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        # One of the formats is enough, and PyTorch's own is of no use; a model without either fails in `resolve`.
        folder = Path(snapshot_download(model, allow_patterns=[*_ASIDE, "model*.safetensors"]))
        if not any(folder.glob("model*.safetensors")):
            folder = Path(snapshot_download(model, allow_patterns=[*_ASIDE, WEIGHTS[0]]))
    except RepositoryNotFoundError as error:
        raise UserError(f"{field}: no directory {model}, and no such model on the Hugging Face hub") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise UserError(
            f"{field}: no directory {model}, and the Hugging Face hub cannot be reached; give the directory of a "
            "downloaded model, or fetch it where there is a network (hf download) and copy it here"
        ) from error
    return folder
