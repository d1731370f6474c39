"""The way of a split to the devices: it stays there, or it is streamed in pieces while the devices work.

Either way a compiled epoch receives the same batches: utterances, and the numbers that gather batches out of them.
"""

import functools
import itertools
import logging
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from numpy.typing import DTypeLike

from jmer.base.errors import StorageError
from jmer.base.types import FlatSplit
from jmer.dataset.flat import flatten, pick
from jmer.dataset.store import Dataset
from jmer.training.devices import Placement, as_main, is_main, memory, put

_log = logging.getLogger(__name__)

# Bytes of the utterances of a streamed piece: enough work for the devices while the next piece is on its way. Some ten
# of them are in memory at a time, and in a small container they have to leave room for all else.
_PIECE_BYTES, _PIECES_OF_MEMORY = 2**26, 64


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
      dims, sequence_dims: modality -> D and D' of the features and sequences to read.
      dtype: of the features.
      mode: `resident`, `streamed`, or `auto`, which streams features that take over half of the device's memory.
      folder: holds the files of streamed arrays, which vanish with the process.

    Raises:
      UserError: a feature is not finite.
      StorageError: the disk of `folder` is full.
    """
    names, sizes = [name for group in groups for name in group], dataset.manifest["splits"]
    sequences = {m: (max(dataset.sequence_lengths[m], 1), dim) for m, dim in sequence_dims.items()}
    of_one = sum(dims.values()) * np.dtype(dtype).itemsize + sum(2 * t * d for t, d in sequences.values())
    size = of_one * sum(sizes[name]["utterances"] for name in names)  # bytes
    streamed = as_main(mode == "streamed" or (mode == "auto" and 2 * size > memory()))
    zeros = np.zeros
    if streamed:
        if is_main():
            _log.info(f"features are streamed: {size / 1e9:.3g} GB, where a device has {memory() / 1e9:.3g} GB")
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
    """A flat split, and the pieces in which it reaches the devices."""

    def __init__(self, flat: FlatSplit, placement: Placement, *, streamed: bool):
        """Puts the split on the devices, unless it is to be streamed."""
        self._placement, self._streamed = placement, streamed
        self._padding = len(flat.mask) - 1
        self._flat = flat if streamed else put(flat, placement.everywhere)

    def pieces(self, indices: Iterable[np.ndarray]) -> Iterator[tuple[FlatSplit, jax.Array]]:
        """Yields (utterances, numbers into them), both on the devices.

        Args:
          indices: int32 utterance numbers, `[J, S, B, U]` of a `Plan` or `[J, B, U]` of an `evaluation_plan`.
        """
        padded = [_pad_rows(index, multiple=self._placement.rows, padding=self._padding) for index in indices]
        if not self._streamed:
            for index in padded:
                yield self._flat, put(index, self._placement.index(index.ndim))
            return
        import grain

        size = sum(x.nbytes for x in jax.tree.leaves(self._flat)) / len(self._flat.mask)
        most = int(min(_PIECE_BYTES, memory() / _PIECES_OF_MEMORY) / size)
        parts = [part for index in padded for part in _parts(index, most=most)]
        ready = grain.MapDataset.source(parts).map(self._piece).to_iter_dataset(grain.ReadOptions(2, 2))
        on_devices = grain.experimental.ThreadPrefetchIterDataset(ready.map(self._put), prefetch_buffer_size=1)
        yield from on_devices

    def _piece(self, index: np.ndarray) -> tuple[FlatSplit, np.ndarray]:
        """Returns the utterances of some batches, padded to a fixed number, and the batches' numbers into them."""
        numbers, local = np.unique(index, return_inverse=True)
        room = np.full(index.size + 1, self._padding, np.int32)
        room[: len(numbers)] = numbers
        return pick(self._flat, room), local.reshape(index.shape).astype(np.int32)

    def _put(self, piece: tuple[FlatSplit, np.ndarray]) -> tuple[FlatSplit, jax.Array]:
        utterances, index = piece
        return put(utterances, self._placement.everywhere), put(index, self._placement.index(index.ndim))


def _parts(index: np.ndarray, *, most: int) -> Sequence[np.ndarray]:
    """Splits batches into parts of one shape, each of at most `most` utterances, or of a single batch."""
    steps = len(index)
    each = max(n for n in range(1, steps + 1) if steps % n == 0 and (n == 1 or n * index[0].size <= most))
    return np.split(index, steps // each)


def _pad_rows(index: np.ndarray, *, multiple: int, padding: int) -> np.ndarray:
    """Adds rows of padding until the number of rows is a multiple of `multiple`."""
    widths = [(0, 0)] * index.ndim
    widths[-2] = (0, -index.shape[-2] % multiple)
    return np.pad(index, widths, constant_values=padding)


def _zeros_on_disk(shape: tuple[int, ...], dtype: DTypeLike, *, folder: Path) -> np.ndarray:
    """Returns an array of zeros in a file, of which the system keeps in memory as much as it has room for.

    The file has no name, so that it vanishes with the array, however the process ends.

    Raises:
      StorageError: the disk is full.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)  # a sparse file would end the process when the disk fills
        except OSError as error:
            raise StorageError(
                f"{folder}: there is no room for {size / 1e9:.3g} GB of streamed features ({error.strerror}); free the "
                "disk, or name a --workdir on another one"
            ) from error
        return np.memmap(file, dtype, "r+", shape=shape)
