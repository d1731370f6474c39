"""jmer's side of finetune_speed.py.

python benchmarks/jmer_finetune.py FILE.npz '{"model": DIR, "options": {...}}'
"""

import json
import os
import sys
from importlib.metadata import version
from typing import Any

import numpy as np
from step_worker import seconds, serve

from jmer.base import jaxsetup


def main(path: str, settings: dict[str, Any]) -> None:
    os.sched_setaffinity(0, range(settings["threads"]))

    jaxsetup.keep_freed_memory()  # as jmer.finetune does

    import jax
    import jax.numpy as jnp

    from jmer.encoders.text import TextEncoder
    from jmer.tuning import steps
    from jmer.tuning.classifier import ENCODER
    from jmer.tuning.material import text_classifier
    from jmer.tuning.options import TuneOptions
    from jmer.tuning.rows import TokenBatch

    file = dict(np.load(path))
    options = TuneOptions(model=settings["model"], **settings["options"])
    batches = [
        TokenBatch(*(file[f"packed/{i}/{name}"] for name in TokenBatch._fields)) for i in range(int(file["count"]))
    ]
    encoder = TextEncoder(options.model)
    model = text_classifier(encoder, options, layer=encoder.layers, classes=int(file["classes"]))
    fresh: Any = model.init(jax.random.key(0), jax.tree.map(jnp.asarray, batches[0]))
    variables = fresh | {"params": fresh["params"] | {ENCODER: encoder.params(encoder.layers)["params"]}}
    trained, frozen = steps.parted(variables, options)
    optimizer = steps.make_optimizer(options, trained, layers=encoder.layers, steps=1000)
    step = steps.make_step(model, optimizer, options, class_weights=None)
    state = steps.init_state(trained, optimizer, options)

    def one(i: int) -> None:
        nonlocal state
        state, loss = step(state, frozen, batches[i % len(batches)], jnp.int32(0))
        jax.block_until_ready(loss)

    def timed(first: int, count: int) -> dict[str, list[float]]:
        return {"seconds": [seconds(lambda i=i: one(i)) for i in range(first, first + count)]}

    serve({name: version(name) for name in ("jax", "jaxlib", "flax")}, {"steps": timed})


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
