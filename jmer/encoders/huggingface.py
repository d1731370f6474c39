"""Runs text and image encoders through transformers. No other file of jmer imports that package.

Worker processes must not import this file: it imports jax. transformers 5 has no Flax models, so a successor replaces
this file.

A model's directory may contain Python code. Every loader is called with `trust_remote_code=False`, so that the code is
neither run nor offered to the user for running.
"""

import ast
import functools
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jmer.base.errors import UserError
from jmer.encoders import hub
from jmer.encoders.batching import batches

_SHORTEST = 8  # tokens; batches have lengths of 8, 12, 16, 24, 32, 48 and so on

# Models that number positions from the padding token's id plus 1, and so have that many fewer of them for tokens.
_SHIFTED_POSITIONS = ("roberta", "roberta-prelayernorm", "xlm-roberta", "camembert")

_SAFE = {"local_files_only": True, "trust_remote_code": False}


class Encoder:
    """A model that transformers has in Flax. Its weights are read when they are first used.

    dim: D of the hidden states.
    layers: the number of hidden states, without the one before the first layer.
    sha256: the hash of the model's files.

    Raises UserError, when made or first used: the model cannot be found or loaded.
    """

    def __init__(self, model: str, *, field: str, expected: str):
        """field: the config field that names the model. expected: the kind of model it must be, for messages."""
        self.folder = hub.resolve(model, field=field)
        self._given, self._field, self._expected = model, field, expected
        with self._explained():
            from transformers import AutoConfig

            self.config = AutoConfig.from_pretrained(self.folder, **_SAFE)
        self.dim: int = self.config.hidden_size
        self.layers: int = self.config.num_hidden_layers

    @functools.cached_property
    def sha256(self) -> str:
        return hub.sha256(self.folder)

    @functools.cached_property
    def model(self) -> Any:
        """The model of transformers. Weights that its file lacks raise UserError, except those of the unused pooler."""
        with self._explained(), _standard_promotion(), _captured_log() as log:
            from transformers import FlaxAutoModel

            model = FlaxAutoModel.from_pretrained(self.folder, dtype=jnp.float32, **_SAFE)
            # transformers replaces missing weights by random ones and reports them in its log only.
            lines = (re.search(r"newly initialized: (\{.*\})", record.getMessage()) for record in log)
            missing = [".".join(key) for line in lines if line for key in ast.literal_eval(line[1])]
            if missing := sorted(key for key in missing if not key.startswith("pooler")):
                raise ValueError(f"{len(missing)} weights are missing, such as {missing[0]}")
        return model

    @functools.cached_property
    def params(self) -> Any:
        return self.model.to_fp32(self.model.params)

    @functools.cached_property
    def hidden(self) -> Any:
        """A compiled function: inputs by name -> the mean of the hidden states of `layers`, `[B, T, D]`."""
        model = self.model

        @functools.partial(jax.jit, static_argnames="layers")
        def hidden(params: Any, inputs: dict[str, jax.Array], *, layers: tuple[int, ...]) -> jax.Array:
            # By default a GPU multiplies in TF32, which keeps 3 digits.
            with _standard_promotion(), jax.default_matmul_precision("float32"):
                output = model(**inputs, params=params, train=False, output_hidden_states=True)
            # The last state is taken after the final normalisation, which ViT's own list of states leaves out.
            states = [*output.hidden_states[:-1], output.last_hidden_state]
            return functools.reduce(jnp.add, [states[layer] for layer in layers]) / len(layers)

        return hidden

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns an error that transformers raises about the directory into a UserError of one line."""
        try:
            yield
        except (OSError, ValueError, KeyError, NotImplementedError) as error:
            first = str(error).strip().splitlines()[0]
            if "custom code" in first:  # the rest of the message advises to trust the code
                first = "its architecture or tokenizer is Python code in the directory, which jmer does not run"
            raise UserError(
                f"{self._field}: {self._given} cannot be loaded: {first}; expected {self._expected}"
            ) from error


class Tokens(NamedTuple):
    """A text as token ids.

    ids: `[T]` int32, special tokens and the turns before the text included.
    own: which of `ids` belong to the text; empty if the text has no token, as with invisible characters only.
    uncut: the number of tokens before the text, or the turns before it, were cut to the limit.
    """

    ids: Int[np.ndarray, " T"]
    own: slice
    uncut: int


class TextEncoder(Encoder):
    """A BERT-type model with its tokenizer."""

    def __init__(self, model: str):
        super().__init__(
            model,
            field="text.model",
            expected="a BERT-type encoder of a kind that transformers has in Flax (BERT, RoBERTa, DistilBERT, ...), "
            "with its tokenizer",
        )

    def tokenize(self, text: str, *, before: str = "", limit: int) -> Tokens:
        """Tokenizes a text, with the turns before it as the first part of a pair.

        A sequence over the limit is cut: first the beginning of `before`, then the end of the text. Without `before`,
        every token is the text's own, the special tokens too.

        limit: the most tokens to return. The number of the model's positions is a limit too.

        Raises:
          UserError: there is no fast tokenizer, which `before` needs, or the limit leaves no token for the text.
        """
        tokenizer = self._tokenizer
        limit = min(limit, tokenizer.model_max_length, self._positions)
        if not before:
            ids = tokenizer(text, verbose=False)["input_ids"]
            uncut = len(ids)
            if uncut > limit:
                ids = tokenizer(text, truncation=True, max_length=limit)["input_ids"]
            return Tokens(ids=np.array(ids, np.int32), own=slice(0, len(ids)), uncut=uncut)
        if not tokenizer.is_fast:
            raise UserError(
                f"text.context: {self._given} has no fast tokenizer (tokenizer.json), which a context needs; set "
                "text.context to 0 or give another model"
            )
        special = tokenizer.num_special_tokens_to_add(pair=True)
        if limit <= special:
            raise UserError(
                f"text.max_tokens is {limit}; expected at least {special + 1} with a context, since {self._given} "
                f"marks the context and the text with {special} tokens"
            )
        own = len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        if not own:
            return Tokens(ids=np.zeros(0, np.int32), own=slice(0, 0), uncut=0)
        if own + special < limit:
            tokenizer.truncation_side, cut = "left", "only_first"
        else:  # the text fills the limit
            tokenizer.truncation_side, cut, before = "right", "only_second", ""
        encoded = tokenizer(before, text, truncation=cut, max_length=limit)
        tokenizer.truncation_side = "right"
        inside = [i for i, part in enumerate(encoded.sequence_ids()) if part == 1]
        ids = np.array(encoded["input_ids"], np.int32)
        return Tokens(ids=ids, own=slice(inside[0], inside[-1] + 1), uncut=max(len(ids), own + special))

    def padded_length(self, tokens: int) -> int:
        """Returns the length to which a text of that many tokens is padded.

        The length never exceeds the model's positions. Beyond its last position a model gives NaN, and the NaN of a
        masked token would reach the other tokens, because zero times NaN is NaN.
        """
        length = _SHORTEST
        while length < tokens:
            length += 1 << (length.bit_length() - 2)
        return min(length, self._positions)

    def places(self, length: int) -> int:
        """Returns how many texts a batch of the given padded length holds."""
        return max(_tokens_a_batch() // length, 1)

    def encode(
        self, texts: Sequence[tuple[Int[np.ndarray, " _"], slice]], *, layers: Sequence[int], exact: bool
    ) -> list[Float[np.ndarray, "_ D"]]:
        """Encodes each text.

        texts: the `ids` and `own` that `tokenize` returned for each; at least one id.
        layers: the hidden states to average. 0 is the state before the first layer.
        exact: see `jmer.encoders.batching.batches`.

        Returns: for each text the mean of these hidden states over all its ids, `[T, D]` float32.
        """
        lengths = [self.padded_length(len(ids)) for ids, _ in texts]
        out: dict[int, np.ndarray] = {}
        for batch in batches(lengths, places=self.places, exact=exact):
            tokens = np.full((batch.places, batch.length), self._tokenizer.pad_token_id or 0, np.int32)
            mask, segment = np.zeros_like(tokens), np.zeros_like(tokens)
            mask[:, 0] = 1  # attention over no token at all is not defined
            for row, (ids, own) in enumerate(texts[i] for i in batch.inputs):
                tokens[row, : len(ids)] = ids
                mask[row, : len(ids)] = 1
                segment[row, own.start : len(ids)] = own.start > 0
            inputs = {"input_ids": tokens, "attention_mask": mask}
            if getattr(self.config, "type_vocab_size", 1) > 1:
                inputs["token_type_ids"] = segment
            states = np.asarray(self.hidden(self.params, inputs, layers=tuple(layers)))
            out |= {i: states[row, : len(texts[i][0])] for row, i in enumerate(batch.inputs)}
        return [out[i] for i in range(len(texts))]

    @property
    def _positions(self) -> int:
        """The number of tokens that the model has positions for."""
        positions = getattr(self.config, "max_position_embeddings", None) or self._tokenizer.model_max_length
        shifted = self.config.model_type in _SHIFTED_POSITIONS
        return positions - ((self.config.pad_token_id or 0) + 1 if shifted else 0)

    @functools.cached_property
    def _tokenizer(self) -> Any:
        with self._explained():
            from transformers import AutoTokenizer

            return AutoTokenizer.from_pretrained(self.folder, **_SAFE)


class ImageEncoder(Encoder):
    """A vision transformer."""

    def __init__(self, model: str):
        super().__init__(
            model,
            field="video.model",
            expected="a vision transformer of a kind that transformers has in Flax (ViT, BEiT, ...)",
        )

    def encode(
        self, images: Float[np.ndarray, "images 3 height width"], *, layers: Sequence[int], places: int
    ) -> Float[np.ndarray, "images T D"]:
        """Encodes images.

        images: float32, resized and normalised as the model's processor does it.
        layers: the hidden states to average. 0 is the state before the first layer.
        places: the number of rows of every batch.

        Returns: float32, one vector a token, the `[CLS]` token first.
        """
        out = []
        for batch in batches([1] * len(images), places=lambda _: places, exact=True):
            padded = np.zeros((places, *images.shape[1:]), images.dtype)
            padded[: len(batch.inputs)] = images[batch.inputs]
            states = self.hidden(self.params, {"pixel_values": padded}, layers=tuple(layers))
            out.append(np.asarray(states)[: len(batch.inputs)])
        return np.concatenate(out)


def _tokens_a_batch() -> int:
    """Returns the size of a batch in tokens, padding included.

    Larger batches are not faster, and the last batch of each length wastes more of them on empty rows.
    """
    return 512 if jax.default_backend() == "cpu" else 8192


@contextmanager
def _standard_promotion() -> Iterator[None]:
    """Sets the promotion rules that the Flax models of transformers rely on, whatever the caller has set."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@contextmanager
def _captured_log() -> Iterator[list[logging.LogRecord]]:
    """Collects the log of transformers instead of printing it, since every load logs pages of advice."""
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
