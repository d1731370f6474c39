"""A model as a user names it: a published encoder, one that jmer fine-tuned, or adapters beside either.

`jmer.finetune` leaves a note, `jmer.json`, beside the weights. The note says how the encoder reads a dialogue, so that
extraction reads it in the same way. This file does not import JAX.
"""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmer.base import files, forms
from jmer.base.errors import UserError
from jmer.base.forms import at_least
from jmer.base.options import from_config
from jmer.encoders import adapters, hub
from jmer.encoders.adapters import Adapters
from jmer.encoders.passages import ContextOptions

NOTE = "jmer.json"
FORMAT = 2  # of the note
_FORM = {"modality": str, "labels": [str], "layer": at_least(0), "context": dict, "base_sha256": str}


@dataclass(frozen=True, kw_only=True)
class Note:
    """What fine-tuning leaves beside the weights.

    modality: what the encoder reads, `text` or `audio`.
    labels: the classes of the head, in their order.
    layer: the hidden state that the head reads.
    context: how an encoder of text reads a dialogue.
    base_sha256: of the published weights in use, rounded to float16, so that a copy in half precision has the same;
      empty where the directory holds all weights itself.
    """

    modality: str
    labels: tuple[str, ...]
    layer: int
    context: ContextOptions = ContextOptions()  # noqa: RUF009 (it is immutable)
    base_sha256: str = ""

    def write(self, folder: Path) -> None:
        files.save_json(folder / NOTE, {"format": FORMAT} | dataclasses.asdict(self))


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A model's files.

    given: the directory or id that the user gave.
    folder: the directory with config.json, tokenizer and weights of the encoder, or of the base of its adapters.
    directory: the directory that was given or fetched; another one than `folder` where it holds adapters.
    """

    given: str
    folder: Path
    directory: Path
    adapters: Adapters | None = None
    note: Note | None = None

    @property
    def sha256(self) -> str:
        """One hash over all files that decide the features."""
        if self.adapters is None:
            return hub.sha256(self.folder)
        parts = [hub.sha256(self.folder), f"{self.adapters.scale}"]
        names = [adapters.WEIGHTS, NOTE] if self.note else [adapters.WEIGHTS]
        parts += [files.sha256(self.directory / name) for name in names]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def open_model(model: str, *, field: str) -> Opened:
    """Returns the files of a model.

    Args:
      model: a directory, or an id on the Hugging Face hub.
      field: the config field that names the model, for messages.

    Raises:
      UserError: there is no such model, or its files cannot be used.
    """
    directory = hub.resolve(model, field=field)
    note = _note(directory, field=field) if (directory / NOTE).is_file() else None
    if not (directory / adapters.CONFIG).is_file():
        return Opened(given=model, folder=directory, directory=directory, note=note)
    found = adapters.read(directory, field=field)
    with hub.named_by(directory / adapters.CONFIG):
        folder = hub.resolve(found.base, field=f"{field}: the base of the adapters in {directory}")
    return Opened(given=model, folder=folder, directory=directory, adapters=found, note=note)


def _note(directory: Path, *, field: str) -> Note:
    content: dict[str, Any] = hub.read_json(directory, NOTE, field=field)
    if content.get("format") != FORMAT:
        raise UserError(
            f"{field}: {directory / NOTE} has format {content.get('format')}, but this version of jmer reads format "
            f"{FORMAT}; use the jmer that wrote it, or fine-tune again"
        )
    fault = forms.fault(content, _FORM)
    try:
        context = None if fault else from_config(ContextOptions, content["context"])
    except UserError as error:
        context, fault = None, str(error)
    if context is None:
        raise UserError(f"{field}: {directory / NOTE} is damaged ({fault}); fine-tune again")
    given = {name: content[name] for name in ("modality", "layer", "base_sha256")}
    return Note(labels=tuple(content["labels"]), context=context, **given)
