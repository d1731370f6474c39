"""The graph slot of the model: a stack of graph layers over one speaker graph."""

from dataclasses import dataclass

import flax.linen as nn
import jax

from jmer.base.masks import Draws
from jmer.graph import drop_edge, drop_node, relation_names, speaker_graph
from jmer.nn.graph_layers import GAT, GRNN, RGCN, GFPush


@dataclass(frozen=True, kw_only=True)
class GraphOptions:
    """How a speaker graph is made and what runs over it.

    layers: any of `rgcn`, `gat`, `grnn` and `gfpush`, in the order they are applied.
    past, future, distance_bins, form: of `jmer.graph.speaker_graph`.
    bases: of the relational layers' weights; 0: a free matrix a relation.
    order, alpha, rmax, top_k, scheme: of `GFPush`.
    drop_node, drop_edge: rates in training.
    """

    layers: tuple[str, ...] = ("rgcn", "gat")
    past: int = 10
    future: int = 10
    distance_bins: tuple[int, ...] = ()
    heads: int = 4
    bases: int = 0
    order: int = 4
    alpha: float = 0.2
    rmax: float = 0.0
    top_k: int = 0
    scheme: str = "ppr"
    drop_node: float = 0.0
    drop_edge: float = 0.0
    form: str = "auto"


class SpeakerGraph(nn.Module):
    """Refines nodes by their neighbours: `[B, U, M, D] -> [B, U, M, D]`; streams M beyond one are joined too."""

    options: GraphOptions
    precision: str = "float32"

    @nn.compact
    def __call__(
        self, x: jax.Array, present: jax.Array, dialogue: jax.Array, speaker: jax.Array, draws: Draws | None
    ) -> jax.Array:
        o = self.options
        m, d = x.shape[2:]
        if draws and o.drop_node:
            x = drop_node(draws.key(), x, rate=o.drop_node)
        graph = speaker_graph(
            present, dialogue, speaker, past=o.past, future=o.future, distance_bins=o.distance_bins, form=o.form
        )
        if draws and o.drop_edge:
            graph = drop_edge(draws.key(), graph, rate=o.drop_edge)
        relations = len(relation_names(streams=m, distance_bins=o.distance_bins))
        for i, kind in enumerate(o.layers):
            name = f"{kind}_{i}"
            if i:
                x = nn.relu(nn.LayerNorm(name=f"norm_{i}")(x))
            if kind == "rgcn":
                layer = RGCN(d, relations, o.bases, self.precision, name=name)
            elif kind == "gat":
                layer = GAT(d, o.heads, relations, self.precision, name=name)
            elif kind == "grnn":
                layer = GRNN(d, relations, o.bases, self.precision, name=name)
            elif kind == "gfpush":
                layer = GFPush(d, o.order, o.alpha, o.rmax, o.top_k, o.scheme, self.precision, name=name)
            else:
                raise ValueError(f"graph layer '{kind}'; expected rgcn, gat, grnn or gfpush")
            x = layer(graph, x)
        return x
