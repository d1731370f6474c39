"""Releases of the libraries that decide features, for the key of the cache."""

import functools
from importlib import metadata


@functools.cache
def release(library: str) -> str:
    """Returns major and minor version of an installed package, such as `1.0`. Patches are taken to change nothing.

    Args:
      library: the package's name on the registry, or `opencv` for whichever of OpenCV's packages is installed.
    """
    if library == "opencv":
        import cv2

        version = cv2.__version__
    else:
        version = metadata.version(library)
    return ".".join(version.split(".")[:2])
