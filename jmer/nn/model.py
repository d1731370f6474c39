"""The one assembled model: encoders, speaker graph, fusion, head."""

from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from jmer.graph import RELATIONS, drop_node, window_graph
from jmer.nn.encoders import BiGRU
from jmer.nn.fusion import GatedFusion
from jmer.nn.graph_layers import GAT, RGCN
from jmer.types import Batch

_CLIP = 10.0  # a standardised feature beyond so many deviations is an outlier or a dimension that train never used


class Output(NamedTuple):
    """logits: `[B, U, C]`; gates: `[B, U, M]`, each modality's share in the fusion."""

    logits: jax.Array
    gates: jax.Array


class Model(nn.Module):
    """Emotion logits for every utterance of a batch.

    Each modality is standardised and encoded over the dialogue; the modalities of an utterance are fused; a graph over
    speakers and time refines the fused features; an MLP gives the logits.

    dims: (modality, D) pairs, in the order of the gates' M axis.
    hidden: width of every layer.
    past, future: the graph's window, in utterances.
    graph_weight: lambda in fused + lambda * graph(fused).
    """

    dims: tuple[tuple[str, int], ...]
    num_classes: int
    hidden: int
    heads: int
    past: int
    future: int
    graph_weight: float
    dropout: float
    drop_node: float

    @nn.compact
    def __call__(self, batch: Batch, *, train: bool) -> Output:
        b, u = batch.mask.shape
        drop = nn.Dropout(self.dropout, deterministic=not train)
        present = jnp.stack([batch.present[m] & batch.mask for m, _ in self.dims], axis=-1)

        encoded = []
        for i, (modality, dim) in enumerate(self.dims):
            x = batch.features[modality]
            chex.assert_shape(x, (b, u, dim))
            # Before anything else: what stands where the modality is absent, NaN even, goes nowhere.
            x = jnp.where(present[..., i, None], self._standardise(modality, x), 0)
            x = nn.relu(nn.Dense(self.hidden, name=f"{modality}_in")(drop(x)))
            x = BiGRU(self.hidden // 2, name=f"{modality}_encoder")(x, batch.mask) + x
            encoded.append(nn.LayerNorm(name=f"{modality}_norm")(x))

        fused, gates = GatedFusion(self.hidden, name="fusion")(drop(jnp.stack(encoded, axis=2)), present)
        x = fused + self.graph_weight * self._graph(fused, batch, train=train)
        x = drop(nn.relu(nn.Dense(self.hidden, name="head_in")(nn.LayerNorm(name="head_norm")(x))))
        return Output(logits=nn.Dense(self.num_classes, name="head_out")(x), gates=gates)

    def _standardise(self, modality: str, x: jax.Array) -> jax.Array:
        """Centres and scales by the statistics of the train split, which are variables but not parameters."""
        mean = self.variable("stats", f"{modality}_mean", jnp.zeros, x.shape[-1:])
        scale = self.variable("stats", f"{modality}_scale", jnp.ones, x.shape[-1:])
        return jnp.clip((x - mean.value[None, None]) * scale.value[None, None], -_CLIP, _CLIP)

    def _graph(self, x: jax.Array, batch: Batch, *, train: bool) -> jax.Array:
        """R-GCN then GAT over the speaker graph: `[B, U, D] -> [B, U, D]`."""
        if train and self.drop_node > 0:
            x = drop_node(self.make_rng("dropout"), x, rate=self.drop_node)
        graph = window_graph(x, batch.mask, batch.speaker, past=self.past, future=self.future)
        nodes = RGCN(self.hidden, len(RELATIONS), name="rgcn")(graph)
        nodes = nn.relu(nn.LayerNorm(name="rgcn_norm")(nodes))
        nodes = GAT(self.hidden, self.heads, name="gat")(graph._replace(nodes=nodes))
        return nodes.reshape(x.shape)
