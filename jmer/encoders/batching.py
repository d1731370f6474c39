"""Groups inputs into batches of equal padded length, so that few programs are compiled: one for each batch shape."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple


class Group(NamedTuple):
    """One batch.

    length: the padded length of its inputs.
    places: the number of its rows. It may exceed the number of inputs; the rest of the rows is padding.
    inputs: positions of its inputs in the sequence that was grouped.
    """

    length: int
    places: int
    inputs: list[int]


def batches(lengths: Sequence[int], *, places: Callable[[int], int], exact: bool) -> Iterator[Group]:
    """Yields batches until every input has been in one. Batches of the greatest length come first.

    lengths: the padded length of each input. The inputs of one batch have the same.
    places: the number of rows of a full batch, by padded length.
    exact: always use as many rows as a full batch has, so that an input's result is bit-identical in any company.
      Otherwise the last batch of a length has the next power of 2 of rows, which costs less. Compiled products round
      differently in each shape, so a result then depends on the number of other inputs in its last digits.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    while order:
        length = lengths[order[0]]
        full = places(length)
        inputs = [i for i in order[:full] if lengths[i] == length]
        order = order[len(inputs) :]
        rows = full if exact else min(full, 1 << (len(inputs) - 1).bit_length())
        yield Group(length=length, places=rows, inputs=inputs)
