"""Graphs over the utterances of dialogues, and propagation on any graph, as pure functions.

Code here turns masks and speakers into graphs and moves features along their edges. It holds no parameters, may import
`base` and nothing else of jmer, and is the place for a new kind of graph, of edge or of propagation.
"""

from jmer.graph.forms import Graph, Segments
from jmer.graph.push import gfpush, propagation
from jmer.graph.speaker import FORMS, drop_edge, drop_node, relation_names, speaker_graph

__all__ = [
    "FORMS",
    "Graph",
    "Segments",
    "drop_edge",
    "drop_node",
    "gfpush",
    "propagation",
    "relation_names",
    "speaker_graph",
]
