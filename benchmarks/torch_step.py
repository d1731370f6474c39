"""PyTorch's side of step_time.py, run by an interpreter with torch and torch_geometric; imports nothing of jmer.

    python benchmarks/torch_step.py FILE.npz '{"graph": "pyg", "batches": "random", ...}'

Answers the requests of `step_worker`.
"""

# pyright: reportMissingImports=false
import functools
import json
import logging
import platform
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch_geometric
from step_worker import read_corpus, seconds, serve
from torch.fx.experimental import _config as symbolic
from torch.nn.utils import clip_grad_norm_
from torch_model import Batch, Dense, Model, Pyg, focal_loss, load, relations

CLASSES = 7
DIALOGUES = 32  # of a random batch; bucketed ones have as many utterances


class Data:
    """The corpus on the device, with what a graph needs built once, or, `seed`, not."""

    def __init__(self, file: dict[str, np.ndarray], *, graph: str, batches: str, device: str):
        self.x = torch.from_numpy(file["x"]).to(device)  # [M, N + 1, D], the last is padding
        self.label = torch.from_numpy(file["label"]).to(device)  # [N + 1]
        self.lengths = file["lengths"].tolist()
        self.starts = np.cumsum([0, *self.lengths[:-1]])
        self.speakers = np.split(file["speaker"], self.starts[1:])
        self.builder = Dense if graph == "dense" else Pyg
        self.python, self.one_length, self.device = graph == "seed", batches == "bucketed", device
        self.built = [] if self.python else self.builder.build(self.speakers)

    def batch(self, chosen: Sequence[int]) -> Batch:
        lengths = [self.lengths[i] for i in chosen]
        width, padding = max(lengths), len(self.label) - 1
        index = np.full((len(chosen), width), padding)
        for row, i in enumerate(chosen):
            index[row, : self.lengths[i]] = self.starts[i] + np.arange(self.lengths[i])
        index = torch.from_numpy(index).to(self.device)
        built = [build_in_python(self.speakers[i]) if self.python else self.built[i] for i in chosen]
        graph = self._collate(built, lengths)
        return Batch(self.x[:, index], index < padding, self.label[index], torch.tensor(lengths), graph)

    def single(self, values: Sequence[np.ndarray], speaker: np.ndarray) -> Batch:
        """A dialogue that comes in from outside: M features `[U, D]`, and speakers `[U]`, without its graph yet."""
        n = len(speaker)
        built = [build_in_python(speaker)] if self.python else self.builder.build([speaker])
        x = torch.from_numpy(np.stack(values)[:, None]).to(self.device)
        mask = torch.ones((1, n), dtype=torch.bool, device=self.device)
        return Batch(x, mask, torch.zeros_like(mask), torch.tensor([n]), self._collate(built, [n]))

    def plan(self, rng: np.random.Generator) -> list[list[int]]:
        """The dialogues of an epoch's batches.

        Dialogues of one length leave no padding; there are as many utterances in a batch as random ones have.
        """
        if not self.one_length:
            order = rng.permutation(len(self.lengths)).tolist()
            return [order[start : start + DIALOGUES] for start in range(0, len(order), DIALOGUES)]
        lengths, batches = np.array(self.lengths), []
        budget = DIALOGUES * lengths.mean()
        for length in np.unique(lengths):
            members = rng.permutation(np.flatnonzero(lengths == length))
            batches += np.array_split(members, -(-len(members) * length // int(budget)))
        return [batches[i].tolist() for i in rng.permutation(len(batches))]

    def usual(self) -> list[int]:
        """The dialogues of a batch of about as many utterances as the mean random one."""
        mean = DIALOGUES * np.mean(self.lengths)
        plan = self.plan(np.random.default_rng(0))
        return min(plan, key=lambda chosen: abs(sum(self.lengths[i] for i in chosen) - mean))

    def _collate(self, built: Sequence[Any], lengths: Sequence[int]) -> tuple[torch.Tensor, ...]:
        return tuple(x.to(self.device) for x in self.builder.collate(built, lengths, max(lengths)))


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


class Side:
    """The commands."""

    def __init__(self, path: str, settings: dict[str, Any]):
        torch.set_num_threads(settings["threads"])
        torch.backends.cudnn.allow_tf32 = False  # float32 is float32 on both sides
        self.settings, self.device = settings, "cuda" if settings["device"] == "gpu" else "cpu"
        file, self.params = read_corpus(path)
        self.data = Data(file, graph=settings["graph"], batches=settings["batches"], device=self.device)
        self.rng = np.random.default_rng(0)
        self.forward = self.model = self._model()
        self.optimizer = self._optimizer()

    def _model(self) -> Model:
        graph = "dense" if self.settings["graph"] == "dense" else "pyg"
        model = Model(
            [self.data.x.shape[2]] * len(self.data.x), hidden=self.settings["hidden"], heads=self.settings["heads"],
            classes=CLASSES, graph=graph, packed=not self.data.one_length,
        )  # fmt: skip
        load(model, self.params)
        return model.to(self.device)

    def _optimizer(self) -> torch.optim.Optimizer:
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        vectors = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=1e-3, fused=True)

    def check(self, dialogues: list[int]) -> dict[str, Any]:
        """The logits of these dialogues, by the first parameters, in float32."""
        load(self.model, self.params)
        batches = [[i] for i in dialogues] if self.data.one_length else [dialogues]
        with torch.inference_mode():
            found = [self.forward(b).log_softmax(-1)[b.mask].cpu() for b in map(self.data.batch, batches)]
        return {"logits": torch.cat(found).tolist()}

    def first(self) -> dict[str, Any]:
        """All that comes before the second epoch."""

        def call() -> None:
            self.model = self._model()
            self.optimizer = self._optimizer()
            # Or it compiles again where two sizes that were equal are not; but PyG's layers fail to compile without.
            symbolic.use_duck_shape = self.settings["graph"] != "dense"
            compiled = self.settings["compile"]
            self.forward = torch.compile(self.model, dynamic=True) if compiled else self.model
            self._epoch()
            self._evaluate()

        return {"seconds": [seconds(call)]}

    def epoch(self) -> dict[str, Any]:
        return {"seconds": [seconds(self._epoch)]}

    def step(self, count: int) -> dict[str, Any]:
        chosen = self.data.usual()

        def call() -> None:
            self._update(chosen)
            self._wait()

        call()
        size = sum(self.data.lengths[i] for i in chosen)
        return {"seconds": [seconds(call) for _ in range(count)], "utterances": size}

    def evaluation(self) -> dict[str, Any]:
        return {"seconds": [seconds(self._evaluate)]}

    def latency(self, dialogues: list[int], count: int, warm: int) -> dict[str, Any]:
        """The prediction of one dialogue at a time; the first calls do not count."""
        starts, x = self.data.starts, self.data.x.cpu().numpy()
        ready = [
            ([v[starts[i] : starts[i] + self.data.lengths[i]] for v in x], self.data.speakers[i]) for i in dialogues
        ]

        def call() -> None:
            values, speaker = ready[calls.pop() % len(ready)]
            with torch.inference_mode(), self._autocast():
                self.forward(self.data.single(values, speaker)).float().softmax(-1).cpu().numpy()

        calls = list(range(warm + count))
        return {"seconds": [seconds(call) for _ in range(warm + count)][warm:]}

    def products(self, shapes: list[tuple[int, int, int, bool]], dtype: str, count: int) -> dict[str, Any]:
        """Seconds of a product of each shape; see `step_time.PRODUCTS`."""
        found = []
        for m, k, n, transposed in shapes:
            a, b = (torch.randn(shape, device=self.device) for shape in ((k, m) if transposed else (m, k), (k, n)))
            a, b = (x.to(getattr(torch, dtype)) for x in (a, b))
            a = a.T if transposed else a
            call = functools.partial(self._product, a, b)
            call()
            found.append(seconds(call, count=count) / count)
        return {"seconds": found}

    def _product(self, a: torch.Tensor, b: torch.Tensor) -> None:
        torch.mm(a, b)
        self._wait()

    def _epoch(self) -> None:
        for chosen in self.data.plan(self.rng):
            self._update(chosen)
        self._wait()

    def _update(self, chosen: Sequence[int]) -> None:
        batch = self.data.batch(chosen)
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            logits = self.forward(batch)
        focal_loss(logits, batch.label, batch.mask, gamma=2.0).backward()
        clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()

    def _evaluate(self) -> np.ndarray:
        """The confusion counts of the corpus."""
        counts = torch.zeros(CLASSES**2, dtype=torch.int64, device=self.device)
        with torch.inference_mode(), self._autocast():
            for chosen in self.data.plan(self.rng):
                batch = self.data.batch(chosen)
                pair = batch.label * CLASSES + self.forward(batch).argmax(-1)
                counts += torch.bincount(pair[batch.mask & (batch.label >= 0)], minlength=CLASSES**2)
        return counts.reshape(CLASSES, CLASSES).cpu().numpy()

    def _autocast(self) -> Any:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.settings["bf16"])

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def main(path: str, settings: dict[str, Any]) -> None:
    torch._logging.set_logs(all=logging.ERROR)  # graph breaks are no news: R-GCN picks edges by relation
    side = Side(path, settings)
    about = {"torch": torch.__version__, "torch_geometric": torch_geometric.__version__, "numpy": np.__version__}
    about |= {"python": platform.python_version(), "threads": torch.get_num_threads()}
    about["device"] = torch.cuda.get_device_name() if side.device == "cuda" else "cpu"
    names = ("check", "first", "epoch", "step", "evaluation", "latency", "products")
    serve(about, {name: getattr(side, name) for name in names})


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
