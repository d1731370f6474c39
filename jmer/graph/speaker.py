"""Speaker graphs over the utterances of a batch, as pure functions of its masks.

A node is an utterance, or an utterance in one stream (a modality, say). Shapes are static: there is room for every edge
that a window allows, and a mask says which are there. So a graph is built inside the compiled step, at no cost on the
host.
"""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jmer.base.masks import keep_mask
from jmer.graph.forms import Banded, Dense, Graph, Segments, Window

FORMS = ("dense", "banded", "segments")
_DENSE_LIMIT = 12  # nodes of a row for each slot of the window, measured by benchmarks/graph_forms.py
_WHO, _WHEN = ("same", "other"), ("past", "future")


def relation_names(*, streams: int = 1, distance_bins: Sequence[int] = ()) -> tuple[str, ...]:
    """Returns the relations of `speaker_graph`, R names, in order.

    An edge within a stream is told by who spoke (the same speaker or another, whatever their names), when (before or
    after) and, with bins, how far away; an edge between streams by the two streams.
    """
    bounds = itertools.pairwise([0, *distance_bins, ""])
    spans = [f"_{int(a) + 1}-{b}" for a, b in bounds] if distance_bins else [""]
    within = [f"{who}_{when}{span}" for span in spans for who in _WHO for when in _WHEN]
    between = [f"stream_{a}_to_{b}" for a in range(streams) for b in range(streams) if a != b]
    return (*within, *between)


def speaker_graph(
    present: jax.Array,
    dialogue: jax.Array,
    speaker: jax.Array,
    *,
    past: int,
    future: int,
    distance_bins: Sequence[int] = (),
    form: str,
) -> Graph:
    """Joins each utterance with its neighbours: those up to `past` before it and `future` after it send to it.

    That happens within each of the M streams; and the streams of one utterance send to each other. Without self-loops.

    Args:
      present: `[B, U, M]` bool; a node that is not present neither sends nor receives.
      dialogue: `[B, U]` int32, its number in the row; none sends to another.
      speaker: `[B, U]` int32.
      distance_bins: ascending; the last distance of each bin but the last one, which has no end.
      form: one of `FORMS`, which all hold the same edges, or `auto` for the quickest at these shapes.
    """
    _, u, m = present.shape
    # Offsets beyond the width of a row reach nobody.
    window = Window(tuple(o for o in range(-min(past, u - 1), min(future, u - 1) + 1) if o != 0), m)
    if form == "auto":
        slots = len(window.offsets) + m - 1
        form = "dense" if u * m <= _DENSE_LIMIT * slots else "banded"
    if form not in FORMS:
        raise ValueError(f"graph form '{form}'; expected auto, {', '.join(FORMS)}")
    bins, between = np.array(distance_bins, np.int32), 4 * (len(distance_bins) + 1)

    def relation(offset: np.ndarray, other: jax.Array) -> jax.Array:
        """Within a stream."""
        kind = 4 * np.searchsorted(bins, np.abs(offset)) + (offset > 0)
        return jnp.array(kind, jnp.int32) + 2 * other.astype(jnp.int32)

    # The number of the relation from one stream to another, as [to, from].
    numbers = np.zeros((m, m), np.int32)
    for number, (a, c) in enumerate((a, c) for a in range(m) for c in range(m) if a != c):
        numbers[c, a] = between + number

    if form == "dense":  # [B, U, M, U, M], from the last two axes to those before
        offset = np.arange(u) - np.arange(u)[:, None]
        joined = np.isin(offset, window.offsets)[None] & (dialogue[:, :, None] == dialogue[:, None, :])
        kind = relation(offset[None], speaker[:, :, None] != speaker[:, None, :])
        same = np.eye(m, dtype=np.bool_)[None, None, :, None]
        kinds = jnp.where(same, kind[:, :, None, :, None], numbers[None, None, :, None])
        mask = jnp.where(same, joined[:, :, None, :, None], np.eye(u, dtype=np.bool_)[None, :, None, :, None])
        mask &= present[:, :, :, None, None] & present[:, None, None]
        return Dense(kinds.reshape(-1, u * m, u * m), mask.reshape(-1, u * m, u * m))

    stream = np.arange(m)
    crossing = numbers[stream[:, None], (stream[:, None] + 1 + np.arange(m - 1)) % m]  # [M, M - 1]
    offset = np.array(window.offsets, np.int32)[None, None, None]
    one = window._replace(streams=1)
    other = one.neighbours(speaker[:, :, None]) != speaker[:, :, None, None]
    kinds = [jnp.broadcast_to(kind, (*present.shape, kind.shape[-1])) for kind in (relation(offset, other), crossing)]
    joined = window.neighbours(dialogue[:, :, None]) == dialogue[:, :, None, None]  # [B, U, 1, K]
    mask = window.neighbours(present) & present[..., None] & joined
    banded = Banded(window, jnp.concatenate(kinds, axis=-1), mask)
    return banded if form == "banded" else Segments.of(banded)


def drop_node(key: jax.Array, nodes: jax.Array, *, rate: float) -> jax.Array:
    """DropNode in training: zeroes whole rows, each with probability `rate`, and scales the rest by 1 / (1 - rate).

    Its expectation is the identity. Feng et al. 2020, "Graph Random Neural Networks" (GRAND), section 3.1.

    Args:
      nodes: `[..., D]`; one draw a row.
    """
    keep = keep_mask(key, nodes.shape[:-1], rate=rate)
    return jnp.where(keep[..., None], nodes / (1 - rate), 0)


def drop_edge(key: jax.Array, graph: Graph, *, rate: float) -> Graph:
    """DropEdge in training: removes each edge with probability `rate`; Rong et al. 2020, section 4.1.

    What is left is not scaled: the layers normalise over the edges that are there.
    """
    return graph._replace(mask=graph.mask & keep_mask(key, graph.mask.shape, rate=rate))
