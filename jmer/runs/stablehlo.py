"""A trained run as one program in StableHLO, which JAX runs without jmer.

    program = jax.export.deserialize(open("model.stablehlo", "rb").read())
    probs = program.call({"text": x, "text_present": here, "speaker": speaker, "mask": mask})["probs"]

The program holds the parameters. Its batches may have any number of rows and of utterances; a row is one dialogue,
padded at its end. stablehlo.json beside the program names the inputs and outputs.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import export

from jmer.base import files
from jmer.base.types import Batch
from jmer.runs.directory import Run
from jmer.runs.inputs import model_of
from jmer.training import steps
from jmer.training.calibration import FLOOR

PLATFORMS = ("cpu", "cuda", "tpu")

_ABSENT = "anything where it is not present"
_PROBS = "the calibrated probability of each label; of no meaning in the padding and where no modality is present"


Arrays: TypeAlias = Mapping[str, tuple[list, str, str]]  # name -> shape, type and meaning


def write(run: Run, file: Path, described: Path, *, vote: bool) -> None:
    """Writes the program of a run and the JSON file that describes it.

    Args:
      vote: all seeds vote; otherwise the first seed predicts.
    """
    inputs = inputs_of(run)
    axes = sorted({axis for shape, _, _ in inputs.values() for axis in shape if isinstance(axis, str)})
    symbols = dict(zip(axes, export.symbolic_shape(", ".join(axes).lower()), strict=True))
    arguments = {
        name: jax.ShapeDtypeStruct(tuple(symbols.get(axis, axis) for axis in shape), dtype)
        for name, (shape, dtype, _) in inputs.items()
    }
    # All forms of the graph give one result, and `auto` takes one that rows of any width can have.
    made = export.export(jax.jit(program(run, vote=vote, form="auto")), platforms=PLATFORMS)(arguments)
    file.write_bytes(made.serialize())
    about = {
        "axes": "B rows, U utterances and T frames are chosen by the caller; each new choice is compiled once",
        "platforms": list(made.platforms),
        "calling_convention_version": made.calling_convention_version,
    }
    files.save_sealed(described, description(run, file, inputs, outputs_of(run), vote=vote) | about)


def description(run: Run, file: Path, inputs: Arrays, outputs: Arrays, *, vote: bool) -> dict[str, Any]:
    """Returns what the JSON file says of every kind of program."""
    names = ("shape", "dtype", "holds")
    listed = [
        {name: dict(zip(names, each, strict=True)) for name, each in arrays.items()} for arrays in (inputs, outputs)
    ]
    return {
        "program": file.name,
        "labels": list(run.inputs.labels),
        "inputs": listed[0],
        "outputs": listed[1],
        "seeds": list(run.options.all_seeds if vote else run.options.all_seeds[:1]),
        "jax": jax.__version__,
    }


def inputs_of(run: Run) -> Arrays:
    """Returns the inputs of the program of a run; the letters in a shape are axes whose size is open."""
    inputs: dict[str, tuple[list, str, str]] = {
        "mask": (["B", "U"], "bool", "whether the row has an utterance there; False in the padding at its end"),
        "speaker": (["B", "U"], "int32", "a number for each speaker of the row, whichever"),
    }
    for name, dim in run.inputs.dims.items():
        inputs[name] = (["B", "U", dim], "float32", f"the {name} features; {_ABSENT}")
        inputs[f"{name}_present"] = (["B", "U"], "bool", f"whether the utterance has {name}")
    for name, dim in run.inputs.sequence_dims.items():
        inputs[f"{name}_frames"] = (["B", "U", f"T_{name}", dim], "float16", f"the frames of the {name}; {_ABSENT}")
        inputs[f"{name}_frame_mask"] = (["B", "U", f"T_{name}"], "bool", "which frames there are")
    return inputs


def outputs_of(run: Run) -> Arrays:
    """Returns the outputs of the program of a run."""
    outputs = {"probs": (["B", "U", len(run.inputs.labels)], "float32", _PROBS)}
    if names := run.model.gate_names:
        meaning = f"the share in the answer of {', '.join(names)}, in this order"
        outputs["shares"] = (["B", "U", len(names)], "float32", meaning)
    return outputs


def program(run: Run, *, vote: bool, form: str) -> Callable[[dict[str, jax.Array]], dict[str, jax.Array]]:
    """Returns the program of a run as a function of the arrays in `inputs_of`; `form` is that of the graph."""
    model = model_of(replace(run.options, graph_form=form), run.inputs)
    params = run.params if vote else jax.tree.map(lambda x: x[:1], run.params)
    temperature = run.calibration.of(vote=vote)[0]

    def answer(given: dict[str, jax.Array]) -> dict[str, jax.Array]:
        mask = given["mask"]
        number = jax.lax.broadcasted_iota(jnp.int32, mask.shape, 1)
        unlabelled = jnp.full(mask.shape, -1, jnp.int32)
        batch = Batch(
            features={m: given[m].astype(run.options.data_dtype) for m in run.inputs.dims},
            present={m: given[f"{m}_present"] for m in run.inputs.dims},
            sequences={m: given[f"{m}_frames"] for m in run.inputs.sequence_dims},
            frame_mask={m: given[f"{m}_frame_mask"] for m in run.inputs.sequence_dims},
            mask=mask,
            first=number == 0,
            speaker=given["speaker"],
            label=unlabelled,
            sentiment=unlabelled,
        )
        probs, gates = (x.mean(axis=0) for x in steps.predict(model, params, run.stats, batch))
        if temperature != 1:
            probs = jax.nn.softmax(jnp.log(jnp.maximum(probs, FLOOR)) / temperature)
        return {"probs": probs} | ({"shares": gates} if run.model.gate_names else {})

    return answer
