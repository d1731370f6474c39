"""PyTorch's side of step_time.py, run by an interpreter with torch and torch_geometric; imports nothing of jmer.

    python benchmarks/torch_step.py FILE.npz '{"graph": "pyg", "batches": "random", "compile": false, "bf16": false}'

Says `ready` with what it is, then answers each line of standard input: `epoch` with the seconds that one took, `check`
with where it wrote the logits of the first dialogues.
"""

# pyright: reportMissingImports=false
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_geometric
from torch.nn.utils import clip_grad_norm_
from torch_model import Batch, Dense, Model, Pyg, focal_loss, load, relations

DIALOGUES = 32  # of a random batch; bucketed ones have as many utterances


class Data:
    """The corpus in memory, with what a graph needs built once, or, `seed`, not."""

    def __init__(self, file: Any, graph: str):
        self.x = torch.from_numpy(file["x"])  # [M, N + 1, D], the last is padding
        self.label = torch.from_numpy(file["label"])  # [N + 1]
        self.lengths = file["lengths"].tolist()
        self.starts = np.cumsum([0, *self.lengths[:-1]])
        self.speakers = np.split(file["speaker"], self.starts[1:])
        self.builder = Dense if graph == "dense" else Pyg
        self.built = None if graph == "seed" else self.builder.build(self.speakers)

    def batch(self, chosen: Sequence[int]) -> Batch:
        lengths = [self.lengths[i] for i in chosen]
        width, padding = max(lengths), len(self.label) - 1
        index = np.full((len(chosen), width), padding)
        for row, i in enumerate(chosen):
            index[row, : self.lengths[i]] = self.starts[i] + np.arange(self.lengths[i])
        index = torch.from_numpy(index)
        if self.built is None:
            built = [build_in_python(self.speakers[i]) for i in chosen]
        else:
            built = [self.built[i] for i in chosen]
        graph = self.builder.collate(built, lengths, width)
        return Batch(self.x[:, index], index < padding, self.label[index], torch.tensor(lengths), graph)

    def random(self, rng: np.random.Generator) -> Iterator[Batch]:
        order = rng.permutation(len(self.lengths))
        for start in range(0, len(order), DIALOGUES):
            yield self.batch(order[start : start + DIALOGUES].tolist())

    def bucketed(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Dialogues of one length, so without any padding, and as many utterances as random batches have."""
        lengths, batches = np.array(self.lengths), []
        budget = DIALOGUES * lengths.mean()
        for length in np.unique(lengths):
            members = rng.permutation(np.flatnonzero(lengths == length))
            batches += np.array_split(members, -(-len(members) * length // int(budget)))
        for i in rng.permutation(len(batches)):
            yield self.batch(batches[i].tolist())


def build_in_python(speaker: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """A dialogue's edges pair by pair, and GFPush's propagation node by node, as the system that jmer began from does.

    What is propagated is thrown away here: the model must stay the same. It is the time that counts.
    """
    kinds, there = relations(speaker)
    senders, receivers, types, near = [], [], [], {}
    for i in range(len(speaker)):
        near[i] = [i]
        for j in range(len(speaker)):
            if there[i, j]:
                senders.append(j)
                receivers.append(i)
                types.append(int(kinds[i, j]))
                near[i].append(j)
    order, alpha, rmax = 4, 0.2, 1e-5
    for source in near:
        reserve, residue = {}, {source: 1.0}
        for step in range(order + 1):
            pushed: dict[int, float] = {}
            for node, value in residue.items():
                reserve[node] = reserve.get(node, 0.0) + alpha * (1 - alpha) ** step * value
                if value >= rmax * len(near[node]):
                    for other in near[node]:
                        pushed[other] = pushed.get(other, 0.0) + value / len(near[node])
            residue = pushed
    return torch.tensor([senders, receivers], dtype=torch.int64).reshape(2, -1), torch.tensor(types, dtype=torch.int64)


def main(path: str, settings: dict[str, Any]) -> None:
    torch.set_num_threads(settings["threads"])
    with np.load(path) as stored:
        file = dict(stored)
    data = Data(file, settings["graph"])
    model = Model(
        [data.x.shape[2]] * len(data.x), hidden=settings["hidden"], heads=settings["heads"], classes=7,
        graph="dense" if settings["graph"] == "dense" else "pyg", packed=settings["batches"] == "random",
    )  # fmt: skip
    load(model, {key.removeprefix("param/"): value for key, value in file.items() if key.startswith("param/")})
    matrices = [p for n, p in model.named_parameters() if p.ndim > 1]
    vectors = [p for n, p in model.named_parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=True)
    forward = torch.compile(model, dynamic=True) if settings["compile"] else model
    rng = np.random.default_rng(0)

    def epoch() -> float:
        start = time.perf_counter()
        for batch in getattr(data, settings["batches"])(rng):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=settings["bf16"]):
                logits = forward(batch)
            focal_loss(logits, batch.label, batch.mask, gamma=2.0).backward()
            clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        return time.perf_counter() - start

    about = {"torch": torch.__version__, "torch_geometric": torch_geometric.__version__}
    print(json.dumps({"ready": about | {"threads": torch.get_num_threads()}}), flush=True)
    for line in sys.stdin:
        if line.strip() == "epoch":
            print(json.dumps({"seconds": epoch()}), flush=True)
        elif line.startswith("check "):
            out = Path(line.removeprefix("check ").strip())
            chosen = [i for i, n in enumerate(data.lengths) if n == 9][:3]  # of one length, for every kind of batches
            with torch.inference_mode():
                logits = model(data.batch(chosen)).log_softmax(dim=-1)
                np.savez(out, logits=logits.numpy(), chosen=np.array(chosen))
            print(json.dumps({"written": str(out)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
