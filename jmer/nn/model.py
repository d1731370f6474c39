"""The one assembled model: input, encoder, co-attention, fusion, speaker graph, head; each slot is a choice.

    modalities -> [difference from the speaker's mean] -> [pooled sequences beside them] -> input -> [early fusion]
               -> encoder -> [co-attention] -> [graph over modality nodes] -> [gated fusion]
               -> [graph over utterances] -> head -> [late fusion of logits] -> [linear terms] -> [specialist]

The values that flow are `[B, U, M, D]`: M branches, one for each modality until they are fused. A mask `[B, U, M]` says
which branches of an utterance are present.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jmer.base.labels import SENTIMENTS
from jmer.base.masks import dropout, so_far
from jmer.base.options import is_on, names_in
from jmer.base.products import dense
from jmer.base.types import Batch, Rows
from jmer.nn import mixing
from jmer.nn.attention import CoAttention
from jmer.nn.carry import CARRY, SUMS, remembers
from jmer.nn.encoder import Encoder
from jmer.nn.fusion import EarlyFusion, GatedFusion, LateFusion, drop_modality
from jmer.nn.graph_layers import ATTENTION
from jmer.nn.options import ModelOptions
from jmer.nn.pooling import AttentionPooling
from jmer.nn.speaker_graph import SpeakerGraph

# A standardised feature beyond this many deviations is an outlier, or a dimension that the train split never uses.
_CLIP = 10.0
# Adam moves each parameter by about the learning rate in a step, too little to tell the hidden states of an encoder
# apart. The parameters of their softmax are therefore multiplied by this.
_STEEP = 10.0
_SPEAKERS = 8  # for whom a model that remembers has room at first


class Output(NamedTuple):
    """What the model says of each utterance.

    logits: `[B, U, C]` float32.
    gates: `[B, U, G]` float32, the share in the fusion of each of the G names in `Model.gate_names`. They sum to 1; all
      are 0 where an utterance has no modality, and there are none with early fusion.
    sentiment: `[B, U, 3]` logits; None without the sentiment task.
    branches: `[B, U, M, C]` logits of each branch by itself, and `branch_mask` `[B, U, M]`, which are present; None
      without their losses.
    specialist: `[B, U, K + 1]` logits of the K specialist classes and of all others; None without a specialist.
    embedding: `[B, U, D]` of length 1, for the contrastive loss; None without that loss.
    prototypes: `[C, D]` of length 1; None without prototypes.
    """

    logits: jax.Array
    gates: jax.Array
    sentiment: jax.Array | None = None
    branches: jax.Array | None = None
    branch_mask: jax.Array | None = None
    specialist: jax.Array | None = None
    embedding: jax.Array | None = None
    prototypes: jax.Array | None = None


class Head(nn.Module):
    """The last hidden layer and the logits of a branch."""

    options: ModelOptions
    classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "B U D"]) -> tuple[Float[Array, "B U D"], Float[Array, "B U C"]]:
        linear = dense(x.shape[-1], precision=self.options.precision, name="in")
        hidden = dropout(self, nn.relu(linear(nn.LayerNorm(name="norm")(x))), rate=self.options.dropout)
        return hidden, nn.Dense(self.classes, name="out")(hidden)


class Model(nn.Module):
    """Emotion logits for every utterance of a batch.

    In training the caller gives a key named `dropout`; without that key nothing is random, as in evaluation.

    options: what fills each slot.
    dims: (modality, D) pairs of the modalities that the model reads.
    sequence_dims: (modality, D') pairs of the modalities whose sequences the model reads too, pooled by attention.
    labels: the label names; C is their number.
    states: (modality, K) pairs of the modalities whose vectors hold K hidden states of an encoder, each D / K wide.
    """

    options: ModelOptions
    dims: tuple[tuple[str, int], ...]
    sequence_dims: tuple[tuple[str, int], ...]
    labels: tuple[str, ...]
    states: tuple[tuple[str, int], ...] = ()

    @property
    def gate_names(self) -> tuple[str, ...]:
        """What the gates weigh: the modalities, with hybrid fusion also `joint`, with early fusion nothing."""
        modalities = tuple(m for m, _ in self.dims)
        return {"early": (), "hybrid": (*modalities, "joint")}.get(self.options.fusion, modalities)

    @property
    def specialist_classes(self) -> tuple[int, ...]:
        """The classes of the specialist, by the order in which `options.specialist` names them."""
        return tuple(map(self.labels.index, names_in(self.options.specialist)))

    @nn.compact
    def __call__(self, batch: Batch) -> Output:
        batch = jax.tree.map(jnp.asarray, batch)
        o, rows = self.options, batch.rows
        x, present, linear = self._inputs(batch)
        if o.fusion in ("early", "hybrid"):
            joint = EarlyFusion(options=o, name="early_fusion")(x, present)[:, :, None]
            if o.fusion == "early":
                x, present = joint, rows.mask[..., None]
            else:
                x = jnp.concatenate([x, joint], axis=2)
                present = jnp.concatenate([present, rows.mask[..., None]], axis=2)

        x = self._encoded(x, present, rows)
        weight = o.graph_weight  # lambda, one number for all branches
        if o.graph_layers and o.learn_graph_weight:
            weight = self.param("graph_weight", nn.initializers.constant(weight), ())
        if o.graph_layers and o.graph_nodes == "modality":
            x = x + weight * SpeakerGraph(options=o, name="graph")(x, present, rows)
        gates = jnp.zeros((*rows.mask.shape, 0), x.dtype)
        if o.fusion == "gated":
            fused, gates = GatedFusion(options=o, name="fusion")(dropout(self, x, rate=o.dropout), present)
            x, present = fused[:, :, None], rows.mask[..., None]
        if o.graph_layers and o.graph_nodes == "utterance":
            graph = _each_branch(SpeakerGraph, in_axes=(0, 0, None))(options=o, name="graph")
            refined = graph(_branches_first(x)[:, :, :, None], _branches_first(present)[..., None], rows)
            x = x + weight * refined[:, :, :, 0]

        head = _each_branch(Head, in_axes=(0,))(options=o, classes=len(self.labels), name="head")
        hidden, logits = head(_branches_first(x))
        if o.fusion not in ("late", "hybrid"):
            return self._output(hidden[:, :, 0], sum(linear, logits[:, :, 0]), gates)
        gates = LateFusion(name="late_fusion")(present)
        mixed, total = (jnp.einsum("bum,bumd->bud", gates, a) for a in (hidden, logits))
        output = self._output(mixed, sum(linear, total), gates)
        if not is_on(o.branch_loss):
            return output
        if linear:  # a joint branch, which comes last, has none
            logits = logits.at[:, :, : len(linear)].add(jnp.stack(linear, axis=2))
        return output._replace(branches=logits, branch_mask=present)

    def _inputs(
        self, batch: Batch
    ) -> tuple[Float[Array, "B U M D"], Bool[Array, "B U M"], list[Float[Array, "B U C"]]]:
        """Returns every modality standardised, augmented in training and brought to one width; its mask; and the linear
        terms of the logits, one a modality, where the options ask for them."""
        o, training, sequence_dims = self.options, self.has_rng("dropout"), dict(self.sequence_dims)
        present = jnp.stack([batch.present[m] & batch.mask for m, _ in self.dims], axis=-1)
        if training and is_on(o.modality_dropout):
            present = drop_modality(self.make_rng("dropout"), present, rate=o.modality_dropout)
        each, linear = [], []
        for i, (modality, dim) in enumerate(self.dims):
            x, here = batch.features[modality], present[..., i]
            chex.assert_shape(x, (*batch.mask.shape, dim))
            # Nothing that stands where the modality is absent, not even NaN, goes any further.
            x = jnp.where(here[..., None], self._standardised(modality, x.astype(jnp.float32)), 0)
            if o.speaker_mean:
                known = remembers(self)
                other = (
                    self._from_mean_so_far(modality, x, here, batch.speaker)
                    if known
                    else _from_mean(x, here, batch.rows, causal=o.causal)
                )
                x = jnp.concatenate([x, other], axis=-1)
            width = x.shape[-1]
            if modality in sequence_dims:
                # Pooling comes before mixup, which thus mixes the frames of the same two utterances in the same shares.
                x = jnp.concatenate([x, self._pooled(modality, batch, here, sequence_dims[modality])], axis=-1)
            if training and is_on(o.mixup):
                x = mixing.mixup(self.make_rng("dropout"), x, here, batch.label, alpha=o.mixup)
            if training and is_on(o.feature_noise):
                x = mixing.noise(self.make_rng("dropout"), x, scale=o.feature_noise)
            x = dropout(self, x, rate=o.dropout)
            if o.linear:
                zeros = nn.initializers.zeros
                term = nn.Dense(len(self.labels), use_bias=False, kernel_init=zeros, name=f"{modality}_linear")(x)
                linear.append(jnp.where(here[..., None], term, 0))
            if (count := dict(self.states).get(modality, 1)) > 1:
                parts = x[..., :width].reshape(*x.shape[:-1], -1, count, dim // count)
                x = jnp.concatenate([self._weighed(modality, parts), x[..., width:]], axis=-1)
            each.append(nn.relu(dense(o.hidden, precision=o.precision, name=f"{modality}_in")(x)))
        return jnp.stack(each, axis=2), present, linear

    def _weighed(self, modality: str, states: Float[Array, "B U parts K D"]) -> Float[Array, "B U D2"]:
        """Returns the mean of K hidden states of an encoder with learned weights; the parts end to end.

        The weights are a softmax, as in SUPERB (Yang et al. 2021, section 3.2).
        """
        weights = nn.softmax(_STEEP * self.param(f"{modality}_states", nn.initializers.zeros, states.shape[-2:-1]))
        mean = jnp.einsum("bupkd,k->bupd", states, weights)
        return mean.reshape(*mean.shape[:2], -1)

    def _from_mean_so_far(
        self, modality: str, x: Float[Array, "B 1 D"], here: Bool[Array, "B 1"], speaker: Int[Array, "B 1"]
    ) -> Float[Array, "B 1 D"]:
        """Returns what `_from_mean` does, for the next utterance and by the sums over each speaker's earlier ones."""
        b, _, d = x.shape
        sums = self.variable(CARRY, modality + SUMS, jnp.zeros, (b, _SPEAKERS, d + 1))  # the last one counts
        own = jax.nn.one_hot(speaker, sums.value.shape[1], axis=1)  # [B, P, 1]
        counted = jnp.concatenate([x, jnp.ones((b, 1, 1), x.dtype)], axis=-1)
        sums.value = sums.value + own * jnp.where(here[..., None], counted, 0)
        total = (own * sums.value).sum(axis=1, keepdims=True)
        return jnp.where(here[..., None], x - total[..., :d] / jnp.maximum(total[..., d:], 1), 0)

    def _pooled(self, modality: str, batch: Batch, here: Bool[Array, "B U"], dim: int) -> Float[Array, "B U D2"]:
        """Returns the modality's sequences, each frame standardised, as one vector an utterance."""
        x, frame_mask = batch.sequences[modality], batch.frame_mask[modality] & here[..., None]
        chex.assert_shape(x, (*frame_mask.shape, dim))
        x = self._standardised(f"{modality}_sequence", x.astype(jnp.float32))
        return AttentionPooling(options=self.options, name=f"{modality}_pooling")(x, frame_mask)

    def _standardised(self, name: str, x: Float[Array, "*shape D"]) -> Float[Array, "*shape D"]:
        """Centres and scales by the statistics of the train split, which are variables but not parameters."""
        mean = self.variable("stats", f"{name}_mean", jnp.zeros, x.shape[-1:])
        scale = self.variable("stats", f"{name}_scale", jnp.ones, x.shape[-1:])
        mean, scale = (jnp.expand_dims(v.value, range(x.ndim - 1)) for v in (mean, scale))
        return jnp.clip((x - mean) * scale, -_CLIP, _CLIP)

    def _encoded(
        self, x: Float[Array, "B U M D"], present: Bool[Array, "B U M"], rows: Rows
    ) -> Float[Array, "B U M D"]:
        encoder = _each_branch(Encoder, in_axes=(0, None))(options=self.options, name="encoder")
        x = encoder(_branches_first(x), rows)
        if self.options.co_attention:
            m = len(self.dims)  # a joint branch, which comes last, has seen all modalities already
            co_attention = CoAttention(options=self.options, name="co_attention")
            x = jnp.concatenate([co_attention(x[:, :, :m], present[..., :m], rows), x[:, :, m:]], axis=2)
        return x

    def _output(
        self, hidden: Float[Array, "B U D"], logits: Float[Array, "B U C"], gates: Float[Array, "B U G"]
    ) -> Output:
        o, output = self.options, Output(logits, gates)
        if is_on(o.sentiment):
            output = output._replace(sentiment=nn.Dense(len(SENTIMENTS), name="sentiment")(hidden))
        if classes := self.specialist_classes:
            specialist = nn.Dense(len(classes) + 1, name="specialist")(hidden)
            merged = merge_specialist(logits, specialist, classes, weight=o.specialist_weight)
            output = output._replace(logits=merged, specialist=specialist)
        if is_on(o.contrastive.weight):
            output = output._replace(embedding=_unit(nn.Dense(o.hidden, name="embedding")(hidden)))
            if o.contrastive.prototypes:
                shape = (len(self.labels), o.hidden)
                prototypes = self.param("prototypes", nn.initializers.normal(1.0), shape)
                output = output._replace(prototypes=_unit(prototypes))
        return output


def _from_mean(
    x: Float[Array, "B U D"], here: Bool[Array, "B U"], rows: Rows, *, causal: bool
) -> Float[Array, "B U D"]:
    """Returns the difference of each utterance from the mean over all of its speaker's in its dialogue.

    Args:
      here: the utterances that have the features; the others do not count, and their difference is 0.
      causal: the mean is over the utterances up to each one.
    """
    same = (rows.dialogue[:, :, None] == rows.dialogue[:, None]) & (rows.speaker[:, :, None] == rows.speaker[:, None])
    same = same & here[:, :, None] & here[:, None]
    if causal:
        same = same & so_far(x.shape[1])[None]
    weight = same.astype(x.dtype) / jnp.maximum(same.sum(axis=-1, keepdims=True, dtype=x.dtype), 1)
    return jnp.where(here[..., None], x - jnp.einsum("buv,bvd->bud", weight, x), 0)


def _each_branch(module: type[nn.Module], *, in_axes: Any) -> Callable[..., Any]:
    """Returns a module with parameters and keys of its own for each branch, in one program for all of them.

    Mapped arguments have their branches first, since XLA has no bfloat16 product on a CPU where they stand elsewhere.
    The outputs are `[B, U, M, ...]`.
    """
    rngs: Any = {"params": True, "dropout": True}
    return nn.vmap(
        module, in_axes=in_axes, out_axes=2, variable_axes={"params": 0, ATTENTION: 0, CARRY: 0}, split_rngs=rngs
    )


def _branches_first(x: jax.Array) -> jax.Array:
    """`[B, U, M, ...] -> [M, B, U, ...]`."""
    return jnp.moveaxis(x, 2, 0)


def merge_specialist(
    logits: Float[Array, "*shape C"], specialist: Float[Array, "*shape K1"], classes: tuple[int, ...], *, weight: float
) -> Float[Array, "*shape C"]:
    """Merges the main classifier with the classifier of K rare classes; returns log-probabilities.

    The result is (1 - w) p + w q, where p is the main classifier's answer. In q, the rare classes have the
    probabilities that the specialist gives them, and the specialist's probability of `others` is shared out among the
    other classes as p shares it.

    Args:
      specialist: K1 = K + 1 logits, the last one for all other classes.
      classes: the K rare classes.
    """
    rare = jnp.broadcast_to(np.isin(np.arange(logits.shape[-1]), classes), logits.shape)
    log_p, log_s = nn.log_softmax(logits), nn.log_softmax(specialist)
    log_q = nn.log_softmax(jnp.where(rare, jnp.finfo(logits.dtype).min, logits)) + log_s[..., -1:]
    log_q = log_q.at[..., jnp.array(classes)].set(log_s[..., :-1])
    return jnp.logaddexp(log_p + jnp.log1p(-weight), log_q + jnp.log(weight))


def _unit(x: jax.Array) -> jax.Array:
    """Scales to length 1; zeros stay finite, in the gradient too."""
    return x * jax.lax.rsqrt(jnp.maximum((x * x).sum(axis=-1, keepdims=True), 1e-12))
