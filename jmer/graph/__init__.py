"""Graphs over the utterances of dialogues, and propagation on any graph, as pure functions."""

from jmer.graph.forms import Graph, Segments
from jmer.graph.gfpush import gfpush, propagation
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
