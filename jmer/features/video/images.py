"""Pictures as a published vision model reads them, by its preprocessor_config.json.

Pictures are resized by Pillow, as in Hugging Face's image processors.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from jmer.base.errors import UserError


class Processing(NamedTuple):
    """How a model wants its pictures.

    height, width: size of a picture for the model, in pixels.
    edge: the length to which a picture's shorter side is resized before the middle is cut out; None where a picture is
      resized to height and width without regard to its shape.
    resample: number of Pillow's resampling filter.
    mean, std: of each channel, for pixels from 0 to 1.
    """

    height: int
    width: int
    edge: int | None
    resample: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def parse(settings: Mapping[str, Any], *, where: object) -> Processing:
    """Returns what the content of a preprocessor_config.json says.

    Args:
      where: the file, for the messages.

    Raises:
      UserError: the size is missing, or pixels are to be scaled otherwise than to 0 ... 1.
    """
    size = settings.get("size")
    size = {"height": size, "width": size} if isinstance(size, int) else size
    edge = None
    if isinstance(size, Mapping) and "shortest_edge" in size:
        edge, size = size["shortest_edge"], settings.get("crop_size", size["shortest_edge"])
        size = {"height": size, "width": size} if isinstance(size, int) else size
    if not isinstance(size, Mapping) or not {"height", "width"} <= set(size):
        raise UserError(f"{where}: size is {settings.get('size')!r}; expected height and width; fetch the model again")
    if abs(settings.get("rescale_factor", 1 / 255) - 1 / 255) > 1e-6 or not settings.get("do_rescale", True):
        raise UserError(f"{where}: pixels are not scaled to 0 ... 1; jmer covers no other range")
    normalised = settings.get("do_normalize", True)
    mean, std = (settings.get(name) or default for name, default in (("image_mean", 0.5), ("image_std", 0.5)))
    three = [tuple(x) if isinstance(x, list | tuple) else (x,) * 3 for x in ((mean, std) if normalised else (0.0, 1.0))]
    return Processing(size["height"], size["width"], edge, settings.get("resample", 2), three[0], three[1])


def resized(
    frames: UInt8[np.ndarray, "F height width 3"], processing: Processing
) -> UInt8[np.ndarray, "F {processing.height} {processing.width} 3"]:
    """Returns RGB frames at the size that the model wants."""
    pictures = []
    for frame in frames:
        picture = Image.fromarray(frame)
        if processing.edge is None:
            picture = picture.resize((processing.width, processing.height), Image.Resampling(processing.resample))
        else:
            ratio = processing.edge / min(picture.size)
            width, height = (
                processing.edge if side == min(picture.size) else int(side * ratio) for side in picture.size
            )
            picture = picture.resize((width, height), Image.Resampling(processing.resample))
            left, top = (width - processing.width) // 2, (height - processing.height) // 2
            picture = picture.crop((left, top, left + processing.width, top + processing.height))
        pictures.append(np.asarray(picture))
    return np.stack(pictures)


def normalised(
    pictures: UInt8[np.ndarray, "K height width 3"], processing: Processing
) -> Float32[np.ndarray, "K 3 height width"]:
    """Returns RGB pictures with pixels standardised for each channel, as the model reads them."""
    scaled = pictures.astype(np.float32) / 255
    scaled = (scaled - np.array(processing.mean, np.float32)) / np.array(processing.std, np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
