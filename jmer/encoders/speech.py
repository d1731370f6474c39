"""A published speech encoder, run over batches of like length. It must not be imported in a worker: it imports jax."""

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jmer.base.types import SAMPLE_RATE
from jmer.encoders import hub, published
from jmer.encoders.batching import batches
from jmer.encoders.speech_input import HOP, SECONDS
from jmer.encoders.speech_nets import Wav2Vec2, Whisper, WhisperConfig, parse_config

# All in samples of sound.
_SHORTEST = SAMPLE_RATE  # the lengths of batches are this, times powers of 2^(1/2)
_LONGEST = SECONDS * SAMPLE_RATE


class SpeechEncoder:
    """A network with its weights.

    dim: D of the hidden states.
    layers: how many hidden states there are beside that before the first layer.
    sha256: hash of its files.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        content = hub.read_json(folder, "config.json", field="audio.model")
        self.config = parse_config(content, where=f"audio.model: {folder / 'config.json'}")
        self.dim: int = self.config.hidden_size
        self.layers: int = self.config.num_hidden_layers
        self._whisper = isinstance(self.config, WhisperConfig)
        self._network: Any = Whisper(self.config) if isinstance(self.config, WhisperConfig) else Wav2Vec2(self.config)
        self._params: Callable[[int], Any] = functools.cache(self._loaded)
        self._hidden: Callable[[tuple[int, ...]], Any] = functools.cache(self._jitted)

    @functools.cached_property
    def sha256(self) -> str:
        return hub.sha256(self._folder)

    def padded_length(self, length: int) -> int:
        """The length of the batches in which an input of that length is encoded."""
        samples = length * self._unit
        steps = max(math.ceil(2 * math.log2(samples / _SHORTEST)), 0)
        samples = max(min(math.ceil(_SHORTEST * 2 ** (steps / 2)), _LONGEST), samples)
        return 2 * math.ceil(samples / self._unit / 2)

    def places(self, length: int) -> int:
        """How many inputs a batch of that padded length has."""
        return max(_batch() // (length * self._unit), 1)

    def encode(self, inputs: Sequence[np.ndarray], *, layers: tuple[int, ...], exact: bool) -> list[np.ndarray]:
        """Waves `[T]` or spectrograms `[T, mels]` -> of each its frames, `[T', D]` float32, the mean over `layers`.

        exact: of `jmer.encoders.batching.batches`.
        """
        padded_lengths = [self.padded_length(len(x)) for x in inputs]
        results: dict[int, np.ndarray] = {}
        for length, places, batch in batches(padded_lengths, places=self.places, exact=exact):
            padded = np.zeros((places, length, *inputs[batch[0]].shape[1:]), np.float32)
            lengths = np.zeros(places, np.int32)
            for row, i in enumerate(batch):
                padded[row, : len(inputs[i])] = inputs[i]
                lengths[row] = len(inputs[i])
            found, mask = map(np.asarray, self._hidden(layers)(self._params(max(layers)), padded, lengths))
            results |= {i: found[row][mask[row]] for row, i in enumerate(batch)}
        return [results[i] for i in range(len(inputs))]

    @property
    def _unit(self) -> int:
        """Samples of sound to an entry of the inputs."""
        return HOP if self._whisper else 1

    def _loaded(self, highest: int) -> Any:
        """The parameters of the layers up to the `highest`, on the device."""
        entries = (2, self.config.num_mel_bins) if isinstance(self.config, WhisperConfig) else (SAMPLE_RATE,)
        inputs = (jax.ShapeDtypeStruct((1, *entries), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32))
        return jax.device_put(published.load(self._folder, self._network, *inputs, (highest,)))

    def _jitted(self, layers: tuple[int, ...]) -> Any:
        """Jitted: parameters, padded inputs, lengths `[B]` -> the mean of the hidden states of `layers`, their mask."""

        @jax.jit
        def hidden(params: Any, inputs: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
            with jax.default_matmul_precision("float32"):  # a GPU's own default keeps three digits
                states, mask = cast(Any, self._network.apply(params, inputs, lengths, layers))
            return functools.reduce(jnp.add, states) / len(states), mask

        return hidden


def _batch() -> int:
    """Samples of a batch, padding included. Larger ones gain nothing, and the last of each length is computed whole."""
    return (8 if jax.default_backend() == "cpu" else 256) * SAMPLE_RATE
