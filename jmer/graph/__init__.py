"""Graphs over the utterances of dialogues, and propagation on any graph, as pure functions."""

from jmer.graph.gfpush import gfpush, propagation
from jmer.graph.speaker import Edges, adjacency, drop_edge, drop_node, parts, relation_names, speaker_graph

__all__ = [
    "Edges",
    "adjacency",
    "drop_edge",
    "drop_node",
    "gfpush",
    "parts",
    "propagation",
    "relation_names",
    "speaker_graph",
]
