"""jmer's default model as PyTorch users write it, for step_time.py; imports nothing of jmer.

Two ways of the speaker graph: PyTorch Geometric's RGCNConv and GATConv over edges that were built once, and dense
masked products. Recurrence is `nn.GRU`, over packed sequences or over padded ones. Weights come from jmer's, by name.
"""

# pyright: reportMissingImports=false
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch_geometric
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch_geometric.nn import GATConv, RGCNConv

torch_geometric.backend.use_segment_matmul = False  # or it would count for it, without pyg_lib in vain
WINDOW, BIN = 10, 5  # the graph's; relations: same or other speaker, past or future, to 5 apart or beyond
RELATIONS = 8


class Batch(NamedTuple):
    """x: `[M, B, U, D]`; mask, label: `[B, U]`; lengths: `[B]`; graph: what `Pyg` or `Dense` builds."""

    x: Tensor
    mask: Tensor
    label: Tensor
    lengths: Tensor
    graph: tuple[Tensor, ...]


def relations(speaker: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of one dialogue: `[U, U]` relation of the edge from column to row, and whether it is there."""
    u = len(speaker)
    offset = np.arange(u) - np.arange(u)[:, None]
    other = speaker[None] != speaker[:, None]
    return 4 * (abs(offset) > BIN) + 2 * other + (offset > 0), (offset != 0) & (abs(offset) <= WINDOW)


class Pyg(nn.Module):
    """R-GCN, then GAT with a number for each relation in its logits, by PyTorch Geometric."""

    def __init__(self, hidden: int, heads: int):
        super().__init__()
        self.rgcn = RGCNConv(hidden, hidden, RELATIONS, aggr="mean")
        self.norm = nn.LayerNorm(hidden, eps=1e-6)
        self.gat = GATConv(hidden, hidden // heads, heads=heads, edge_dim=RELATIONS + 1, add_self_loops=False)

    @staticmethod
    def build(speakers: Sequence[np.ndarray]) -> list[tuple[Tensor, Tensor]]:
        """Edges `[2, E]` and their relations of each dialogue; once, before training."""
        built = []
        for speaker in speakers:
            kinds, there = relations(speaker)
            receiver, sender = np.nonzero(there)
            built.append((torch.from_numpy(np.stack([sender, receiver])), torch.from_numpy(kinds[there])))
        return built

    @staticmethod
    def collate(built: Sequence[tuple[Tensor, Tensor]], lengths: Sequence[int], width: int) -> tuple[Tensor, ...]:
        """Edges and their relations, and where the nodes are in a batch of that width."""
        starts = np.cumsum([0, *lengths[:-1]])
        edges = torch.cat([e + int(s) for (e, _), s in zip(built, starts, strict=True)], dim=1)
        where = torch.cat([torch.arange(row * width, row * width + n) for row, n in enumerate(lengths)])
        return edges, torch.cat([kind for _, kind in built]), where

    def forward(self, x: Tensor, mask: Tensor, edges: Tensor, kinds: Tensor, where: Tensor) -> Tensor:
        nodes = x.flatten(0, 1)
        flat = nodes[where]
        loops = torch.arange(len(flat), device=x.device)
        both = torch.cat([edges, torch.stack([loops, loops])], dim=1)
        with_loops = torch.cat([kinds, torch.full_like(loops, RELATIONS)])
        one_hot = functional.one_hot(with_loops, RELATIONS + 1).to(flat.dtype)
        flat = functional.relu(self.norm(self.rgcn(flat, edges, kinds)))
        out = self.gat(flat, both, one_hot).to(x.dtype)
        return torch.zeros_like(nodes).index_copy(0, where, out).reshape(x.shape)


class Dense(nn.Module):
    """The same as products over all pairs of a dialogue."""

    def __init__(self, hidden: int, heads: int):
        super().__init__()
        self.heads = heads
        self.w = nn.Parameter(torch.empty(RELATIONS * hidden, hidden))
        self.root = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden, eps=1e-6)
        self.project = nn.Linear(hidden, hidden, bias=False)
        self.send, self.receive = (nn.Parameter(torch.empty(heads, hidden // heads)) for _ in range(2))
        self.relation = nn.Parameter(torch.empty(RELATIONS + 1, heads))
        self.bias = nn.Parameter(torch.empty(hidden))

    @staticmethod
    def build(speakers: Sequence[np.ndarray]) -> list[tuple[Tensor, Tensor]]:
        return [tuple(map(torch.from_numpy, relations(speaker))) for speaker in speakers]  # pyright: ignore

    @staticmethod
    def collate(built: Sequence[tuple[Tensor, Tensor]], lengths: Sequence[int], width: int) -> tuple[Tensor, ...]:
        kinds = torch.full((len(built), width, width), RELATIONS + 1)  # no edge
        for b, (kind, there) in enumerate(built):
            n = len(kind)
            kinds[b, :n, :n] = torch.where(there, kind, RELATIONS + 1)
        kinds.diagonal(dim1=1, dim2=2).fill_(RELATIONS)
        return (functional.one_hot(kinds, RELATIONS + 2)[..., :-1].float(),)

    def forward(self, x: Tensor, mask: Tensor, share: Tensor) -> Tensor:
        b, u, d = x.shape
        near = share[..., :RELATIONS].transpose(2, 3)  # [B, U, R, U]
        mean = near / near.sum(-1, keepdim=True).clamp(min=1)
        mean = (mean.reshape(b, RELATIONS * u, u) @ x).reshape(b, u, RELATIONS * d)
        x = functional.relu(self.norm(self.root(x) + mean @ self.w))
        values = self.project(x).reshape(b, u, self.heads, -1)
        sent, received = ((values * a).sum(-1) for a in (self.send, self.receive))
        logits = functional.leaky_relu(received[:, :, None] + sent[:, None] + share @ self.relation, 0.2)
        logits = logits.masked_fill((share.sum(-1) == 0)[..., None], torch.finfo(logits.dtype).min)
        out = torch.einsum("bijh,bjhd->bihd", logits.softmax(dim=2), values)
        return out.reshape(b, u, d) + self.bias


class Model(nn.Module):
    def __init__(self, dims: Sequence[int], *, hidden: int, heads: int, classes: int, graph: str, packed: bool):
        super().__init__()
        m = len(dims)
        self.packed = packed
        self.inputs = nn.ModuleList(nn.Linear(d, hidden) for d in dims)
        self.grus = nn.ModuleList(nn.GRU(hidden, hidden // 2, batch_first=True, bidirectional=True) for _ in dims)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden, eps=1e-6) for _ in dims)
        self.candidates = nn.Parameter(torch.empty(m, hidden, hidden))
        self.gate = nn.Linear(m * hidden, m * hidden)
        self.graph = {"pyg": Pyg, "dense": Dense}[graph](hidden, heads)
        self.head = nn.Sequential(
            nn.LayerNorm(hidden, eps=1e-6),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )

    def forward(self, batch: Batch) -> Tensor:
        encoded = []
        for x, into, gru, norm in zip(batch.x, self.inputs, self.grus, self.norms, strict=True):
            x = functional.relu(into(x))
            if self.packed:
                states, _ = gru(pack_padded_sequence(x, batch.lengths, batch_first=True, enforce_sorted=False))
                states, _ = pad_packed_sequence(states, batch_first=True, total_length=x.shape[1])
            else:  # all of one length
                states, _ = gru(x)
            encoded.append(norm((x + states) * batch.mask[..., None]))
        h = torch.stack(encoded, dim=2)  # [B, U, M, D]
        candidates = torch.tanh(torch.einsum("bumd,mdf->bumf", h, self.candidates))
        gates = self.gate(h.flatten(2)).reshape(h.shape).softmax(dim=2)
        x = (gates * candidates).sum(dim=2)
        return self.head(x + self.graph(x, batch.mask, *batch.graph))


def focal_loss(logits: Tensor, label: Tensor, mask: Tensor, *, gamma: float) -> Tensor:
    log_p = functional.log_softmax(logits.float(), dim=-1)
    own = log_p.gather(-1, label.clamp(min=0)[..., None])[..., 0]
    each = -own * (1 - own.exp()).clamp(min=1e-7) ** gamma
    valid = mask & (label >= 0)
    return (each * valid).sum() / valid.sum().clamp(min=1)


@torch.no_grad()
def load(model: Model, params: Mapping[str, np.ndarray]) -> None:
    """Sets all parameters to jmer's of one seed, which are named by their paths, such as `encoder/gru/w_in`."""
    left = dict(model.named_parameters())

    def copy(name: str, value: np.ndarray) -> None:
        left.pop(name).copy_(torch.from_numpy(np.ascontiguousarray(value)))

    def linear(name: str, path: str, index: tuple = ()) -> None:
        copy(f"{name}.weight", params[f"{path}/kernel"][index].T)
        if f"{path}/bias" in params:
            copy(f"{name}.bias", params[f"{path}/bias"][index])

    def norm(name: str, path: str, index: int) -> None:
        copy(f"{name}.weight", params[f"{path}/scale"][index])
        copy(f"{name}.bias", params[f"{path}/bias"][index])

    for m, modality in enumerate(("text", "audio", "video")):
        linear(f"inputs.{m}", f"{modality}_in")
        norm(f"norms.{m}", "encoder/norm", m)
        w_in = np.split(params["encoder/gru/w_in"][m], 2, axis=1)
        for k, suffix in enumerate(("_l0", "_l0_reverse")):
            copy(f"grus.{m}.weight_ih{suffix}", w_in[k].T)
            copy(f"grus.{m}.weight_hh{suffix}", params["encoder/gru/w_rec"][m, k].T)
            copy(f"grus.{m}.bias_ih{suffix}", params["encoder/gru/b_in"][m, k])
            copy(f"grus.{m}.bias_hh{suffix}", params["encoder/gru/b_rec"][m, k])
    copy("candidates", params["fusion/w"])
    linear("gate", "fusion/gate")
    norm("graph.norm", "graph/norm_1", 0)
    w, gat = (
        params["graph/rgcn_0/w"][0],
        {k: params[f"graph/gat_1/{k}"][0] for k in ("a_send", "a_receive", "a_relation", "bias")},
    )
    if isinstance(model.graph, Pyg):
        copy("graph.rgcn.weight", w)
        copy("graph.rgcn.root", params["graph/rgcn_0/root/kernel"][0])
        copy("graph.rgcn.bias", params["graph/rgcn_0/root/bias"][0])
        copy("graph.gat.lin.weight", params["graph/gat_1/project/kernel"][0].T)
        copy("graph.gat.att_src", gat["a_send"][None])
        copy("graph.gat.att_dst", gat["a_receive"][None])
        copy("graph.gat.bias", gat["bias"])
        # An edge's number is att_edge . lin_edge(one-hot); the first unit vector makes it a free number a head.
        heads, size = gat["a_send"].shape
        copy("graph.gat.att_edge", np.eye(1, size, dtype=np.float32).repeat(heads, 0)[None])
        weight = np.zeros((heads, size, RELATIONS + 1), np.float32)
        weight[:, 0] = gat["a_relation"].T
        copy("graph.gat.lin_edge.weight", weight.reshape(heads * size, -1))
    else:
        copy("graph.w", w.reshape(-1, w.shape[-1]))
        linear("graph.root", "graph/rgcn_0/root", (0,))
        linear("graph.project", "graph/gat_1/project", (0,))
        for name, key in (("send", "a_send"), ("receive", "a_receive"), ("relation", "a_relation"), ("bias", "bias")):
            copy(f"graph.{name}", gat[key])
    norm("head.0", "head/norm", 0)
    linear("head.1", "head/in", (0,))
    linear("head.3", "head/out", (0,))
    assert not left, sorted(left)
