"""Parameters as one safetensors file, which programs of other languages read too."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from jmer.base.errors import UserError

Tree = Any  # a pytree of arrays


def save(file: Path, tree: Tree) -> None:
    """Writes the leaves of a tree, each under its keys joined by `/`, such as `params/encoder/gru/w_in`."""
    arrays = {name: np.asarray(jax.device_get(x)) for name, x in _named(tree).items()}
    file.write_bytes(safetensors.save(arrays))  # save_file would let nobody else read the file


def load(file: Path, template: Tree) -> Tree:
    """Returns the tree that `save` wrote.

    Args:
      template: a tree of shapes, each with the sharding that its array gets.

    Raises:
      UserError: the file cannot be read, or its arrays are not those of the template.
    """
    try:
        found = safetensors.load_file(file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be read ({error}); export the run again") from error
    expected = _named(template)
    shapes = ({name: (x.shape, str(x.dtype)) for name, x in arrays.items()} for arrays in (found, expected))
    if (here := next(shapes)) != (wanted := next(shapes)):
        odd = min(name for name in here.keys() | wanted.keys() if here.get(name) != wanted.get(name))
        raise UserError(
            f"{file} does not hold the parameters that config.json beside it describes: {odd} is "
            f"{here.get(odd, 'absent')}, expected {wanted.get(odd, 'nothing')}; export the run again"
        )
    arrays = [jax.device_put(found[name], leaf.sharding) for name, leaf in expected.items()]
    return jax.tree.unflatten(jax.tree.structure(template), arrays)


def _named(tree: Tree) -> dict[str, Any]:
    """Returns the leaves by name, in the order of the tree."""
    return {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in jax.tree.leaves_with_path(tree)}
