"""How a network is run. This file does not import JAX."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Running:
    """How a network is run; the published weights define the same function whatever is chosen, but for dropout.

    precision: of the factors of products, `float32` or `bfloat16`.
    remat: whether the backward pass computes each layer anew, which saves memory.
    dropout: rate, in training.
    rank: of the adapters beside each kernel of the layers; 0 for none.
    scale: factor of what the adapters add.
    """

    precision: str = "float32"
    remat: bool = False
    dropout: float = 0.0
    rank: int = 0
    scale: float = 1.0
