"""How long a causal model takes for the next utterance of a dialogue, as the dialogue grows.

    python benchmarks/stream_latency.py [--turns=1000] [--runs=5] [--workdir=runs/causal]

Each row is `stream.predict` on ready features of all modalities: the milliseconds of one turn, over turns 5 to 24, over
the last 20 turns, and over all turns but the first, which compiles. CPU is the processor time of the process, which
other programs on the machine disturb less. Without --workdir the models are causal ones of the default width with
random parameters, on features of the widths of the public encoders. Without a stream one would call `predict` on the
whole dialogue at each turn: the table has the time of one such call at the last turn, and the greatest difference
between its probabilities and those of the stream.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from synthetic import machine, write

import jmer
from jmer.nn.options import ModelOptions
from jmer.runs.directory import Calibration, Run, RunDirectory
from jmer.runs.inputs import Inputs, Modality, model_of
from jmer.runs.predictor import Predictor
from jmer.runs.progress import Progress
from jmer.runs.voting import Voters
from jmer.training import steps
from jmer.training.options import TrainOptions

LABELS = ("neutral", "joy", "anger", "disgust", "sadness", "fear", "surprise")
DIMS = {"text": 768, "audio": 384, "video": 512}
MODELS: Mapping[str, Mapping[str, Any]] = {
    "configs/causal.py": {},
    "3 seeds that vote": {"seeds": 3},
    "graph gfpush": {"graph": "gfpush"},
    "hybrid fusion, speakers' means": {"fusion": "hybrid", "speaker_mean": True},
    "no graph": {"graph": "none"},
}


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=1000, help="turns of each dialogue")
    parser.add_argument("--runs", type=int, default=5, help="dialogues of each model")
    parser.add_argument("--workdir", type=Path, help="a causal run to measure, in place of random models")
    args = parser.parse_args(argv)
    if args.workdir:
        predictors = {str(args.workdir): jmer.load(args.workdir)}
    else:
        predictors = {name: untrained(chosen) for name, chosen in MODELS.items()}
    lines = [
        "# Latency of a turn in a stream",
        "",
        machine(),
        "",
        f"Milliseconds of one turn from ready features, over {args.runs} dialogues of {args.turns} turns each.",
        "",
        "| model | turns 5 to 24, median | last 20 turns, median | all, p99 | all, p99 of CPU | `predict` of the whole "
        "| difference |",
        "|---|---|---|---|---|---|---|",
    ]
    kept = {}
    for name, predictor in predictors.items():
        dialogues = [dialogue(predictor, args.turns, seed=seed) for seed in range(args.runs)]
        each = [streamed(predictor, given) for given in dialogues]
        times, cpu = (np.array([found[i] for found in each]) for i in (0, 1))
        expected = predictor.predict(dialogues[0])  # compiles
        start = time.perf_counter()
        predictor.predict(dialogues[0])
        whole = 1e3 * (time.perf_counter() - start)
        early, late = (statistics.median(part.ravel()) for part in (times[:, 5:25], times[:, -20:]))
        figures = [early, late, np.percentile(times[:, 1:], 99), np.percentile(cpu[:, 1:], 99), whole]
        answers = (np.array([list(p.probs.values()) for p in found]) for found in (each[0][2], expected))
        difference = np.abs(next(answers) - next(answers)).max()
        lines.append(f"| {name} | {' | '.join(f'{x:.2f}' for x in figures)} | {difference:.0e} |")
        kept[name] = [*map(float, figures), float(difference)]
        print(lines[-1], file=sys.stderr)
    write("stream_latency", lines, kept, keep=args.workdir is None and args.turns >= 1000)
    return 0


def streamed(
    predictor: Predictor, given: Sequence[Mapping[str, Any]]
) -> tuple[list[float], list[float], list[jmer.Prediction]]:
    """Returns the milliseconds of each turn, those of the processors, and the answers."""
    stream, wall, cpu, answers = predictor.stream(), [], [], []
    for utterance in given:
        start, busy = time.perf_counter(), time.process_time()
        answers.append(stream.predict(utterance))
        wall.append(1e3 * (time.perf_counter() - start))
        cpu.append(1e3 * (time.process_time() - busy))
    return wall, cpu, answers


def dialogue(predictor: Predictor, turns: int, *, seed: int) -> list[dict[str, Any]]:
    """A dialogue of random features, of 5 speakers."""
    rng = np.random.default_rng(seed)
    return [
        {
            "speaker": "abcde"[rng.integers(5)],
            "features": {m: rng.standard_normal(dim, np.float32) for m, dim in predictor.dims.items()},
        }
        for _ in range(turns)
    ]


def untrained(chosen: Mapping[str, Any]) -> Predictor:
    """A causal model of random parameters."""
    options = TrainOptions(**{"encoder": "gru", "future": 0} | dict(chosen))
    ModelOptions.check(options)
    modalities = {m: Modality(dim=dim, extractor={}, fingerprint="") for m, dim in DIMS.items()}
    inputs = Inputs(labels=LABELS, dataset_fingerprint="", modalities=modalities, sequence_dims={})
    model = model_of(options, inputs)
    params = jax.tree.map(lambda x: x[:, None], steps.init_params(model, seeds=options.all_seeds))
    stats = {f"{m}_{n}": np.full(dim, n == "scale", np.float32) for m, dim in DIMS.items() for n in steps.STATS}
    run = Run(
        directory=RunDirectory(Path("random")),
        options=options,
        inputs=inputs,
        model=model,
        params=params,
        stats=stats,
        progress=Progress.start(seeds=options.seeds, keep=1),
        calibration=Calibration(seeds=(1.0,) * options.seeds, vote=1.0),
    )
    return Predictor(Voters([run], vote=options.seeds > 1))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
