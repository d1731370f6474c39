"""The one module that touches Hugging Face's transformers, which dropped Flax in version 5: a successor replaces this.

It must not be imported in a worker: it imports jax.
"""

import ast
import functools
import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jmer.errors import UserError

_WEIGHTS = ("flax_model.msgpack", "model.safetensors")  # in the order in which transformers prefers them
_TORCH_ONLY = "pytorch_model.bin"
_ASIDE = ("*.json", "*.txt", "*.model")  # configuration and tokenizer
_TOKENS_A_BATCH = 2048
_SHORTEST = 16  # tokens; the lengths of batches are this, doubled until the longest text fits
_SMALLEST = 8  # texts; a last batch that is not full has this many places, doubled until it fits


class TextEncoder:
    """A BERT-type model with its tokenizer.

    dim: D of the hidden states.
    sha256: hash of the weights, configuration and tokenizer files.
    """

    def __init__(self, model: str):
        self.folder = resolve(model)
        self._given = model
        with self._explained():
            from transformers import AutoConfig

            self._config = AutoConfig.from_pretrained(self.folder, local_files_only=True)
        self.dim: int = self._config.hidden_size

    @functools.cached_property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        aside = sorted(path for pattern in _ASIDE for path in self.folder.glob(pattern))
        for path in [*aside, next(self.folder / name for name in _WEIGHTS if (self.folder / name).is_file())]:
            with path.open("rb") as stream:
                digest.update(f"{path.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
        return digest.hexdigest()

    def tokenize(self, text: str, *, limit: int) -> tuple[np.ndarray, int]:
        """Returns token ids `[T]` int32, at most `limit` and what the model has positions for, and the uncut number."""
        limit = min(limit, self._tokenizer.model_max_length, self._positions)
        ids = self._tokenizer(text, verbose=False)["input_ids"]
        total = len(ids)
        if total > limit:
            ids = self._tokenizer(text, truncation=True, max_length=limit)["input_ids"]
        return np.array(ids, np.int32), total

    def encode(self, texts: Sequence[np.ndarray], *, pooling: str) -> np.ndarray:
        """Token ids `[T]` of each text -> `[N, D]` float32.

        Texts of like length share a batch. The shapes of batches are few, as each is compiled once.
        """
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        out = np.zeros((len(texts), self.dim), np.float32)
        while order:
            # Past its last position a model gives NaN, which reaches the others through the attention's zeros.
            length = min(_doubled(_SHORTEST, len(texts[order[0]])), self._positions)
            places = max(_TOKENS_A_BATCH // length, _SMALLEST)
            batch, order = order[:places], order[places:]
            places = min(places, _doubled(_SMALLEST, len(batch)))
            ids = np.full((places, length), self._tokenizer.pad_token_id or 0, np.int32)
            mask = np.zeros((places, length), np.int32)
            mask[:, 0] = 1  # so that an empty place has a mean
            for row, i in enumerate(batch):
                ids[row, : len(texts[i])] = texts[i]
                mask[row, : len(texts[i])] = 1
            out[batch] = np.asarray(self._pooled(self._params, ids, mask, pooling=pooling))[: len(batch)]
        return out

    @property
    def _positions(self) -> int:
        """How many tokens the model has positions for; RoBERTa numbers them from after the padding's id."""
        positions = getattr(self._config, "max_position_embeddings", None) or self._tokenizer.model_max_length
        shifted = self._config.model_type in ("roberta", "xlm-roberta", "camembert")
        return positions - ((self._config.pad_token_id or 0) + 1 if shifted else 0)

    @functools.cached_property
    def _tokenizer(self) -> Any:
        with self._explained():
            from transformers import AutoTokenizer

            return AutoTokenizer.from_pretrained(self.folder, local_files_only=True)

    @functools.cached_property
    def _model(self) -> Any:
        with self._explained(), _standard_promotion(), _captured_log() as log:
            from transformers import FlaxAutoModel

            # Random weights take the place of missing ones, and only the log tells.
            model = FlaxAutoModel.from_pretrained(self.folder, local_files_only=True, dtype=jnp.float32)
            lines = (re.search(r"newly initialized: (\{.*\})", record.getMessage()) for record in log)
            missing = [".".join(key) for line in lines if line for key in ast.literal_eval(line[1])]
            if missing := sorted(key for key in missing if not key.startswith("pooler")):  # the pooler is not used
                raise ValueError(f"{len(missing)} weights are missing, such as {missing[0]}")
        return model

    @functools.cached_property
    def _params(self) -> Any:
        return self._model.to_fp32(self._model.params)

    @functools.cached_property
    def _pooled(self) -> Any:
        model = self._model

        @functools.partial(jax.jit, static_argnames="pooling")
        def pooled(params: Any, ids: jax.Array, mask: jax.Array, *, pooling: str) -> jax.Array:
            with _standard_promotion():
                hidden = model(ids, attention_mask=mask, params=params, train=False).last_hidden_state
            if pooling == "cls":
                return hidden[:, 0]
            weight = mask[:, :, None].astype(hidden.dtype)
            return (hidden * weight).sum(axis=1) / weight.sum(axis=1)

        return pooled

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what transformers raises about a directory into one line."""
        try:
            yield
        except (OSError, ValueError, KeyError, NotImplementedError) as error:
            first = str(error).strip().splitlines()[0]
            raise UserError(
                f"text model {self._given} cannot be loaded: {first}; expected a BERT-type encoder of a kind that "
                "transformers has in Flax (BERT, RoBERTa, DistilBERT, ...), with its tokenizer"
            ) from error


def resolve(model: str) -> Path:
    """Returns the directory of a model, fetched from the hub if `model` is an id there and it is not yet cached.

    Raises:
      UserError: there is neither such a directory nor such a model on the hub, the hub cannot be reached, or the
        weights are in no format that can be read.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        if not re.fullmatch(r"([\w-][\w.-]*/)?[\w-][\w.-]*", model):
            raise UserError(f"text.model: no directory {model}, and it is no id on the Hugging Face hub either")
        folder = _from_hub(model)
    if not (folder / "config.json").is_file():
        raise UserError(f"text.model: {folder} has no config.json; expected a directory in Hugging Face's layout")
    if not any((folder / name).is_file() for name in _WEIGHTS):
        found = f"only {_TORCH_ONLY}" if (folder / _TORCH_ONLY).is_file() else "no weights"
        raise UserError(
            f"text.model: {folder} has {found}; expected {' or '.join(_WEIGHTS)}: where PyTorch is installed, "
            "AutoModel.from_pretrained(DIR).save_pretrained(DIR, safe_serialization=True) converts it"
        )
    return folder.resolve()


def _from_hub(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        # One of the formats is enough, and PyTorch's own is of no use; a model without either fails in `resolve`.
        folder = Path(snapshot_download(model, allow_patterns=[*_ASIDE, _WEIGHTS[1]]))
        if not (folder / _WEIGHTS[1]).is_file():
            folder = Path(snapshot_download(model, allow_patterns=[*_ASIDE, _WEIGHTS[0]]))
    except RepositoryNotFoundError as error:
        raise UserError(f"text.model: no directory {model}, and no such model on the Hugging Face hub") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise UserError(
            f"text.model: no directory {model}, and the Hugging Face hub cannot be reached; give the directory of a "
            "downloaded model, or fetch it where there is a network (hf download) and copy it here"
        ) from error
    return folder


def _doubled(start: int, least: int) -> int:
    while start < least:
        start *= 2
    return start


@contextmanager
def _standard_promotion() -> Iterator[None]:
    """What the Flax models of transformers are written for, whatever the caller has set."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@contextmanager
def _captured_log() -> Iterator[list[logging.LogRecord]]:
    """Collects what transformers logs, instead of printing it: pages of advice about every load."""
    logger, records = logging.getLogger("transformers"), []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    before = logger.handlers
    logger.handlers = [Keep()]
    try:
        yield records
    finally:
        logger.handlers = before
