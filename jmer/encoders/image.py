"""Runs a vision transformer over batches of pictures. Worker processes must not import it: it imports jax."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jmer.encoders import hub
from jmer.encoders.batching import batches
from jmer.encoders.encoder import Encoder
from jmer.encoders.layers import ACTIVATIONS
from jmer.encoders.opened import open_model
from jmer.encoders.running import Running
from jmer.encoders.vit import ViT, ViTConfig


class ImageEncoder(Encoder):
    """A vision transformer.

    Raises UserError, when made or first used: the model cannot be found or loaded.
    """

    def __init__(self, model: str, *, running: Running = Running()):  # noqa: B008 (it is immutable)
        """model: a directory in Hugging Face's layout, or an id on their hub."""
        opened = open_model(model, field="video.model")
        self.config = hub.parse(
            hub.read_json(opened.folder, "config.json", field="video.model"),
            ViTConfig,
            types=("vit",),
            covered={"qkv_bias": (True,), "num_channels": (3,), "hidden_act": tuple(ACTIVATIONS)},
            where=f"video.model: {opened.folder / 'config.json'}",
        )
        network, c = ViT(config=self.config, running=running), self.config
        super().__init__(opened, network, dim=c.hidden_size, layers=c.num_hidden_layers, field="video.model")

    def encode(
        self,
        images: Float[np.ndarray, "images 3 height width"],
        *,
        layers: Sequence[int],
        places: int,
        apart: bool = False,
    ) -> Float[np.ndarray, "images T D"]:
        """Encodes images.

        images: float32, resized and normalised as the model's processor does it.
        layers: the hidden states to average. 0 is the state before the first layer.
        places: the number of rows of every batch.
        apart: the states are returned side by side rather than averaged.

        Returns: float32, one vector a token, the `[CLS]` token first; K times as wide for K states that are apart.
        """
        layers, out = tuple(layers), []
        for batch in batches([1] * len(images), places=lambda _: places, exact=True):
            padded = np.zeros((places, *images.shape[1:]), images.dtype)
            padded[: len(batch.inputs)] = images[batch.inputs]
            states, _ = self.hidden(layers, apart)(self.params(max(layers)), padded)
            out.append(np.asarray(states)[: len(batch.inputs)])
        return np.concatenate(out)

    def _example(self) -> tuple[np.ndarray, ...]:
        side = self.config.image_size
        return (np.zeros((1, 3, side, side), np.float32),)
