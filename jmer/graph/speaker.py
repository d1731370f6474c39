"""Speaker graphs over the utterances of a batch, as pure functions of its masks.

A node is an utterance, or an utterance in one stream (a modality, for example). Shapes are static: there is room for
every edge that a window allows, and a mask says which edges exist. So a graph is built inside the compiled step, and
building it costs the host nothing.
"""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from jmer.base.masks import keep_mask, keep_numbered, thinned
from jmer.base.options import Number
from jmer.base.types import Rows
from jmer.graph.forms import Banded, Dense, Graph, Segments, Window

_DENSE_LIMIT = 12  # nodes of a row for each slot of the window, measured by benchmarks/graph_forms.py
_SLOTS_LIMIT = 64  # slots of the window up to which a graph of rows of any width is banded
_WHO, _WHEN = ("same", "other"), ("past", "future")


def relation_names(*, streams: int = 1, distance_bins: Sequence[int] = ()) -> tuple[str, ...]:
    """Returns the names of the R relations of `speaker_graph`, in order.

    The relation of an edge within a stream says who spoke (the same speaker or another one, whatever their names), when
    (before or after) and, with bins, how far away. The relation of an edge between streams names the two streams.
    """
    bounds = itertools.pairwise([0, *distance_bins, ""])
    spans = [f"_{int(a) + 1}-{b}" for a, b in bounds] if distance_bins else [""]
    within = [f"{who}_{when}{span}" for span in spans for who in _WHO for when in _WHEN]
    return (*within, *(f"stream_{a}_to_{b}" for a, b in itertools.permutations(range(streams), 2)))


def speaker_graph(
    present: Bool[Array, "B U M"],
    rows: Rows,
    *,
    past: int,
    future: int,
    distance_bins: Sequence[int] = (),
    form: str,
) -> Graph:
    """Returns the graph in which each utterance receives from up to `past` earlier and `future` later ones.

    These edges run within each of the M streams; besides, the streams of one utterance send to each other. There are no
    self-loops, and no edges between dialogues.

    Args:
      present: a node that is not present neither sends nor receives.
      distance_bins: ascending; the last distance of each bin except the last bin, which has no end.
      form: `dense`, `banded` or `segments`, which hold the same edges; `auto` takes the quickest form for these shapes.
    """
    _, u, m = present.shape
    known = isinstance(u, int)  # an exported program has rows of any width
    if known:  # offsets beyond the width of a row reach no node
        past, future = min(past, u - 1), min(future, u - 1)
    window = Window(tuple(o for o in range(-past, future + 1) if o != 0), m)
    if form == "auto":
        slots = len(window.offsets) + m - 1
        form = "dense" if (u * m <= _DENSE_LIMIT * slots if known else slots > _SLOTS_LIMIT) else "banded"
    if form not in FORMS:
        raise ValueError(f"graph form '{form}'; expected auto, {', '.join(FORMS)}")
    return FORMS[form](present, rows, window, np.array(distance_bins, np.int32))


def _dense(present: jax.Array, rows: Rows, window: Window, bins: np.ndarray) -> Dense:
    _, u, m = present.shape
    number = np.arange(u) if isinstance(u, int) else jnp.arange(u)
    offset = number - number[:, None] if isinstance(u, int) else number[None] - number[:, None]
    least, most = min((0, *window.offsets)), max((0, *window.offsets))
    inside = (offset >= least) & (offset <= most) & (offset != 0)
    joined = inside[None] & (rows.dialogue[:, :, None] == rows.dialogue[:, None, :])
    within = _relation(offset[None], rows.speaker[:, :, None] != rows.speaker[:, None, :], bins)
    # [B, U, M, U, M]: the last two axes send, the two before receive.
    same_stream = np.eye(m, dtype=np.bool_)[None, None, :, None]
    between = _crossings(m, bins)[None, None, :, None]
    relation = jnp.where(same_stream, within[:, :, None, :, None], between)
    same_utterance = (offset == 0)[None, :, None, :, None]
    mask = (same_stream & joined[:, :, None, :, None]) | (~same_stream & same_utterance)
    mask &= present[:, :, :, None, None] & present[:, None, None]
    return Dense(relation.reshape(-1, u * m, u * m), mask.reshape(-1, u * m, u * m))


def _banded(present: jax.Array, rows: Rows, window: Window, bins: np.ndarray) -> Banded:
    m = window.streams
    stream = np.arange(m)
    # [M, M - 1]: of each stream, the relations from the streams after it, in a circle.
    between = _crossings(m, bins)[stream[:, None], (stream[:, None] + 1 + np.arange(m - 1)) % m]
    offset = np.array(window.offsets, np.int32)[None, None, None]
    one = window._replace(streams=1)
    other = one.neighbours(rows.speaker[:, :, None]) != rows.speaker[:, :, None, None]
    relations = [
        jnp.broadcast_to(kind, (*present.shape, kind.shape[-1])) for kind in (_relation(offset, other, bins), between)
    ]
    joined = window.neighbours(rows.dialogue[:, :, None]) == rows.dialogue[:, :, None, None]  # [B, U, 1, K]
    mask = window.neighbours(present) & present[..., None] & joined
    return Banded(window, jnp.concatenate(relations, axis=-1), mask)


def _segments(present: jax.Array, rows: Rows, window: Window, bins: np.ndarray) -> Segments:
    return Segments.of(_banded(present, rows, window, bins))


FORMS = {"dense": _dense, "banded": _banded, "segments": _segments}


def _relation(offset: np.ndarray | jax.Array, other: jax.Array, bins: np.ndarray) -> jax.Array:
    """Returns the relations of edges within a stream, from sender to receiver.

    Args:
      offset: how many utterances the sender is after the receiver.
      other: whether they have different speakers.
    """
    kind = (offset > 0).astype(np.int32)
    for last in bins.tolist():
        kind = kind + 4 * (abs(offset) > last).astype(np.int32)
    return jnp.asarray(kind, jnp.int32) + 2 * other.astype(jnp.int32)


def _crossings(streams: int, bins: np.ndarray) -> np.ndarray:
    """Returns the relation from one stream (column) to another (row), `[M, M]` int32."""
    numbers = np.zeros((streams, streams), np.int32)
    for number, (a, b) in enumerate(itertools.permutations(range(streams), 2)):
        numbers[b, a] = 4 * (len(bins) + 1) + number
    return numbers


def drop_node(key: Key[Array, ""], nodes: Float[Array, "*nodes D"], *, rate: Number) -> Float[Array, "*nodes D"]:
    """DropNode in training: zeroes whole nodes with probability `rate` each and scales the others by 1 / (1 - rate).

    The expectation is the identity. Feng et al. 2020, "Graph Random Neural Networks" (GRAND), section 3.1.
    """
    keep = keep_mask(key, nodes.shape[:-1], rate=rate)
    return thinned(nodes, keep[..., None], rate=rate)


def drop_edge(key: Key[Array, ""], graph: Graph, *, rate: Number) -> Graph:
    """DropEdge in training: removes each edge with probability `rate`; Rong et al. 2020, section 4.1.

    The remaining edges are not scaled, since the layers normalise over the edges that exist. All forms of a graph lose
    the same edges.
    """
    return graph._replace(mask=graph.mask & keep_numbered(key, graph.edge_numbers(), rate=rate))
