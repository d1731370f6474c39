"""The graph slot of the model: a stack of graph layers over one speaker graph."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jmer.base.options import is_on
from jmer.base.types import Rows
from jmer.graph import drop_edge, drop_node, relation_names, speaker_graph
from jmer.nn.carry import appended, remembers
from jmer.nn.graph_layers import GAT, GRNN, RGCN, ROUNDS, GFPush
from jmer.nn.options import GraphOptions

LAYERS = {"rgcn": RGCN, "gat": GAT, "grnn": GRNN, "gfpush": GFPush}


def reach(options: GraphOptions) -> int:
    """Returns how many utterances before an utterance can change what the graph makes of it."""
    steps = {"rgcn": 1, "gat": 1, "grnn": ROUNDS, "gfpush": options.gfpush.order}
    return options.past * sum(steps[kind] for kind in options.graph_layers)


class SpeakerGraph(nn.Module):
    """Refines nodes by their neighbours in the dialogue; the M streams of an utterance are joined with each other."""

    options: GraphOptions

    @nn.compact
    def __call__(
        self, x: Float[Array, "B U M D"], present: Bool[Array, "B U M"], rows: Rows
    ) -> Float[Array, "B U M D"]:
        o, (streams, d), training = self.options, x.shape[2:], self.has_rng("dropout")
        remembering = remembers(self)
        if remembering:  # all that can reach the last utterance
            x, present, mask, speaker = (
                appended(self, name, each, length=reach(o))
                for name, each in (("x", x), ("present", present), ("mask", rows.mask), ("speaker", rows.speaker))
            )
            rows = Rows(mask=mask, dialogue=jnp.zeros_like(speaker), speaker=speaker)
        if training and is_on(o.drop_node):
            x = drop_node(self.make_rng("dropout"), x, rate=o.drop_node)
        graph = speaker_graph(present, rows, past=o.past, future=o.future, distance_bins=o.bins, form=o.graph_form)
        if training and is_on(o.drop_edge):
            graph = drop_edge(self.make_rng("dropout"), graph, rate=o.drop_edge)
        relations = len(relation_names(streams=streams, distance_bins=o.bins))
        for i, kind in enumerate(o.graph_layers):
            if i:
                x = nn.relu(nn.LayerNorm(name=f"norm_{i}")(x))
            x = LAYERS[kind](options=o, features=d, relations=relations, name=f"{kind}_{i}")(graph, x)
        return x[:, -1:] if remembering else x
