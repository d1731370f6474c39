"""Runs an encoder of the BERT family over batches of texts. Worker processes must not import it: it imports jax."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from jmer.encoders import bert, hub
from jmer.encoders.batching import batches
from jmer.encoders.encoder import Encoder
from jmer.encoders.layers import ACTIVATIONS, Sees
from jmer.encoders.opened import open_model
from jmer.encoders.passages import ContextOptions, Passage
from jmer.encoders.running import Running
from jmer.encoders.tokenizer import Tokenizer, Tokens

_SHORTEST = 8  # tokens; batches have lengths of 8, 12, 16, 24, 32, 48 and so on


class TextEncoder(Encoder):
    """A model of the BERT family with its tokenizer.

    Raises UserError, when made or first used: the model cannot be found or loaded.
    """

    network: bert.Bert

    def __init__(self, model: str, *, running: Running = Running()):  # noqa: B008 (it is immutable)
        """model: a directory in Hugging Face's layout, or an id on their hub."""
        opened = open_model(model, field="text.model")
        self.config = parse_config(opened.folder)
        network, c = bert.Bert(config=self.config, running=running), self.config
        super().__init__(opened, network, dim=c.hidden_size, layers=c.num_hidden_layers, field="text.model")

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer(self.opened.folder, model=self.opened.given, positions=self.config.positions)

    def tokenize(self, text: str, *, before: str = "", limit: int) -> Tokens:
        """Returns `Tokenizer.tokenize` of the model's tokenizer."""
        return self.tokenizer.tokenize(text, before=before, limit=limit)

    def padded_length(self, tokens: int) -> int:
        """Returns the length to which a text of that many tokens is padded; at most the model's positions."""
        length = _SHORTEST
        while length < tokens:
            length += 1 << (length.bit_length() - 2)
        return min(length, self.config.positions)

    def places(self, length: int) -> int:
        """Returns how many texts a batch of the given padded length holds."""
        return max(_tokens_a_batch() // length, 1)

    def encode(
        self,
        texts: Sequence[tuple[Int[np.ndarray, " _"], slice]],
        *,
        layers: Sequence[int],
        exact: bool,
        apart: bool = False,
    ) -> list[Float[np.ndarray, "_ D"]]:
        """Encodes each text.

        texts: the `ids` and `own` that `tokenize` returned for each; at least one id.
        layers: the hidden states to average. 0 is the state before the first layer.
        exact: see `jmer.encoders.batching.batches`.
        apart: the states are returned side by side rather than averaged.

        Returns: for each text the mean of these K hidden states for all its ids, `[T, D]` float32, or all of them,
        `[T, K * D]`.
        """
        kinds = [np.arange(len(ids)) >= (own.start or len(ids)) for ids, own in texts]
        rows = [(ids, kind, np.zeros_like(ids)) for (ids, _), kind in zip(texts, kinds, strict=True)]
        return self._encoded(rows, (tuple(layers), apart), exact=exact, reach=None, causal=False)

    def encode_passages(
        self,
        found: Sequence[Passage],
        context: ContextOptions,
        *,
        layers: Sequence[int],
        exact: bool,
        apart: bool = False,
    ) -> list[Float[np.ndarray, "_ D"]]:
        """Encodes each passage; layers, exact, apart and the result are those of `encode`.

        context: which turns see each other.
        """
        rows = [(passage.ids, np.zeros_like(passage.ids), passage.turn) for passage in found]
        reach = None if context.context < 0 else context.context
        return self._encoded(rows, (tuple(layers), apart), exact=exact, reach=reach, causal=context.causal)

    def _encoded(
        self,
        given: Sequence[tuple[Any, Any, Any]],
        wanted: tuple[tuple[int, ...], bool],
        *,
        exact: bool,
        reach: int | None,
        causal: bool,
    ) -> list[np.ndarray]:
        """Encodes sequences of token ids, each given with the type and the turn of every token.

        wanted: the layers, and whether their states are returned apart.
        """
        lengths = [self.padded_length(len(ids)) for ids, _, _ in given]
        results: dict[int, np.ndarray] = {}
        for batch in batches(lengths, places=self.places, exact=exact):
            ids = np.full((batch.places, batch.length), self.tokenizer.padding, np.int32)
            segment, kind, turn = (np.zeros_like(ids) for _ in range(3))
            for row, i in enumerate(batch.inputs):
                here = slice(len(given[i][0]))
                ids[row, here], kind[row, here], turn[row, here] = given[i]
                segment[row, here] = 1
            position = np.broadcast_to(np.arange(batch.length, dtype=np.int32), ids.shape)
            sees = Sees(segment=segment, turn=turn, reach=reach, causal=causal)
            states = np.asarray(self.hidden(*wanted)(self.params(max(wanted[0])), ids, position, kind, sees)[0])
            results |= {i: states[row, : len(given[i][0])] for row, i in enumerate(batch.inputs)}
        return [results[i] for i in range(len(given))]

    def _example(self) -> tuple[Any, ...]:
        tokens = np.zeros((1, 1), np.int32)
        return tokens, tokens, tokens, Sees(segment=tokens)


def parse_config(folder: Path) -> bert.BertConfig:
    """Reads config.json of a text encoder.

    Raises:
      UserError: jmer has no network for the architecture or for a variant of it, or a field is missing.
    """
    content = hub.read_json(folder, "config.json", field="text.model")
    content = {bert.RENAMED.get(name, name): value for name, value in content.items()}
    return hub.parse(
        content,
        bert.BertConfig,
        types=bert.MODEL_TYPES,
        covered={
            "position_embedding_type": ("absolute", None),
            "is_decoder": (False,),
            "hidden_act": tuple(ACTIVATIONS),
        },
        where=f"text.model: {folder / 'config.json'}",
    )


def _tokens_a_batch() -> int:
    """Returns the size of a batch in tokens, padding included.

    Larger batches are not faster, and the last batch of each length wastes more of them on empty rows.
    """
    return 512 if jax.default_backend() == "cpu" else 8192
