"""A trained run as an ONNX file, for dialogues of up to a fixed number of utterances.

jax2onnx, of the extra `onnx`, converts the program. onnx.json beside the file names the inputs and outputs.
"""

from importlib.metadata import version
from pathlib import Path

import jax
from jax.extend.core import jaxpr_as_fun

from jmer.base import files
from jmer.base.errors import UserError
from jmer.runs import stablehlo
from jmer.runs.directory import Run


def write(run: Run, program: Path, described: Path, *, utterances: int, vote: bool) -> None:
    """Writes the program of a run for one dialogue of at most so many utterances, and the file that describes it.

    Args:
      vote: all seeds vote; otherwise the first seed predicts.

    Raises:
      UserError: jax2onnx is not installed, or the model has a part that ONNX or jax2onnx cannot do.
    """
    try:
        import jax2onnx  # pyright: ignore[reportMissingImports] (an extra)
    except ImportError as error:
        raise UserError(f"--onnx needs jax2onnx: pip install 'jmer[onnx]' ({error})") from error
    if run.options.precision != "float32":
        raise UserError(
            f"--onnx: the run was trained with config.precision={run.options.precision}, and onnxruntime has no such "
            "product; train with config.precision=float32, or take --stablehlo"
        )
    if run.inputs.sequence_dims:
        raise UserError(
            f"--onnx: the run reads sequences ({', '.join(run.inputs.sequence_dims)}), whose lengths an ONNX file "
            "would fix; take --stablehlo"
        )
    sizes = {"B": 1, "U": utterances}
    inputs = {
        name: ([sizes.get(axis, axis) for axis in shape], dtype, holds)
        for name, (shape, dtype, holds) in stablehlo.inputs_of(run).items()
    }
    arguments = {name: jax.ShapeDtypeStruct(tuple(shape), dtype) for name, (shape, dtype, _) in inputs.items()}
    # It is traced here: jax2onnx would replace the layers of Flax by operators that cannot be mapped over branches.
    traced = jax.make_jaxpr(stablehlo.program(run, vote=vote, form="dense"))(arguments)
    outputs = {
        name: ([sizes.get(axis, axis) for axis in shape], dtype, holds)
        for name, (shape, dtype, holds) in stablehlo.outputs_of(run).items()
    }
    jax2onnx.to_onnx(
        lambda *given: tuple(jaxpr_as_fun(traced)(*given)),
        inputs=[arguments[name] for name in sorted(arguments)],  # the order of the leaves of a dict
        input_names=sorted(arguments),
        output_names=sorted(outputs),
        model_name="jmer",
        return_mode="file",
        output_path=str(program),
    )
    about = {"axes": f"one row of {utterances} utterances, the last ones padding", "jax2onnx": version("jax2onnx")}
    files.save_sealed(described, stablehlo.description(run, program, inputs, outputs, vote=vote) | about)
