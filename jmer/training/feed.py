"""A split's way to the devices: it lies there for good, or comes in pieces while the devices work on those before.

Either way a compiled epoch is given the same batches: utterances, and the numbers that gather batches out of them.
"""

import functools
import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from numpy.typing import DTypeLike

from jmer.base.types import FlatSplit
from jmer.dataset.flat import flatten, longest, pick
from jmer.dataset.store import Dataset
from jmer.training.devices import Placement, as_main, is_main, memory, put

_PIECE_BYTES = 2**26  # of streamed utterances; enough for the devices to work on while the next is on its way


def load_flat(
    dataset: Dataset,
    groups: Sequence[Sequence[str]],
    *,
    dims: Mapping[str, int],
    sequence_dims: Mapping[str, int],
    dtype: str,
    mode: str,
    folder: Path,
) -> tuple[list[FlatSplit], bool]:
    """Returns each group of splits end to end, and whether they are to be streamed.

    Args:
      dims, sequence_dims: modality -> D and D', of what is to be read.
      dtype: of the features.
      mode: `resident`, `streamed`, or `auto`: streamed where the features take over half of the device's memory.
      folder: where arrays lie that are streamed; they vanish with the process.
    """
    names, sizes = [name for group in groups for name in group], dataset.manifest["splits"]
    sequences = {}
    if sequence_dims:
        sequences = longest(itertools.chain.from_iterable(map(dataset.stored, names)), sequence_dims)
    of_one = sum(dims.values()) * np.dtype(dtype).itemsize + sum(2 * t * d for t, d in sequences.values())
    size = of_one * sum(sizes[name]["utterances"] for name in names)  # bytes
    streamed = as_main(mode == "streamed" or (mode == "auto" and 2 * size > memory()))
    zeros = np.zeros
    if streamed:
        if is_main():
            print(f"features are streamed: {size / 1e9:.3g} GB, where a device has {memory() / 1e9:.3g} GB")
        folder.mkdir(parents=True, exist_ok=True)
        zeros = functools.partial(_zeros_on_disk, folder=folder)
    flat = [
        flatten(
            itertools.chain.from_iterable(map(dataset.stored, group)),
            utterances=sum(sizes[name]["utterances"] for name in group),
            dims=dims, sequences=sequences, dtype=dtype, zeros=zeros,
        )
        for group in groups
    ]  # fmt: skip
    return flat, streamed


class Feed:
    """A flat split, and the pieces in which it comes."""

    def __init__(self, flat: FlatSplit, placement: Placement, *, streamed: bool):
        """Puts the split on the devices, unless it is to be streamed.

        Args:
          flat: of `batches.flatten`.
        """
        self._placement, self._streamed = placement, streamed
        self._padding = len(flat.mask) - 1
        self._flat = flat if streamed else put(flat, placement.everywhere)

    def pieces(self, indices: Iterable[np.ndarray]) -> Iterator[tuple[FlatSplit, jax.Array]]:
        """Yields (utterances, numbers into them) on the devices.

        Args:
          indices: `[J, S, B, U]` or `[J, B, U]` int32 each, of `batches.Plan` or `batches.evaluation_plan`.
        """
        padded = [_pad_rows(index, multiple=self._placement.rows, padding=self._padding) for index in indices]
        if not self._streamed:
            for index in padded:
                yield self._flat, put(index, self._placement.index(index.ndim))
            return
        import grain

        size = sum(x.nbytes for x in jax.tree.leaves(self._flat)) / len(self._flat.mask)
        parts = [part for index in padded for part in _parts(index, most=int(_PIECE_BYTES / size))]
        ready = grain.MapDataset.source(parts).map(self._piece).to_iter_dataset(grain.ReadOptions(2, 2))
        on_devices = grain.experimental.ThreadPrefetchIterDataset(ready.map(self._put), prefetch_buffer_size=1)
        yield from on_devices

    def _piece(self, index: np.ndarray) -> tuple[FlatSplit, np.ndarray]:
        """The utterances that the batches take, then padding, so that pieces are alike; and the numbers into them."""
        numbers, local = np.unique(index, return_inverse=True)
        room = np.full(index.size + 1, self._padding, np.int32)
        room[: len(numbers)] = numbers
        return pick(self._flat, room), local.reshape(index.shape).astype(np.int32)

    def _put(self, piece: tuple[FlatSplit, np.ndarray]) -> tuple[FlatSplit, jax.Array]:
        utterances, index = piece
        return put(utterances, self._placement.everywhere), put(index, self._placement.index(index.ndim))


def _parts(index: np.ndarray, *, most: int) -> Sequence[np.ndarray]:
    """Parts of equal shape, so of one program, with so many utterances at the most, or with one batch."""
    steps = len(index)
    each = max(n for n in range(1, steps + 1) if steps % n == 0 and (n == 1 or n * index[0].size <= most))
    return np.split(index, steps // each)


def _pad_rows(index: np.ndarray, *, multiple: int, padding: int) -> np.ndarray:
    """Adds rows of padding until their number is such a multiple."""
    widths = [(0, 0)] * index.ndim
    widths[-2] = (0, -index.shape[-2] % multiple)
    return np.pad(index, widths, constant_values=padding)


def _zeros_on_disk(shape: tuple[int, ...], dtype: DTypeLike, *, folder: Path) -> np.ndarray:
    """Returns zeros that lie in a file, of which the system keeps in memory what it has room for."""
    # A file without a name: it goes with the array, however the process ends.
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, dtype, "w+", shape=shape)
