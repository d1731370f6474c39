"""Runs a published speech encoder over batches of like length. Worker processes must not import it: it imports jax."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jmer.base.errors import UserError
from jmer.base.types import SAMPLE_RATE
from jmer.encoders import hub, published
from jmer.encoders.batching import batches
from jmer.encoders.speech_input import HOP, SECONDS
from jmer.encoders.wav2vec2 import MODEL_TYPES, Wav2Vec2, Wav2Vec2Config
from jmer.encoders.whisper import Whisper, WhisperConfig

# Both in samples. Batches have lengths of `_SHORTEST` times a power of the square root of 2, up to `_LONGEST`.
_SHORTEST = SAMPLE_RATE
_LONGEST = SECONDS * SAMPLE_RATE


def parse_config(config: dict[str, Any], *, where: object) -> Wav2Vec2Config | WhisperConfig:
    """Reads the content of a config.json.

    where: names the field and the file in messages.

    Raises:
      UserError: jmer has no network for the architecture or for a variant of it, or a field is missing.
    """
    kind = config.get("model_type")
    if kind != "whisper" and kind not in MODEL_TYPES:
        raise UserError(
            f"{where}: model_type is '{kind}'; expected whisper, {', '.join(MODEL_TYPES)}; give a model of these types"
        )
    covered = {
        "conv_pos_batch_norm": False,
        "add_adapter": False,
        "adapter_attn_dim": None,
        "feat_extract_activation": "gelu",
        "hidden_act": "gelu",
        "activation_function": "gelu",
    }
    for name, value in covered.items():
        if config.get(name, value) != value:
            raise UserError(f"{where}: {name} is {config[name]!r}; jmer covers {value!r} only; give another model")
    cls = WhisperConfig if kind == "whisper" else Wav2Vec2Config
    fields = dataclasses.fields(cls)
    required = [field.name for field in fields if field.default is dataclasses.MISSING]
    if missing := [name for name in required if name not in config]:
        raise UserError(f"{where}: {missing[0]} is missing; fetch the model again")
    given: dict[str, Any] = {field.name: config[field.name] for field in fields if field.name in config}
    given |= {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    return cls(**given)


class SpeechEncoder:
    """A network with its weights, which are read when the first batch is encoded.

    dim: D of the hidden states.
    layers: the number of hidden states, without the one before the first layer.
    sha256: the hash of the model's files.

    Raises UserError, when made or first used: the configuration or the weights cannot be used.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        content = hub.read_json(folder, "config.json", field="audio.model")
        self.config = parse_config(content, where=f"audio.model: {folder / 'config.json'}")
        self.dim: int = self.config.hidden_size
        self.layers: int = self.config.num_hidden_layers
        self._network: Whisper | Wav2Vec2
        if isinstance(self.config, WhisperConfig):
            self._network, self._samples_an_entry = Whisper(config=self.config), HOP
        else:
            self._network, self._samples_an_entry = Wav2Vec2(config=self.config), 1
        self._params: Callable[[int], Any] = functools.cache(self._loaded)
        self._hidden: Callable[[tuple[int, ...]], Any] = functools.cache(self._jitted)

    @functools.cached_property
    def sha256(self) -> str:
        return hub.sha256(self._folder)

    def padded_length(self, length: int) -> int:
        """Returns the length to which an input of the given length is padded, both in entries of the input."""
        samples = length * self._samples_an_entry
        steps = max(math.ceil(2 * math.log2(samples / _SHORTEST)), 0)
        samples = max(min(math.ceil(_SHORTEST * 2 ** (steps / 2)), _LONGEST), samples)
        return 2 * math.ceil(samples / self._samples_an_entry / 2)

    def places(self, length: int) -> int:
        """Returns how many inputs a batch of the given padded length holds."""
        return max(_samples_a_batch() // (length * self._samples_an_entry), 1)

    def encode(
        self,
        inputs: Sequence[Float[np.ndarray, "..."]],
        *,
        layers: tuple[int, ...],
        exact: bool,
    ) -> list[Float[np.ndarray, "_ D"]]:
        """Encodes each input.

        inputs: waves `[T]`, or for Whisper spectrograms `[T, mels]`, float32; T differs.
        layers: the hidden states to average. 0 is the state before the first layer.
        exact: see `jmer.encoders.batching.batches`.

        Returns: for each input the mean of these hidden states, `[T', D]` float32.
        """
        padded_lengths = [self.padded_length(len(x)) for x in inputs]
        results: dict[int, np.ndarray] = {}
        for batch in batches(padded_lengths, places=self.places, exact=exact):
            padded = np.zeros((batch.places, batch.length, *inputs[batch.inputs[0]].shape[1:]), np.float32)
            lengths = np.zeros(batch.places, np.int32)
            for row, i in enumerate(batch.inputs):
                padded[row, : len(inputs[i])] = inputs[i]
                lengths[row] = len(inputs[i])
            found, mask = map(np.asarray, self._hidden(layers)(self._params(max(layers)), padded, lengths))
            results |= {i: found[row][mask[row]] for row, i in enumerate(batch.inputs)}
        return [results[i] for i in range(len(inputs))]

    def _loaded(self, highest: int) -> Any:
        """Returns the parameters of the layers up to the `highest`, on the device."""
        entries = (2, self.config.num_mel_bins) if isinstance(self.config, WhisperConfig) else (SAMPLE_RATE,)
        inputs = (jax.ShapeDtypeStruct((1, *entries), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32))
        return jax.device_put(published.load(self._folder, self._network, *inputs, (highest,)))

    def _jitted(self, layers: tuple[int, ...]) -> Any:
        """Returns a compiled function: parameters, padded inputs, lengths `[B]` -> mean over `layers`, and its mask."""

        @jax.jit
        def hidden(params: Any, inputs: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
            with jax.default_matmul_precision("float32"):  # by default a GPU multiplies in TF32, with 3 digits
                states, mask = cast(Any, self._network.apply(params, inputs, lengths, layers))
            return functools.reduce(jnp.add, states) / len(states), mask

        return hidden


def _samples_a_batch() -> int:
    """Returns the size of a batch in samples, padding included.

    Larger batches are not faster, and the last batch of each length wastes more of them on empty rows.
    """
    return (8 if jax.default_backend() == "cpu" else 256) * SAMPLE_RATE
