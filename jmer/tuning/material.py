"""What is fine-tuned: an encoder of text or of speech, the classifier around it, and the batches that it reads."""

import abc
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jmer.base.errors import UserError
from jmer.base.types import SAMPLE_RATE, Corpus
from jmer.encoders import hub
from jmer.encoders.bert import MODEL_TYPES as TEXTS
from jmer.encoders.encoder import Encoder
from jmer.encoders.opened import Note, open_model
from jmer.encoders.passages import ContextOptions
from jmer.encoders.speech import SpeechEncoder
from jmer.encoders.text import TextEncoder
from jmer.encoders.wav2vec2 import MODEL_TYPES as WAVES
from jmer.features.audio.encoder import HFAudio
from jmer.tuning import rows, sounds
from jmer.tuning.classifier import SpeechClassifier, TextClassifier
from jmer.tuning.options import TuneOptions


class Material(abc.ABC):
    """An encoder, and how it reads a corpus.

    encoder: as published.
    model: the classifier around the encoder's network.
    splits: of the corpus, by name; each has `label` and `sentiment`, `[N + 1]` int32 with one entry of padding.
    modality: what the encoder reads.
    layer: the hidden state that the heads read.
    options: of fine-tuning.
    """

    options: TuneOptions
    encoder: Encoder
    model: Any
    splits: Mapping[str, Any]
    modality: str
    layer: int

    def _open(self, encoder: Encoder, options: TuneOptions) -> None:
        self.encoder, self.options = encoder, options
        last = encoder.layers
        if not -last - 1 <= options.layer <= last or options.layer % (last + 1) == 0:
            raise UserError(f"config.layer is {options.layer}; expected a layer from 1 to {last}, or -1 for the last")
        self.layer = options.layer % (last + 1)
        if options.rank and encoder.opened.adapters is not None:
            raise UserError(
                f"config.model: {options.model} holds adapters, and new ones beside them could not be read again; give "
                f"their base ({encoder.opened.folder}), or train all weights with config.rank=0"
            )

    @abc.abstractmethod
    def batches(self, split: str, *, rng: np.random.Generator | None = None) -> Iterator[Any]:
        """Yields batches until every utterance was in one; with `rng`, those of an epoch of training."""

    @abc.abstractmethod
    def updates(self, rng: np.random.Generator) -> int:
        """Returns how many batches of train `batches` yields with this generator."""

    @abc.abstractmethod
    def note(self, labels: Sequence[str]) -> Note:
        """Returns the note that extraction reads beside the weights."""


class TextMaterial(Material):
    """An encoder of text, and dialogues as rows of tokens."""

    modality = "text"

    def __init__(self, options: TuneOptions, corpus: Corpus):
        """Reads the encoder and tokenizes the corpus.

        Raises:
          UserError: the encoder cannot be used.
        """
        encoder = TextEncoder(options.model)
        self._open(encoder, options)
        if options.mask_tokens and encoder.tokenizer.mask is None:
            raise UserError(f"config.mask_tokens: the tokenizer of {options.model} has no mask token; leave it out")
        self.splits = {
            name: rows.token_split(dialogues, labels=corpus.labels, options=options, tokenizer=encoder.tokenizer)
            for name, dialogues in corpus.splits.items()
        }
        self.model = text_classifier(encoder, options, layer=self.layer, classes=len(corpus.labels))
        width = min(options.max_tokens, encoder.tokenizer.limit)
        self._shape = rows.shape_of(self.splits.values(), width=width, batch_tokens=options.batch_tokens)

    def batches(self, split: str, *, rng: np.random.Generator | None = None) -> Iterator[rows.TokenBatch]:
        return rows.batches(self.splits[split], self._shape, masked=self.options.mask_tokens, rng=rng)

    def updates(self, rng: np.random.Generator) -> int:
        return rows.batch_count(self.splits["train"], self._shape, rng=rng)

    def note(self, labels: Sequence[str]) -> Note:
        context = ContextOptions(**{name: getattr(self.options, name) for name in ContextOptions.__dataclass_fields__})
        return Note(modality=self.modality, labels=tuple(labels), layer=self.layer, context=context)


class SpeechMaterial(Material):
    """An encoder of speech, and clips as spectrograms or waves."""

    modality = "audio"

    def __init__(self, options: TuneOptions, corpus: Corpus):
        """Reads the encoder and decodes the clips of the corpus.

        Raises:
          UserError: the encoder cannot be used, or no clip of train can be heard.
        """
        encoder = SpeechEncoder(open_model(options.model, field="config.model"))
        self._open(encoder, options)
        extractor = HFAudio(model=str(encoder.opened.folder), window=0)
        self.splits = sounds.sound_splits(corpus.splits, extractor, labels=corpus.labels)
        if not self.splits["train"].heard:
            raise UserError(f"{corpus.name}: no utterance of the train split has a clip with sound to learn from")
        network: Any = encoder.network.clone(running=options.running)
        self.model = SpeechClassifier(encoder=network, **_heads(options, layer=self.layer, classes=len(corpus.labels)))
        second = SAMPLE_RATE // encoder.samples_an_entry  # in entries of the input
        self._batches = functools.partial(
            sounds.batches,
            rows=options.batch_clips,
            padded_length=encoder.padded_length,
            crop=sounds.Crop(
                entries=2 * math.ceil(options.seconds * second / 2),
                entries_masked=int(options.mask_seconds * second),
                bands_masked=options.mask_bands,
                warp=options.warp,
            ),
        )

    def batches(self, split: str, *, rng: np.random.Generator | None = None) -> Iterator[sounds.SoundBatch]:
        return self._batches(self.splits[split], rng=rng)

    def updates(self, rng: np.random.Generator) -> int:
        return math.ceil(len(self.splits["train"].heard) / self.options.batch_clips)

    def note(self, labels: Sequence[str]) -> Note:
        return Note(modality=self.modality, labels=tuple(labels), layer=self.layer)


def text_classifier(encoder: TextEncoder, options: TuneOptions, *, layer: int, classes: int) -> TextClassifier:
    """Returns the classifier of dialogues around an encoder's network, as the options run it in training."""
    return TextClassifier(
        encoder=encoder.network.clone(running=options.running),
        reach=None if options.context < 0 else options.context,
        causal=options.causal,
        **_heads(options, layer=layer, classes=classes),
    )


def _heads(options: TuneOptions, *, layer: int, classes: int) -> dict[str, Any]:
    """Returns the arguments that all classifiers have."""
    return {
        "classes": classes,
        "sentiment": bool(options.sentiment),
        "rate": options.dropout,
        "layer": layer,
        "linear": options.linear,
    }


def material(options: TuneOptions, corpus: Corpus) -> Material:
    """Reads the encoder and the corpus, as text or as speech by the kind of the encoder.

    Raises:
      UserError: the encoder is of no kind that is fine-tuned, or cannot be used.
    """
    folder = open_model(options.model, field="config.model").folder
    kind = hub.read_json(folder, "config.json", field="config.model").get("model_type")
    if kind in TEXTS:
        return TextMaterial(options, corpus)
    if kind in ("whisper", *WAVES):
        return SpeechMaterial(options, corpus)
    known = ", ".join((*TEXTS, "whisper", *WAVES))
    raise UserError(f"config.model: {folder / 'config.json'} has model_type {kind!r}; expected one of {known}")
