"""The one assembled model: input, encoder, co-attention, fusion, speaker graph, head; each slot a choice.

    modalities -> [beside them, pooled sequences] -> input -> [early fusion] -> encoder -> [co-attention]
               -> [graph over modality nodes] -> [gated fusion] -> [graph over utterances] -> head
               -> [late fusion of logits] -> [specialist]

What flows is `[B, U, M, D]`: M branches, one a modality until they are fused, each valid where its mask says so.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jmer.base.labels import SENTIMENTS
from jmer.base.masks import Draws, dropout
from jmer.base.products import dense
from jmer.base.types import Batch
from jmer.nn import augment
from jmer.nn.encoder import CoAttention, Encoder
from jmer.nn.fusion import EarlyFusion, GatedFusion, LateFusion, drop_modality
from jmer.nn.pooling import AttentionPooling
from jmer.nn.speaker_graph import GraphOptions, SpeakerGraph

_CLIP = 10.0  # a standardised feature beyond so many deviations is an outlier or a dimension that train never used


class Output(NamedTuple):
    """What the model says of each utterance.

    logits: `[B, U, C]`.
    gates: `[B, U, G]`, the share of each of `Model.gate_names` in the fusion; they sum to 1.
    sentiment: `[B, U, 3]` logits; None without that task.
    specialist: `[B, U, K + 1]` logits of the K specialist classes and of all others; None without specialist.
    embedding: `[B, U, D]` of length 1, for the contrastive loss; None without it.
    prototypes: `[C, D]` of length 1; None without prototypes.
    """

    logits: jax.Array
    gates: jax.Array
    sentiment: jax.Array | None = None
    specialist: jax.Array | None = None
    embedding: jax.Array | None = None
    prototypes: jax.Array | None = None


class Head(nn.Module):
    """The last hidden layer and the logits of a branch: `[B, U, D] -> [B, U, D], [B, U, C]`."""

    num_classes: int
    dropout: float
    precision: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, draws: Draws | None) -> tuple[jax.Array, jax.Array]:
        hidden = nn.relu(dense(x.shape[-1], precision=self.precision, name="in")(nn.LayerNorm(name="norm")(x)))
        hidden = dropout(hidden, draws, rate=self.dropout)
        return hidden, nn.Dense(self.num_classes, name="out")(hidden)


class Model(nn.Module):
    """Emotion logits for every utterance of a batch.

    dims: (modality, D) pairs.
    sequence_dims: (modality, D') pairs of the modalities whose sequences, pooled by attention, are read beside their
      features.
    hidden: D of every layer.
    encoder, encoder_layers: kind of `Encoder`, and its blocks where it is a transformer.
    causal: no utterance sees a later one; wants a graph without future and an encoder that can be causal.
    co_attention: the modalities attend to each other after their encoders.
    fusion: `early`, `gated`, `late` or `hybrid`, as `jmer.nn.fusion` explains them.
    graph: None for no graph.
    graph_nodes: `utterance`, or `modality` for a node an utterance and branch.
    graph_weight: lambda in x + lambda * graph(x); where it is learned, its first value.
    modality_dropout, feature_noise, mixup: in training; `fusion.drop_modality` and `augment`.
    sentiment, embedding, prototypes: adds those outputs.
    precision: of the large products; one of `products.PRECISIONS`.
    specialist: the classes of a second head, which is merged with the first with weight `specialist_weight`.
    """

    dims: tuple[tuple[str, int], ...]
    num_classes: int
    sequence_dims: tuple[tuple[str, int], ...] = ()
    hidden: int = 128
    heads: int = 4
    encoder: str = "bigru"
    encoder_layers: int = 1
    causal: bool = False
    co_attention: bool = False
    fusion: str = "gated"
    graph: GraphOptions | None = GraphOptions()
    graph_nodes: str = "utterance"
    graph_weight: float = 1.0
    learn_graph_weight: bool = False
    dropout: float = 0.0
    modality_dropout: float = 0.0
    feature_noise: float = 0.0
    mixup: float = 0.0
    sentiment: bool = False
    specialist: tuple[int, ...] = ()
    specialist_weight: float = 0.5
    embedding: bool = False
    prototypes: bool = False
    precision: str = "float32"

    @property
    def gate_names(self) -> tuple[str, ...]:
        """What the gates weigh: the modalities; with hybrid fusion also `joint`; with early fusion nothing."""
        modalities = tuple(m for m, _ in self.dims)
        return {"early": (), "hybrid": (*modalities, "joint")}.get(self.fusion, modalities)

    @nn.compact
    def __call__(self, batch: Batch, *, train: bool) -> Output:
        mask, draws = batch.mask, Draws(self.make_rng("dropout")) if train else None
        dialogue = jnp.cumsum(batch.first, axis=1, dtype=jnp.int32)  # its number in the row
        x, present = self._inputs(batch, draws)
        if self.fusion in ("early", "hybrid"):
            joint = EarlyFusion(self.precision, name="early_fusion")(x, present)[:, :, None]
            if self.fusion == "early":
                x, present = joint, mask[..., None]
            else:
                x = jnp.concatenate([x, joint], axis=2)
                present = jnp.concatenate([present, mask[..., None]], axis=2)

        x = self._encode(x, present, batch, dialogue, draws)
        weight = self.graph_weight  # lambda, one for all branches
        if self.graph and self.learn_graph_weight:
            weight = self.param("graph_weight", nn.initializers.constant(weight), ())
        if self.graph and self.graph_nodes == "modality":
            x = x + weight * SpeakerGraph(self.graph, self.precision, name="graph")(
                x, present, dialogue, batch.speaker, draws
            )
        gates = jnp.zeros((*mask.shape, 0), x.dtype)
        if self.fusion == "gated":
            fused, gates = GatedFusion(self.precision, name="fusion")(dropout(x, draws, rate=self.dropout), present)
            x, present = fused[:, :, None], mask[..., None]
        if self.graph and self.graph_nodes == "utterance":
            graph = _each_branch(SpeakerGraph, in_axes=(0, 0, None, None, 0))(self.graph, self.precision, name="graph")
            nodes, valid = _branches_first(x)[:, :, :, None], _branches_first(present)[..., None]
            refined = graph(nodes, valid, dialogue, batch.speaker, draws and draws.fork(x.shape[2]))
            x = x + weight * refined[:, :, :, 0]

        head = _each_branch(Head, in_axes=(0, 0))(self.num_classes, self.dropout, self.precision, name="head")
        hidden, logits = head(_branches_first(x), draws and draws.fork(x.shape[2]))
        if self.fusion in ("late", "hybrid"):
            gates = LateFusion(name="late_fusion")(present)
            hidden, logits = (jnp.einsum("bum,bumd->bud", gates, a) for a in (hidden, logits))
        else:
            hidden, logits = hidden[:, :, 0], logits[:, :, 0]
        return self._output(hidden, logits, gates)

    def _inputs(self, batch: Batch, draws: Draws | None) -> tuple[jax.Array, jax.Array]:
        """Every modality standardised, augmented in training and brought to one width: `[B, U, M, D]`, and its mask."""
        present = jnp.stack([batch.present[m] & batch.mask for m, _ in self.dims], axis=-1)
        if draws and self.modality_dropout:
            present = drop_modality(draws.key(), present, rate=self.modality_dropout)
        each, sequence_dims = [], dict(self.sequence_dims)
        for i, (modality, dim) in enumerate(self.dims):
            x, here = batch.features[modality], present[..., i]
            chex.assert_shape(x, (*batch.mask.shape, dim))
            # Before anything else: what stands where the modality is absent, NaN even, goes nowhere.
            x = jnp.where(here[..., None], self._standardise(modality, x.astype(jnp.float32)), 0)
            if modality in sequence_dims:
                # Before mixup, which so mixes the frames of the same two utterances in the same shares.
                x = jnp.concatenate([x, self._pooled(modality, batch, here, sequence_dims[modality])], axis=-1)
            if draws and self.mixup:
                x = augment.mixup(draws.key(), x, here, batch.label, alpha=self.mixup)
            if draws and self.feature_noise:
                x = augment.noise(draws.key(), x, scale=self.feature_noise)
            x = dropout(x, draws, rate=self.dropout)
            each.append(nn.relu(dense(self.hidden, precision=self.precision, name=f"{modality}_in")(x)))
        return jnp.stack(each, axis=2), present

    def _pooled(self, modality: str, batch: Batch, here: jax.Array, dim: int) -> jax.Array:
        """The modality's sequences, each frame standardised, as one vector an utterance: `[B, U, D']`."""
        x, frames = batch.sequences[modality], batch.frames[modality] & here[..., None]
        chex.assert_shape(x, (*frames.shape, dim))
        x = self._standardise(f"{modality}_sequence", x.astype(jnp.float32))
        return AttentionPooling(self.hidden, self.precision, name=f"{modality}_pooling")(x, frames)

    def _standardise(self, name: str, x: jax.Array) -> jax.Array:
        """Centres and scales by the statistics of the train split, which are variables but not parameters."""
        mean = self.variable("stats", f"{name}_mean", jnp.zeros, x.shape[-1:])
        scale = self.variable("stats", f"{name}_scale", jnp.ones, x.shape[-1:])
        mean, scale = (jnp.expand_dims(v.value, range(x.ndim - 1)) for v in (mean, scale))
        return jnp.clip((x - mean) * scale, -_CLIP, _CLIP)

    def _encode(
        self, x: jax.Array, present: jax.Array, batch: Batch, dialogue: jax.Array, draws: Draws | None
    ) -> jax.Array:
        encoder = _each_branch(Encoder, in_axes=(0, None, None, None, 0))(
            self.encoder, self.heads, self.encoder_layers, self.causal, self.dropout, self.precision, name="encoder"
        )
        forked = draws and draws.fork(x.shape[2])
        x = encoder(_branches_first(x), batch.mask, dialogue, batch.speaker, forked)
        if self.co_attention:
            m = len(self.dims)  # a joint branch, which is last, already has all modalities
            co_attention = CoAttention(self.heads, self.causal, self.dropout, self.precision, name="co_attention")
            attended = co_attention(x[:, :, :m], present[..., :m], batch.mask, dialogue, batch.speaker, draws)
            x = jnp.concatenate([attended, x[:, :, m:]], axis=2)
        return x

    def _output(self, hidden: jax.Array, logits: jax.Array, gates: jax.Array) -> Output:
        output = Output(logits, gates)
        if self.sentiment:
            output = output._replace(sentiment=nn.Dense(len(SENTIMENTS), name="sentiment")(hidden))
        if self.specialist:
            specialist = nn.Dense(len(self.specialist) + 1, name="specialist")(hidden)
            merged = merge_specialist(logits, specialist, self.specialist, weight=self.specialist_weight)
            output = output._replace(logits=merged, specialist=specialist)
        if self.embedding:
            output = output._replace(embedding=_unit(nn.Dense(self.hidden, name="embedding")(hidden)))
        if self.prototypes:
            shape = (self.num_classes, self.hidden)
            output = output._replace(prototypes=_unit(self.param("prototypes", nn.initializers.normal(1.0), shape)))
        return output


def _each_branch(module: type[nn.Module], *, in_axes: Any) -> Callable[..., nn.Module]:
    """A module with parameters of its own for each branch: one program for all of them; out comes `[B, U, M, ...]`.

    What is mapped over has its branches first: XLA has no product of bfloat16 on a CPU where they stand elsewhere.
    """
    return nn.vmap(module, in_axes=in_axes, out_axes=2, variable_axes={"params": 0}, split_rngs={"params": True})


def _branches_first(x: jax.Array) -> jax.Array:
    """`[B, U, M, ...] -> [M, B, U, ...]`."""
    return jnp.moveaxis(x, 2, 0)


def merge_specialist(logits: jax.Array, specialist: jax.Array, classes: tuple[int, ...], *, weight: float) -> jax.Array:
    """Merges the main classifier with that of some classes; returns log-probabilities `[..., C]`.

    The result is (1 - w) p + w q: p of the main classifier; q gives the specialist's classes what the specialist gives
    them, and shares out the rest, its probability of `others`, as p does.

    Args:
      logits: `[..., C]`; specialist: `[..., K + 1]`, the last one for all other classes.
    """
    rare = jnp.broadcast_to(np.isin(np.arange(logits.shape[-1]), classes), logits.shape)
    log_p, log_s = nn.log_softmax(logits), nn.log_softmax(specialist)
    log_q = nn.log_softmax(jnp.where(rare, jnp.finfo(logits.dtype).min, logits)) + log_s[..., -1:]
    log_q = log_q.at[..., jnp.array(classes)].set(log_s[..., :-1])
    return jnp.logaddexp(log_p + jnp.log1p(-weight), log_q + jnp.log(weight))


def _unit(x: jax.Array) -> jax.Array:
    """Scaled to length 1; zeros stay finite, in the gradient too."""
    return x * jax.lax.rsqrt(jnp.maximum((x * x).sum(axis=-1, keepdims=True), 1e-12))
