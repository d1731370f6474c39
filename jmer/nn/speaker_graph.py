"""The graph slot of the model: a stack of graph layers over one speaker graph."""

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from jmer.base.types import Rows
from jmer.graph import drop_edge, drop_node, relation_names, speaker_graph
from jmer.nn.graph_layers import GAT, GRNN, RGCN, GFPush
from jmer.nn.options import GraphOptions

LAYERS = {"rgcn": RGCN, "gat": GAT, "grnn": GRNN, "gfpush": GFPush}


class SpeakerGraph(nn.Module):
    """Refines nodes by their neighbours in the dialogue; the M streams of an utterance are joined with each other."""

    options: GraphOptions

    @nn.compact
    def __call__(
        self, x: Float[Array, "B U M D"], present: Bool[Array, "B U M"], rows: Rows
    ) -> Float[Array, "B U M D"]:
        o, (streams, d), training = self.options, x.shape[2:], self.has_rng("dropout")
        if training and o.drop_node:
            x = drop_node(self.make_rng("dropout"), x, rate=o.drop_node)
        graph = speaker_graph(present, rows, past=o.past, future=o.future, distance_bins=o.bins, form=o.graph_form)
        if training and o.drop_edge:
            graph = drop_edge(self.make_rng("dropout"), graph, rate=o.drop_edge)
        relations = len(relation_names(streams=streams, distance_bins=o.bins))
        for i, kind in enumerate(o.graph_layers):
            if i:
                x = nn.relu(nn.LayerNorm(name=f"norm_{i}")(x))
            x = LAYERS[kind](options=o, features=d, relations=relations, name=f"{kind}_{i}")(graph, x)
        return x
