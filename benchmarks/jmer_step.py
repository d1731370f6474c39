"""jmer's side of step_time.py: as torch_step.py, with its own model and data."""

import dataclasses
import functools
import json
import os
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from step_worker import read_corpus, seconds, serve

from jmer.base.types import MODALITIES, UNLABELLED, Features
from jmer.dataset.flat import flatten
from jmer.dataset.plan import Plan, evaluation_plan
from jmer.nn.model import Model
from jmer.runs import directory, environment
from jmer.runs.inputs import Inputs, Modality
from jmer.runs.progress import Progress
from jmer.runs.voting import predict_features
from jmer.training import steps
from jmer.training.devices import Placement, put, share_cores
from jmer.training.objective import Objective
from jmer.training.optim import make_optimizer
from jmer.training.options import TrainOptions

LABELS = tuple("abcdefg")


# The schedule is so long that the learning rate stays at its peak.
STEADY = {"epochs": 1000, "warmup": 0.0}


def options_of(settings: dict[str, Any]) -> TrainOptions:
    """The options of a model that drops nothing, as PyTorch's side does."""
    given = {name: settings[name] for name in ("hidden", "heads", "precision") if name in settings}
    return TrainOptions(distance_bins="5", focal_gamma=2.0, dropout=0.0, drop_node=0.0, **STEADY, **given)


def features(file: dict[str, np.ndarray]) -> list[Features]:
    """The corpus of `step_time.write_corpus`."""
    ends = np.cumsum(file["lengths"])
    parts = [slice(end - n, end) for n, end in zip(file["lengths"], ends, strict=True)]
    return [
        Features(
            dialogue_id=str(i),
            utterance_ids=tuple(map(str, range(len(file["label"][part])))),
            speakers=tuple(map(str, file["speaker"][part])),
            texts=("",) * len(file["label"][part]),
            labels=file["label"][part],
            sentiments=np.full(len(file["label"][part]), UNLABELLED, np.int32),
            values={m: x[part] for m, x in zip(MODALITIES, file["x"], strict=True)},
            present={m: np.ones(len(file["label"][part]), np.bool_) for m in MODALITIES},
        )
        for i, part in enumerate(parts)
    ]


@functools.partial(jax.jit, static_argnames="transposed")
def _multiply(a: jax.Array, b: jax.Array, *, transposed: bool) -> jax.Array:
    return jnp.matmul(a.T if transposed else a, b, preferred_element_type=jnp.float32)


def _product(a: jax.Array, b: jax.Array, *, transposed: bool) -> None:
    _multiply(a, b, transposed=transposed).block_until_ready()


class Side:
    """The commands."""

    def __init__(self, path: str, settings: dict[str, Any]):
        environment.keep_compiled()
        share_cores(settings["seeds"])
        file, self.given = read_corpus(path)
        self.seeds, self.options = tuple(range(settings["seeds"])), options_of(settings)
        self.dims: dict[str, int] = dict.fromkeys(MODALITIES, file["x"].shape[2])
        self.dialogues = features(file)
        lengths = [len(d) for d in self.dialogues]
        self.plan = Plan(lengths, batch_utterances=settings["batch_utterances"])
        self.model = Model(options=self.options, dims=tuple(self.dims.items()), sequence_dims=(), labels=LABELS)
        counts = np.bincount(file["label"][:-1], minlength=len(LABELS)).tolist()
        objective = Objective(options=self.options, counts=tuple(counts))
        self.optimizer = make_optimizer(self.options, steps_per_epoch=1000)
        self.placement = Placement(seeds=len(self.seeds))
        self.train_epoch = steps.make_train_epoch(self.model, self.optimizer, objective, self.placement)
        plain = {"mean": 0.0, "scale": 1.0}  # PyTorch's side does not standardise
        stats = {
            f"{m}_{name}": np.full(d, plain[name], np.float32) for m, d in self.dims.items() for name in steps.STATS
        }
        evaluation = evaluation_plan(lengths)
        flat = flatten(self.dialogues, utterances=sum(map(len, self.dialogues)), dims=self.dims, sequences={})
        self.flat, self.stats, self.evaluation_plan = put((flat, stats, evaluation), self.placement.everywhere)
        self.number = 0  # of the epoch

    def check(self, dialogues: list[int]) -> dict[str, Any]:
        """The logits of these dialogues, by the given parameters, in float32."""
        params: dict[str, Any] = {}
        for path, value in self.given.items():
            *folders, name = path.split("/")
            node = params
            for folder in folders:
                node = node.setdefault(folder, {})
            node[name] = value[None]
        exact = dataclasses.replace(
            self._run(params), model=self.model.clone(options=dataclasses.replace(self.options, precision="float32"))
        )
        found = predict_features(exact, [self.dialogues[i] for i in dialogues])
        return {"logits": np.log(np.concatenate([probs[0] for probs, _ in found])).tolist()}

    def first(self) -> dict[str, Any]:
        """All that comes before the second epoch."""

        def call() -> None:
            state = steps.init_state(self.model, self.optimizer, seeds=self.seeds)
            self.state = put(state, self.placement.state)
            self._epoch()
            self._evaluate()

        return {"seconds": [seconds(call)]}

    def epoch(self) -> dict[str, Any]:
        return {"seconds": [seconds(self._epoch)]}

    def step(self, count: int) -> dict[str, Any]:
        index = self.plan.epoch(1, seeds=self.seeds)[0][:1]

        def call() -> None:
            self._train(index)
            jax.block_until_ready(self.state)

        call()
        size = (index[0, 0] < len(self.flat.mask) - 1).sum()
        return {"seconds": [seconds(call) for _ in range(count)], "utterances": int(size)}

    def evaluation(self) -> dict[str, Any]:
        return {"seconds": [seconds(self._evaluate)]}

    def latency(self, dialogues: list[int], count: int, warm: int) -> dict[str, Any]:
        """The prediction of one dialogue at a time; the first calls do not count."""
        run = self._run(self.state.params)

        def call() -> None:
            predict_features(run, [self.dialogues[dialogues[calls.pop() % len(dialogues)]]])

        calls = list(range(warm + count))
        return {"seconds": [seconds(call) for _ in range(warm + count)][warm:]}

    def products(self, shapes: list[tuple[int, int, int, bool]], dtype: str, count: int) -> dict[str, Any]:
        """Seconds of a product of each shape; see `step_time.PRODUCTS`."""
        found = []
        for m, k, n, transposed in shapes:
            rng = np.random.default_rng(0)
            a, b = (rng.normal(size=shape) for shape in ((k, m) if transposed else (m, k), (k, n)))
            a, b = (jnp.asarray(x, dtype) for x in (a, b))
            call = functools.partial(_product, a, b, transposed=transposed)
            call()
            found.append(seconds(call, count=count) / count)
        return {"seconds": found}

    def _epoch(self) -> None:
        self.number += 1
        for index in self.plan.epoch(self.number, seeds=self.seeds):
            self._train(index)
        jax.block_until_ready(self.state)

    def _train(self, index: np.ndarray) -> None:
        placed = put(index, self.placement.index(index.ndim))
        self.state, _ = self.train_epoch(self.state, self.stats, self.flat, placed)

    def _evaluate(self) -> np.ndarray:
        """The confusion counts of the corpus, by seed."""
        plans = self.evaluation_plan
        each = [steps.confusion(self.model, self.state.params, self.stats, self.flat, index) for index in plans]
        return np.sum(jax.device_get(each), axis=0)

    def _run(self, params: Any) -> directory.Run:
        """A run as jmer.train leaves it and `directory.load` opens it, but for what only describes it."""
        return directory.Run(
            directory=directory.RunDirectory(Path()),
            options=self.options,
            inputs=Inputs(
                labels=LABELS,
                dataset_fingerprint="",
                modalities={m: Modality(dim=d, extractor={}, fingerprint="") for m, d in self.dims.items()},
                sequence_dims={},
            ),
            model=self.model,
            params=jax.tree.map(lambda x: jax.device_put(np.asarray(x)[:, None]), params),
            stats=jax.device_put(jax.device_get(self.stats)),
            progress=Progress.start(seeds=len(self.seeds), keep=1),
            calibration=directory.Calibration(seeds=(1.0,) * len(self.seeds), vote=1.0),
        )


def main(path: str, settings: dict[str, Any]) -> None:
    side = Side(path, settings)
    found = environment.environment()
    about = {name: found["packages"][name] for name in ("jax", "jaxlib", "flax", "optax", "numpy")}
    about |= {"python": found["python"], "revision": found["git_revision"], "device": found["devices"][0]}
    about["threads"] = len(os.sched_getaffinity(0))
    about["batches"] = [(layout.steps, layout.rows, layout.width) for layout in side.plan.layouts]
    names = ("check", "first", "epoch", "step", "evaluation", "latency", "products")
    serve(about, {name: getattr(side, name) for name in names})


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
