"""The one module that touches Hugging Face's transformers, which dropped Flax in version 5: a successor replaces this.

It must not be imported in a worker: it imports jax.
"""

import ast
import functools
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jmer.base.errors import UserError
from jmer.encoders import hub
from jmer.encoders.batching import batches

_SHORTEST = 8  # tokens; the lengths of batches are 8, 12, 16, 24, 32, 48 and so on


class Encoder:
    """A model of transformers' that has a Flax form.

    dim: D of the hidden states.
    layers: how many hidden states there are beside that before the first layer.
    """

    def __init__(self, model: str, *, field: str, expected: str):
        self.folder = hub.resolve(model, field=field)
        self._given, self._field, self._expected = model, field, expected
        with self._explained():
            from transformers import AutoConfig

            self.config = AutoConfig.from_pretrained(self.folder, local_files_only=True)
        self.dim: int = self.config.hidden_size
        self.layers: int = self.config.num_hidden_layers

    @functools.cached_property
    def sha256(self) -> str:
        return hub.sha256(self.folder)

    @functools.cached_property
    def model(self) -> Any:
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
    def params(self) -> Any:
        return self.model.to_fp32(self.model.params)

    @functools.cached_property
    def hidden(self) -> Any:
        """Jitted: inputs by name -> the mean of the hidden states of `layers`, `[B, T, D]`."""
        model = self.model

        @functools.partial(jax.jit, static_argnames="layers")
        def hidden(params: Any, inputs: dict[str, jax.Array], *, layers: tuple[int, ...]) -> jax.Array:
            # A GPU's own default of precision keeps three digits.
            with _standard_promotion(), jax.default_matmul_precision("float32"):
                output = model(**inputs, params=params, train=False, output_hidden_states=True)
            # The last as the model gives it: ViT's own list has it before the final normalisation.
            states = [*output.hidden_states[:-1], output.last_hidden_state]
            return functools.reduce(jnp.add, [states[layer] for layer in layers]) / len(layers)

        return hidden

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what transformers raises about a directory into one line."""
        try:
            yield
        except (OSError, ValueError, KeyError, NotImplementedError) as error:
            first = str(error).strip().splitlines()[0]
            raise UserError(
                f"{self._field}: {self._given} cannot be loaded: {first}; expected {self._expected}"
            ) from error


class TextEncoder(Encoder):
    """A BERT-type model with its tokenizer."""

    def __init__(self, model: str):
        super().__init__(
            model,
            field="text.model",
            expected="a BERT-type encoder of a kind that transformers has in Flax (BERT, RoBERTa, DistilBERT, ...), "
            "with its tokenizer",
        )

    def tokenize(self, text: str, *, before: str = "", limit: int) -> tuple[np.ndarray, slice, int]:
        """Returns token ids `[T]` int32 of a text after what was said before it, those of the text itself, and how many
        there would be uncut.

        T is at most `limit` and what the model has positions for. What was said before loses its beginning first; the
        text only loses its end. Without anything before it, the text's own tokens are all, the special ones included.
        """
        tokenizer = self._tokenizer
        limit = min(limit, tokenizer.model_max_length, self._positions)
        if not before:
            ids = tokenizer(text, verbose=False)["input_ids"]
            total = len(ids)
            if total > limit:
                ids = tokenizer(text, truncation=True, max_length=limit)["input_ids"]
            return np.array(ids, np.int32), slice(0, len(ids)), total
        if not tokenizer.is_fast:
            raise UserError(
                f"text.context: {self._given} has no fast tokenizer (tokenizer.json); leave the context out"
            )
        own = len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        special = tokenizer.num_special_tokens_to_add(pair=True)
        if own + special < limit:
            tokenizer.truncation_side, cut = "left", "only_first"
        else:  # no room for what was said before
            tokenizer.truncation_side, cut, before = "right", "only_second", ""
        encoded = tokenizer(before, text, truncation=cut, max_length=limit)
        inside = [i for i, part in enumerate(encoded.sequence_ids()) if part == 1]
        tokenizer.truncation_side = "right"
        return (
            np.array(encoded["input_ids"], np.int32),
            slice(inside[0], inside[-1] + 1),
            max(len(encoded["input_ids"]), own + special),
        )

    def padded_length(self, tokens: int) -> int:
        """The length of the batches in which a text of so many tokens is encoded. Past its last position a model gives
        NaN, which would reach the others through the attention's zeros."""
        length = _SHORTEST
        while length < tokens:
            length += 1 << (length.bit_length() - 2)
        return min(length, self._positions)

    def places(self, length: int) -> int:
        """How many texts a batch of that padded length has."""
        return max(_tokens_a_batch() // length, 1)

    def encode(
        self, texts: Sequence[tuple[np.ndarray, slice]], *, layers: Sequence[int], exact: bool
    ) -> list[np.ndarray]:
        """What `tokenize` gave of each text -> its hidden states `[T, D]` float32, the mean of those of `layers`.

        exact: of `jmer.encoders.batching.batches`.
        """
        lengths = [self.padded_length(len(ids)) for ids, _ in texts]
        out: dict[int, np.ndarray] = {}
        for length, places, batch in batches(lengths, places=self.places, exact=exact):
            tokens = np.full((places, length), self._tokenizer.pad_token_id or 0, np.int32)
            mask, segment = np.zeros_like(tokens), np.zeros_like(tokens)
            mask[:, 0] = 1  # an attention over nothing at all is not defined
            for row, (ids, own) in enumerate(texts[i] for i in batch):
                tokens[row, : len(ids)] = ids
                mask[row, : len(ids)] = 1
                segment[row, own.start : len(ids)] = own.start > 0
            inputs = {"input_ids": tokens, "attention_mask": mask}
            if getattr(self.config, "type_vocab_size", 1) > 1:
                inputs["token_type_ids"] = segment
            states = np.asarray(self.hidden(self.params, inputs, layers=tuple(layers)))
            out |= {i: states[row, : len(texts[i][0])] for row, i in enumerate(batch)}
        return [out[i] for i in range(len(texts))]

    @property
    def _positions(self) -> int:
        """How many tokens the model has positions for; RoBERTa numbers them from after the padding's id."""
        positions = getattr(self.config, "max_position_embeddings", None) or self._tokenizer.model_max_length
        shifted = self.config.model_type in ("roberta", "xlm-roberta", "camembert")
        return positions - ((self.config.pad_token_id or 0) + 1 if shifted else 0)

    @functools.cached_property
    def _tokenizer(self) -> Any:
        with self._explained():
            from transformers import AutoTokenizer

            return AutoTokenizer.from_pretrained(self.folder, local_files_only=True)


class ImageEncoder(Encoder):
    """A vision transformer."""

    def __init__(self, model: str):
        super().__init__(
            model,
            field="video.model",
            expected="a vision transformer of a kind that transformers has in Flax (ViT, BEiT, ...)",
        )

    def encode(self, images: np.ndarray, *, layers: Sequence[int], places: int) -> np.ndarray:
        """Images `[N, 3, height, width]` float32 as its processor makes them -> `[N, T, D]` float32, `[CLS]` first.

        places: of every batch.
        """
        out = []
        for _, _, batch in batches([1] * len(images), places=lambda _: places, exact=True):
            padded = np.zeros((places, *images.shape[1:]), images.dtype)
            padded[: len(batch)] = images[batch]
            states = self.hidden(self.params, {"pixel_values": padded}, layers=tuple(layers))
            out.append(np.asarray(states)[: len(batch)])
        return np.concatenate(out)


def _tokens_a_batch() -> int:
    """Larger batches gain nothing, and what the last one of each length lacks is computed in vain."""
    return 512 if jax.default_backend() == "cpu" else 8192


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
