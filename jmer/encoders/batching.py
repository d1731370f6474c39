"""Batches for compiled encoders: of like length and of few shapes, as each shape is compiled once."""

from collections.abc import Callable, Iterator, Sequence


def batches(
    lengths: Sequence[int], *, places: Callable[[int], int], exact: bool
) -> Iterator[tuple[int, int, list[int]]]:
    """Yields (padded length, places, which inputs), until every input has come once; the longest come first.

    Args:
      lengths: the padded length of each input; those of one batch have the same.
      places: padded length -> how many places its batches have.
      exact: batches are never smaller; otherwise the last one of a length has as few places as will do, a power of two
        or all. Compiled products round otherwise in other shapes, so that without it the last digits of what comes of
        an input depend on how many others there are.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    while order:
        length = lengths[order[0]]
        size = places(length)
        batch = [i for i in order[:size] if lengths[i] == length]
        order = order[len(batch) :]
        yield length, size if exact else min(size, 1 << (len(batch) - 1).bit_length()), batch
