"""jmer's side of step_time.py: as torch_step.py, with its own model and data."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jmer import runs, steps
from jmer.batches import Plan, flatten, gather
from jmer.config import Config, base
from jmer.optim import make_optimizer
from jmer.types import MODALITIES, UNLABELLED, Features

LABELS = tuple("abcdefg")


def config_of(settings: dict[str, Any]) -> Config:
    config = base()
    config.hidden, config.heads, config.distance_bins = settings["hidden"], settings["heads"], "5"
    config.focal_gamma, config.dropout, config.drop_node = 2.0, 0.0, 0.0  # PyTorch's side drops nothing
    return config


def features(file: Any) -> list[Features]:
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


def main(path: str, settings: dict[str, Any]) -> None:
    with np.load(path) as stored:
        file = dict(stored)
    dims: dict[str, int] = dict.fromkeys(MODALITIES, file["x"].shape[2])
    seeds = tuple(range(settings["seeds"]))
    dialogues = features(file)
    config = config_of(settings)
    model = runs.make_model(config, dims=dims, sequence_dims={}, labels=LABELS)
    objective = runs.make_objective(config, model, np.bincount(file["label"][:-1], minlength=len(LABELS)))
    plan = Plan([len(d) for d in dialogues], batch_utterances=settings["batch_utterances"])
    optimizer = make_optimizer(lr=1e-3, total_steps=10**6, warmup=0.0, weight_decay=0.01, clip_norm=1.0)
    state = steps.init_state(model, optimizer, seeds=seeds)
    plain = {"mean": 0.0, "scale": 1.0}  # PyTorch's side does not standardise
    stats = {f"{m}_{name}": np.full(d, plain[name], np.float32) for m, d in dims.items() for name in steps.STATS}
    flat, stats = jax.device_put((flatten(dialogues, dims=dims, sequences={}), stats))
    train_epoch, number = steps.make_train_epoch(model, optimizer, objective), 0
    first = state.params

    def epoch() -> float:
        nonlocal state, number
        number += 1
        start = time.perf_counter()
        for index in plan.epoch(number, seeds=seeds):
            state, _ = train_epoch(state, stats, flat, jax.device_put(index))
        jax.block_until_ready(state)
        return time.perf_counter() - start

    widths = [(layout.steps, layout.rows, layout.width) for layout in plan.layouts]
    about = {"jax": jax.__version__, "device": jax.devices()[0].device_kind, "batches": widths}
    print(json.dumps({"ready": about}), flush=True)
    for line in sys.stdin:
        if line.strip() == "epoch":
            print(json.dumps({"seconds": epoch()}), flush=True)
        elif line.startswith("check "):
            out = Path(line.removeprefix("check ").strip())
            ends, chosen = np.cumsum(file["lengths"]), np.flatnonzero(file["lengths"] == 9)[:3]
            batch = gather(jax.device_get(flat), ends[chosen, None] + np.arange(-9, 0))
            probs, _ = steps.predict(model, first, stats, batch)
            np.savez(out, logits=np.log(probs[0]), chosen=chosen)
            print(json.dumps({"written": str(out)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
