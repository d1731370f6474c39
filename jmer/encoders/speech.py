"""Runs a published speech encoder over batches of like length. Worker processes must not import it: it imports jax."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from jmer.base.types import SAMPLE_RATE
from jmer.encoders import hub
from jmer.encoders.batching import batches
from jmer.encoders.encoder import Encoder
from jmer.encoders.opened import Opened
from jmer.encoders.running import Running
from jmer.encoders.speech_input import HOP, SECONDS
from jmer.encoders.wav2vec2 import MODEL_TYPES, Wav2Vec2, Wav2Vec2Config
from jmer.encoders.whisper import Whisper, WhisperConfig

# Both in samples. Batches have lengths of `_SHORTEST` times a power of the square root of 2, up to `_LONGEST`.
_SHORTEST = SAMPLE_RATE
_LONGEST = SECONDS * SAMPLE_RATE


def parse_config(content: dict[str, Any], *, where: object) -> Wav2Vec2Config | WhisperConfig:
    """Reads the content of a config.json; `hub.parse` says what is refused.

    where: names the field and the file in messages.
    """
    return hub.parse(
        content,
        WhisperConfig if content.get("model_type") == "whisper" else Wav2Vec2Config,
        types=("whisper", *MODEL_TYPES),
        covered={
            "conv_pos_batch_norm": (False,),
            "add_adapter": (False,),
            "adapter_attn_dim": (None,),
            "feat_extract_activation": ("gelu",),
            "hidden_act": ("gelu",),
            "activation_function": ("gelu",),
        },
        where=where,
    )


class SpeechEncoder(Encoder):
    """A speech encoder.

    samples_an_entry: how many samples of sound an entry of the input stands for.

    Raises UserError, when made or first used: the configuration or the weights cannot be used.
    """

    def __init__(self, opened: Opened, *, running: Running = Running()):  # noqa: B008 (it is immutable)
        content = hub.read_json(opened.folder, "config.json", field="audio.model")
        self.config = parse_config(content, where=f"audio.model: {opened.folder / 'config.json'}")
        network: Whisper | Wav2Vec2
        if isinstance(self.config, WhisperConfig):
            network, self.samples_an_entry = Whisper(config=self.config, running=running), HOP
        else:
            network, self.samples_an_entry = Wav2Vec2(config=self.config, running=running), 1
        c = self.config
        super().__init__(opened, network, dim=c.hidden_size, layers=c.num_hidden_layers, field="audio.model")

    def padded_length(self, length: int) -> int:
        """Returns the length to which an input of the given length is padded, both in entries of the input."""
        samples = length * self.samples_an_entry
        steps = max(math.ceil(2 * math.log2(samples / _SHORTEST)), 0)
        samples = max(min(math.ceil(_SHORTEST * 2 ** (steps / 2)), _LONGEST), samples)
        return 2 * math.ceil(samples / self.samples_an_entry / 2)

    def places(self, length: int) -> int:
        """Returns how many inputs a batch of the given padded length holds."""
        return max(_samples_a_batch() // (length * self.samples_an_entry), 1)

    def encode(
        self,
        inputs: Sequence[Float[np.ndarray, "..."]],
        *,
        layers: tuple[int, ...],
        exact: bool,
        apart: bool = False,
    ) -> list[Float[np.ndarray, "_ D"]]:
        """Encodes each input.

        inputs: waves `[T]`, or for Whisper spectrograms `[T, mels]`, float32; T differs.
        layers: the hidden states to average. 0 is the state before the first layer.
        exact: see `jmer.encoders.batching.batches`.
        apart: the states are returned side by side rather than averaged.

        Returns: for each input the mean of these K hidden states, `[T', D]` float32, or all of them, `[T', K * D]`.
        """
        padded_lengths = [self.padded_length(len(x)) for x in inputs]
        results: dict[int, np.ndarray] = {}
        for batch in batches(padded_lengths, places=self.places, exact=exact):
            padded = np.zeros((batch.places, batch.length, *inputs[batch.inputs[0]].shape[1:]), np.float32)
            lengths = np.zeros(batch.places, np.int32)
            for row, i in enumerate(batch.inputs):
                padded[row, : len(inputs[i])] = inputs[i]
                lengths[row] = len(inputs[i])
            found, mask = map(np.asarray, self.hidden(layers, apart)(self.params(max(layers)), padded, lengths))
            results |= {i: found[row][mask[row]] for row, i in enumerate(batch.inputs)}
        return [results[i] for i in range(len(inputs))]

    def _example(self) -> tuple[np.ndarray, ...]:
        entries = (2, self.config.num_mel_bins) if isinstance(self.config, WhisperConfig) else (SAMPLE_RATE,)
        return np.zeros((1, *entries), np.float32), np.ones(1, np.int32)


def _samples_a_batch() -> int:
    """Returns the size of a batch in samples, padding included.

    Larger batches are not faster, and the last batch of each length wastes more of them on empty rows.
    """
    return (8 if jax.default_backend() == "cpu" else 256) * SAMPLE_RATE
