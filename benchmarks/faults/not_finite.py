"""NaN and infinity in features, wherever they come from, and training that diverges.

    python benchmarks/faults/not_finite.py [--count=100] [--seed=0]

A number that is not finite is refused by the name of its utterance: when features are packed, in a packed dataset whose
hashes fit, and in what is given to predict. No value of a dialogue reaches another one: whatever stands in one, the
outputs and gradients of the others stay equal bit for bit. Training that diverges saves nothing of it, ends with an
exit code of its own, and goes on from the last good epoch with another learning rate. Exits with 1 if a promise was not
kept.
"""

import itertools
import logging
import math
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import fakes  # pyright: ignore[reportMissingImports] (of the tests)
import tiny  # pyright: ignore[reportMissingImports] (of the tests)

import jmer
from benchmarks.faults.outcomes import Row, parser, show
from jmer.base import cli
from jmer.base.errors import DivergedError
from jmer.base.types import Dialogue, Features, Utterance
from jmer.dataset import store
from jmer.features import engine, readyfile
from jmer.features.extractor import Encoded
from jmer.runs import directory, scoring
from jmer.training import checkpoint
from tests.nn import test_properties as properties

BAD = (math.nan, math.inf, -math.inf)
EXTREMES = (3e38, -3e38, math.inf, -math.inf)  # what the model may meet, and more: the data is refused before
OVERFLOW = {"batch_utterances": 1000, "warmup": 0.25, "lr": 3.3e38, "encoder": "none", "graph": "none"}


def main() -> int:
    args = parser(__doc__, count=100).parse_args()
    with jax.numpy_dtype_promotion("standard"):
        return show(f"{args.count} numbers that are not finite", rows(count=args.count, seed=args.seed))


def rows(*, count: int = 100, seed: int = 0, choices: Sequence[Any] | None = None) -> list[Row]:
    """Returns a row for each place.

    choices: of the model's options, on which `apart` is tried; by default as many as hold each pair of them.
    """
    logging.getLogger("jmer").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="jmer-finite-") as name:
        folder, rng = Path(name), random.Random(seed)
        data = tiny.write_dataset(folder / "data")
        tiny.train(data, folder / "run", epochs=1, encoder="none", graph="none")
        predictor = jmer.load(folder / "run")
        return [
            extracted(count, rng),
            counted("files of ready features", count, lambda i: ready(folder / "ready", rng)),
            *(counted(f"a packed dataset, by {name}", max(count // 4, 1), lambda i, u=use: packed(folder, rng, u))
              for name, use in USES.items()),
            counted("features given to predict", count, lambda i: predicted(predictor, rng)),
            *apart(properties.combinations() if choices is None else choices),
            diverged(folder, data, max(count // 20, 1), rng),
        ]  # fmt: skip


def counted(name: str, count: int, once: Callable[[int], str]) -> Row:
    """Calls `once` so many times; it returns an outcome, which is `named` where the promise was kept."""
    found = Counter(once(i) for i in range(count))
    told = ", ".join(f"{n} {outcome}" for outcome, n in found.most_common())
    return Row(
        case=f"{name} ({count})", promise="refused, and the utterance named", outcome=told, held=set(found) == {"named"}
    )


def refusal(call: Callable[[], object], name: str) -> str:
    """Returns `named` if a call is refused with a message that names the utterance, and otherwise what came of it."""
    try:
        call()
    except DivergedError:
        return "diverged"
    except jmer.UserError as error:
        return "named" if name in str(error) and "\n" not in str(error) else f"refused: {error}"
    except Exception as error:
        return f"traceback: {type(error).__name__}"
    return "read in silence"


# ---- where features come from ----------------------------------------------------------------------------------------


class Spoilt(fakes.Letters):
    """An extractor that gives a bad number for a text with one `!` in the vector, with two in a frame alone."""

    def encode(self, payloads: Any, *, exact: bool = False) -> list[Any]:
        found = []
        for text, (vector, sequence) in zip(payloads, super().encode(payloads, exact=exact), strict=True):
            bad, number = text.count("!"), BAD[len(text) % 3]
            if bad == 1:
                vector = np.where(np.arange(len(vector)) == 1, number, vector).astype(np.float32)
            elif bad:
                sequence = np.where(np.arange(2) == 1, number, sequence).astype(np.float16)
            found.append(Encoded(vector, sequence))
        return found


def extracted(count: int, rng: random.Random) -> Row:
    """Extracts a dialogue in which some texts give bad numbers: their rows alone are degraded, and say why."""
    wrong = 0
    for number in range(count):
        bad = [rng.random() < 0.3 for _ in range(6)]
        texts = [f"text {'x' * (number % 3)} {i}{'!' * rng.randint(1, 2) if b else ''}" for i, b in enumerate(bad)]
        given = tuple(Utterance(id=f"u{i}", speaker="a", text=text) for i, text in enumerate(texts))
        found = engine.results_of(Dialogue(id="d", utterances=given), {"text": Spoilt(sequence_frames=2)})
        plain = engine.results_of(Dialogue(id="d", utterances=given), {"text": fakes.Letters(sequence_frames=2)})
        for b, mine, other in zip(bad, found, plain, strict=True):
            result, expected = mine["text"], other["text"]
            if b:
                wrong += result.vector is not None or result.reason != "the features are not finite"
            else:
                wrong += result.vector is None or not np.array_equal(result.vector, expected.vector)  # pyright: ignore
    return Row(
        case=f"an extractor gives them ({count} dialogues)",
        promise="the row says so and lacks the modality, the others are as they were",
        outcome=f"{wrong} rows wrong",
        held=not wrong,
    )


def ready(folder: Path, rng: random.Random) -> str:
    """Reads a file of ready features with one bad number."""
    folder.mkdir(exist_ok=True)
    arrays = {f"a_{i}": np.ones((3, 4), np.float32) for i in range(5)}
    name = rng.choice(list(arrays))
    arrays[name][rng.randrange(3), rng.randrange(4)] = rng.choice(BAD)
    kind = rng.choice([".npz", ".safetensors", ".csv"])
    file = folder / f"f{kind}"
    if kind == ".npz":
        np.savez(file, allow_pickle=False, **arrays)
    elif kind == ".safetensors":
        save_file(arrays, file)
    else:
        lines = [",".join([key, *map(str, x.reshape(-1))]) for key, x in arrays.items()]
        file.write_text("\n".join([",".join(["utterance", *(f"x{i}" for i in range(12))]), *lines]) + "\n")
        name = f"csv:{2 + list(arrays).index(name)}"
    return refusal(lambda: list(readyfile.open_file(file).entries()), name)


def spoilt(dialogue: Features, rng: random.Random) -> tuple[Features, str]:
    """Returns a dialogue with one bad number in a vector or in a frame that is there, and its utterance."""
    modality = rng.choice([m for m in tiny.DIMS if dialogue.present[m].any()])
    u = rng.choice(np.flatnonzero(dialogue.present[modality]).tolist())
    values = {m: x.copy() for m, x in dialogue.values.items()}
    values[modality][u, rng.randrange(tiny.DIMS[modality])] = rng.choice(BAD)
    return replace(dialogue, values=values), dialogue.utterance_ids[u]


def _trains(folder: Path) -> None:
    tiny.train(folder / "bad", folder / "new", epochs=1)


USES: dict[str, Callable[[Path], object]] = {
    "training": _trains,
    "evaluation": lambda folder: scoring.predicted(
        [directory.load(folder / "run")], store.load(folder / "bad"), "train", vote=False
    ),
    "prediction of a split": lambda folder: jmer.load(folder / "run").predict_split(folder / "bad", "train"),
}


def packed(folder: Path, rng: random.Random, use: Callable[[Path], object]) -> str:
    """Uses a packed dataset with one bad number, whose hashes fit."""
    dialogues = tiny.dialogues([3, 7, 5], seed=rng.randrange(100))
    number = rng.randrange(3)
    dialogues[number], name = spoilt(dialogues[number], rng)
    tiny.write_dataset(folder / "bad", splits={"train": dialogues, "dev": tiny.dialogues([4])})
    outcome = refusal(lambda: use(folder), name)
    return "saved parameters" if (folder / "new/checkpoints").exists() else outcome


def predicted(predictor: jmer.Predictor, rng: random.Random) -> str:
    """Predicts several dialogues, one of which has a bad number."""
    dialogues: Any = [
        [{"id": f"{d}_{u}", "speaker": "a", "features": {"text": np.ones(6, np.float32)}} for u in range(3)]
        for d in range(3)
    ]
    d, u = rng.randrange(3), rng.randrange(3)
    dialogues[d][u]["features"]["text"][rng.randrange(6)] = rng.choice(BAD)
    return refusal(lambda: predictor.predict_all(dialogues), f"{d}_{u}")


# ---- one dialogue and the others -------------------------------------------------------------------------------------


def apart(choices: Sequence[Any]) -> list[Row]:
    """Poisons one dialogue of a batch, in a row of its own and in a row with others, for each choice of the options."""
    found, gradients, nan = Counter[bool](), Counter[bool](), Counter[bool]()
    for choice in choices:
        model, variables = properties.made(*choice)
        base = properties.batch(properties.DIALOGUES)

        @jax.jit
        def outputs(variables: Any, data: Any, others: Any, model: Any = model) -> Any:
            def loss(params: Any) -> Any:
                output = tiny.apply(model, {**variables, "params": params}, data)
                return (jnp.where(others[..., None], output.logits, 0) ** 2).sum(), output

            gradient, output = jax.grad(loss, has_aux=True)(variables["params"])
            return output.logits, output.gates, gradient

        for number, values in itertools.product(range(3), (*EXTREMES, math.nan)):
            mine = dialogue_at(base, number)
            if math.isnan(values) and number != 0:
                continue  # the data is refused before it is packed into rows
            others = base.mask & ~mine
            poisoned = base._replace(
                features={m: np.where(mine[..., None], np.float32(values), x) for m, x in base.features.items()},
                sequences={
                    m: np.where(mine[..., None, None], np.float16(np.clip(values, -6e4, 6e4)), x)
                    for m, x in base.sequences.items()
                },
            )
            before, after = (outputs(variables, data, jnp.asarray(others)) for data in (base, poisoned))
            same = all(
                np.array_equal(np.asarray(a)[others], np.asarray(b)[others])
                for a, b in zip(before[:2], after[:2], strict=True)
            )
            if math.isnan(values):
                nan[same] += 1
                continue
            found[same] += 1
            equal = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), before[2], after[2])
            gradients[all(jax.tree.leaves(equal))] += 1
    where = f"{len(choices)} choices of encoder, graph, fusion"
    return [
        Row(
            case=f"{what} ({sum(of.values())}, {where})",
            promise="the others stay equal bit for bit",
            outcome=f"{of[True]} equal, {of[False]} changed",
            held=not of[False],
        )
        for what, of in (
            ("outputs beside a dialogue of extreme values, in its row too", found),
            ("gradients beside a dialogue of extreme values, in its row too", gradients),
            ("outputs beside a dialogue of NaN in a row of its own", nan),
        )
    ]


def dialogue_at(batch: Any, number: int) -> np.ndarray:
    """Returns `[B, U]` bool, which utterances are those of the dialogue of this number in `properties.DIALOGUES`."""
    row, column = ((0, 0), (1, 0), (1, 3))[number]
    mine = np.zeros(batch.mask.shape, bool)
    mine[row, column : column + len(properties.DIALOGUES[number])] = True
    return mine


# ---- training --------------------------------------------------------------------------------------------------------


def diverged(folder: Path, data: Path, count: int, rng: random.Random) -> Row:
    """Trains with learning rates that diverge, and then goes on with a good one."""
    found = Counter[str]()
    for number in range(count):
        run, seed = folder / f"diverged{number}", rng.randrange(1000)

        def once(argv: Sequence[str], lr: float, run: Path = run, seed: int = seed) -> None:
            tiny.train(data, run, seed=seed, **(OVERFLOW | {"lr": lr}))

        code = cli.run(lambda argv, once=once: once(argv, 3.3e38), [])
        kept = checkpoint.latest_epoch(run / "checkpoints")
        finite = all(np.isfinite(x).all() for x in jax.tree.leaves(directory.load(run).params))
        if code != DivergedError.exit_code or kept != 1 or not finite:
            found[f"exit code {code}, epoch {kept}"] += 1
            continue
        code = cli.run(lambda argv, once=once: once(argv, 0.01), [])
        last = directory.load(run)
        fine = (
            code == 0 and last.progress.epoch == 4 and all(np.isfinite(x).all() for x in jax.tree.leaves(last.params))
        )
        found["stopped with 4 and went on" if fine else "did not go on"] += 1
    told = ", ".join(f"{n} {outcome}" for outcome, n in found.items())
    return Row(
        case=f"training that diverges ({count})",
        promise="exit code 4, nothing of it saved; another rate goes on from the last good epoch",
        outcome=told,
        held=set(found) == {"stopped with 4 and went on"},
    )


if __name__ == "__main__":
    sys.exit(main())
