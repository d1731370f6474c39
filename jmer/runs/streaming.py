"""A run that answers utterance by utterance, as a dialogue goes on, and what it remembers between them."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jmer.base.errors import UserError
from jmer.base.types import Batch
from jmer.nn.carry import CARRY, SUMS
from jmer.nn.model import Model
from jmer.runs.directory import Run
from jmer.training.steps import exact

Tree = Any  # a pytree of arrays


class Listener:
    """A run within one dialogue.

    An answer is that of the whole dialogue so far, and takes as long at the thousandth turn as at the tenth.
    """

    def __init__(self, run: Run):
        """Begins a dialogue.

        Raises:
          UserError: the run's model looks at later utterances, or at all earlier ones.
        """
        if faults := run.options.not_streamable:
            raise UserError(
                f"{run.directory.path} cannot answer utterance by utterance: {'; '.join(faults)}; train a causal "
                "model, such as with --config causal, which sets config.future=0 and config.encoder=gru"
            )
        self._run = run
        self._carry: Tree = None

    def answer(self, batch: Batch) -> tuple[Float[np.ndarray, "S 1 C"], Float[np.ndarray, "S 1 G"]]:
        """Returns what `jmer.runs.voting.predict_features` does, for the next utterance.

        Args:
          batch: `[1, 1]`, the utterance, with the number of its speaker in the dialogue.
        """
        run = self._run
        if self._carry is None:
            self._carry = _begin(run.model, run.params, run.stats, batch)
        self._carry = _with_room(self._carry, speakers=int(batch.speaker[0, 0]) + 1)
        probs, gates, self._carry = _step(run.model, run.params, run.stats, self._carry, batch)
        found = jax.device_get((probs, gates))
        return found[0][:, 0], found[1][:, 0]


@functools.partial(jax.jit, static_argnums=0)
@exact
def _begin(model: Model, params: Tree, stats: Tree, batch: Batch) -> Tree:
    """Returns what the model remembers before the first utterance: leaves `[S, K, ...]` of zeros."""
    return jax.tree.map(jnp.zeros_like, _apply(model, params, stats, {}, batch)[2])


@functools.partial(jax.jit, static_argnums=0)
@exact
def _step(model: Model, params: Tree, stats: Tree, carry: Tree, batch: Batch) -> tuple[jax.Array, jax.Array, Tree]:
    """Returns the probabilities `[S, B, 1, C]`, the gates `[S, B, 1, G]` and what the model then remembers."""
    probs, gates, carry = _apply(model, params, stats, carry, batch)
    return probs.mean(axis=1), gates.mean(axis=1), carry


def _apply(model: Model, params: Tree, stats: Tree, carry: Tree, batch: Batch) -> tuple[jax.Array, jax.Array, Tree]:
    def of(params: Tree, carry: Tree) -> tuple[jax.Array, jax.Array, Tree]:
        variables = {"params": params, "stats": stats} | ({CARRY: carry} if carry else {})
        output, changed = model.apply(variables, batch, mutable=[CARRY])
        return jax.nn.softmax(output.logits), output.gates, dict(changed).get(CARRY, {})

    return jax.vmap(jax.vmap(of))(params, carry)


def _with_room(carry: Tree, *, speakers: int) -> Tree:
    """Returns what is remembered, with room for so many speakers.

    The room doubles each time, since another program is compiled for it.
    """

    def grown(path: tuple, x: jax.Array) -> jax.Array:
        if not jax.tree_util.keystr(path, simple=True).endswith(SUMS) or x.shape[-2] >= speakers:
            return x
        room = x.shape[-2] * 2 ** math.ceil(math.log2(speakers / x.shape[-2]))
        return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, room - x.shape[-2]), (0, 0)])

    return jax.tree_util.tree_map_with_path(grown, carry)
