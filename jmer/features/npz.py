"""Reads the arrays of an npz archive without unpickling, and without unpacking a bomb."""

import zipfile

import numpy as np

from jmer.base.errors import UserError

# What any array may take; a larger one must not unpack to more than so many times its packed bytes. The features of an
# utterance are far smaller, and word vectors hardly compress. Zeros compress a thousand times.
_FREE, _MOST_RATIO = 256 << 20, 20


def read_array(archive: zipfile.ZipFile, member: str, *, where: str) -> np.ndarray:
    """Returns an array of an archive.

    Args:
      where: the array, for the message of a `UserError`.

    Raises:
      UserError: the array unpacks to more than jmer reads.
      Exception: zipfile and numpy raise exceptions of many kinds on damaged bytes, and numpy one on Python objects.
    """
    info = archive.getinfo(member)
    most = max(_FREE, _MOST_RATIO * info.compress_size)
    if info.file_size > most:
        raise UserError(
            f"{where}: {info.compress_size:,} bytes unpack to {info.file_size:,}, which is more than jmer reads "
            f"({most:,}); save the array by numpy.savez, which does not compress"
        )
    with archive.open(member) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)
