"""PyTorch's side of recurrence.py, run by an interpreter with torch; imports nothing of jmer."""

# pyright: reportMissingImports=false
import sys
from typing import Any

import torch
from step_worker import seconds, serve
from torch import nn


def gru(shape: tuple[int, int, int, int, int], count: int) -> dict[str, Any]:
    """Seconds of an `nn.GRU` for each modality, forward and backward; see `recurrence.Shape`."""
    modalities, rows, steps, dim, hidden = shape
    grus = [nn.GRU(dim, hidden, batch_first=True, bidirectional=True) for _ in range(modalities)]
    x = torch.randn(modalities, rows, steps, dim, requires_grad=True)

    def call() -> None:
        x.grad = None
        for each in grus:
            each.zero_grad(set_to_none=True)
        torch.stack([each(part)[0].square().sum() for each, part in zip(grus, x, strict=True)]).sum().backward()

    call()
    return {"seconds": [seconds(call) for _ in range(count)]}


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    serve({"torch": torch.__version__}, {"gru": gru})
