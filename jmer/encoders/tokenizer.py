"""Texts to token ids by a model's own tokenizer. No other file of jmer imports transformers.

A model's directory may contain Python code. The tokenizer is loaded with `trust_remote_code=False`, so that the code is
neither run nor offered to the user for running.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from jmer.base.errors import UserError

# A tokenizer is in the first of these files, or is made from the vocabulary in one of the others.
_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "tokenizer.model")


class Tokens(NamedTuple):
    """A text as token ids.

    ids: `[T]` int32, special tokens and the turns before the text included.
    own: which of `ids` belong to the text; empty if the text has no token, as with invisible characters only.
    uncut: the number of tokens before the text, or the turns before it, were cut to the limit.
    """

    ids: Int[np.ndarray, " T"]
    own: slice
    uncut: int


class Tokenizer:
    """The tokenizer of a model's directory.

    model: the model as the user named it, for messages.
    positions: the number of tokens that the model has positions for.

    Raises UserError, when made: the directory has no tokenizer that transformers can load.
    """

    def __init__(self, folder: Path, *, model: str, positions: int):
        self._model = model
        if not any((folder / name).is_file() for name in _FILES):  # transformers 5 would make an empty tokenizer
            raise UserError(
                f"text.model: {folder} has no tokenizer; expected one of {', '.join(_FILES)}; fetch the model again"
            )
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # that PyTorch is missing, which is not needed
        from transformers import AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            self.limit = min(positions, int(self._tokenizer.model_max_length))
            self.padding = int(self._tokenizer.pad_token_id or 0)
            self.mask: int | None = self._tokenizer.mask_token_id
        except Exception as error:  # transformers and tokenizers raise exceptions of many kinds on damaged files
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            if "custom code" in first:  # the rest of the message advises to trust the code
                first = "its tokenizer is Python code in the directory, which jmer does not run"
            raise UserError(
                f"text.model: {model} cannot be loaded: {first}; expected a model with its tokenizer (tokenizer.json, "
                "or its vocabulary)"
            ) from error

    @property
    def first(self) -> int:
        """The id of the token that every sequence begins with."""
        return self._tokenizer.cls_token_id

    @property
    def separator(self) -> int:
        """The id of the token that ends a part of a sequence."""
        return self._tokenizer.sep_token_id

    def turn(self, prefix: str, text: str) -> tuple[list[int], list[int]]:
        """Returns the ids of a prefix and of the text that follows it, without special tokens."""
        encoded = self._tokenizer(prefix + text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids, ends = encoded["input_ids"], [end for _, end in encoded["offset_mapping"]]
        split = sum(end <= len(prefix) for end in ends) if prefix else 0
        return ids[:split], ids[split:]

    def tokenize(self, text: str, *, before: str = "", limit: int) -> Tokens:
        """Tokenizes a text, with the turns before it as the first part of a pair.

        A sequence over the limit is cut: first the beginning of `before`, then the end of the text. Without `before`,
        every token is the text's own, the special tokens too.

        limit: the most tokens to return. The number of the model's positions is a limit too.

        Raises:
          UserError: there is no fast tokenizer, which `before` needs, or the limit leaves no token for the text.
        """
        tokenizer = self._tokenizer
        limit = min(limit, self.limit)
        if not before:
            ids = tokenizer(text, verbose=False)["input_ids"]
            uncut = len(ids)
            if uncut > limit:
                ids = tokenizer(text, truncation=True, max_length=limit)["input_ids"]
            return Tokens(ids=np.array(ids, np.int32), own=slice(0, len(ids)), uncut=uncut)
        if not tokenizer.is_fast:
            raise UserError(
                f"text.context: {self._model} has no fast tokenizer (tokenizer.json), which a context needs; set "
                "text.context to 0 or give another model"
            )
        special = tokenizer.num_special_tokens_to_add(pair=True)
        if limit <= special:
            raise UserError(
                f"text.max_tokens is {limit}; expected at least {special + 1} with a context, since {self._model} "
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
