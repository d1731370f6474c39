"""A published network with its weights, and the compiled functions that run it. This file imports JAX."""

import abc
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jmer.base.errors import UserError
from jmer.encoders import published
from jmer.encoders.opened import Opened


class Encoder(abc.ABC):
    """A network with its weights, which are read when the first batch is encoded.

    opened: the model's files.
    network: whose `__call__` takes the layers last.
    dim: D of the hidden states.
    layers: the number of hidden states, without the one before the first layer.
    field: the config field that names the model, for messages.
    """

    def __init__(self, opened: Opened, network: nn.Module, *, dim: int, layers: int, field: str):
        self.opened, self.network, self.dim, self.layers, self._field = opened, network, dim, layers, field
        self.params: Callable[[int], Any] = functools.cache(self._loaded)
        self.hidden: Callable[..., Any] = functools.cache(self._jitted)

    @functools.cached_property
    def sha256(self) -> str:
        """The hash of the model's files."""
        return self.opened.sha256

    @functools.cached_property
    def sha256_of_halves(self) -> str:
        """The hash of all published weights, rounded to float16: a copy in half precision has the same."""
        return published.sha256_of_halves(self.published(self.layers)["params"])

    @property
    def is_in_halves(self) -> bool:
        """Whether the published weights lie here as a copy in half precision."""
        return published.is_in_halves(self.opened.folder)

    @abc.abstractmethod
    def _example(self) -> tuple[Any, ...]:
        """Returns inputs that the network takes, of any values, for a row of the smallest size."""

    def published(self, highest: int) -> Any:
        """Returns the published parameters of the layers up to the `highest`, without adapters."""
        return published.load(self.opened.folder, self.network, *self._example(), (highest,))

    def _loaded(self, highest: int) -> Any:
        """Returns the parameters of the layers up to the `highest`, on the device, with adapters merged into them."""
        params, adapters, note = self.published(highest), self.opened.adapters, self.opened.note
        if adapters is not None:
            if note and highest == note.layer and published.sha256_of_halves(params["params"]) != note.base_sha256:
                raise UserError(
                    f"{self._field}: the adapters in {self.opened.directory} were trained on other weights than those "
                    f"in {self.opened.folder}; give the encoder that their README names"
                )
            params = published.with_adapters(params, adapters, field=self._field)
        return jax.device_put(params)

    def _jitted(self, layers: tuple[int, ...], apart: bool) -> Any:
        """Returns a compiled function: parameters, inputs -> the states of `layers`, and their mask.

        apart: the states come side by side, `[..., K * D]`; otherwise their mean does.
        """

        @jax.jit
        def hidden(params: Any, *inputs: Any) -> tuple[jax.Array, jax.Array | None]:
            with jax.default_matmul_precision("float32"):  # by default a GPU multiplies in TF32, with 3 digits
                output: Any = self.network.apply(params, *inputs, layers)
            states, mask = output if isinstance(output, tuple) else (output, None)
            if apart:
                return jnp.concatenate(states, axis=-1), mask
            return functools.reduce(jnp.add, states) / len(states), mask

        return hidden
