"""From the frames of an utterance (tokens, sound frames, faces) to its vector. Padding is never among the frames."""

import abc
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float16

from jmer.base.errors import UserError
from jmer.base.options import names_in, option
from jmer.base.types import PRECISIONS
from jmer.encoders.running import Running
from jmer.features.extractor import FILE, Encoded, Extractor

ALL = "all"  # the value of `layers` that keeps every hidden state
_LAST = "-1"
_PRECISION = "float32"

_LARGEST = np.finfo(np.float16).max


def pooling_option(*known: str) -> Any:
    """Declares the option `pooling` of an extractor that has these poolings, out of `mean`, `std` and `cls`."""
    return option(
        "mean",
        "Statistics over the frames that make the vector, in this order; cls is the first token of a text.",
        choices=known,
        names=True,
        fits=lambda text: bool(names_in(text)),
        expected="at least one, such as mean",
    )


@dataclass(frozen=True, kw_only=True)
class Pooled(Extractor):
    """An extractor whose vector pools the frames of its sequence, by the option `pooling`."""

    pooling: str = pooling_option("mean", "std")

    @property
    def poolings(self) -> tuple[str, ...]:
        """The chosen poolings in their order."""
        return names_in(self.pooling)

    @property
    def dim(self) -> int:
        return self.frame_dim * len(self.poolings)

    def pooled(self, frames: Float[np.ndarray, "T ..."], *, cls: Float[np.ndarray, "..."] | None = None) -> Encoded:
        """Returns `encoded` by the extractor's own options."""
        return encoded(frames, pooling=self.poolings, sequence_frames=self.sequence_frames, cls=cls)


@dataclass(frozen=True, kw_only=True)
class PooledLayers(Pooled):
    """A `Pooled` extractor of some hidden states of a published encoder.

    model: a directory in Hugging Face's layout, or an id on their hub.
    """

    model: str = field(metadata=FILE)
    layers: str = option(
        _LAST,
        "Hidden states of an encoder, comma-separated, whose mean is taken; 0 is before the first layer, -1 the last. "
        "With all, the vector holds every hidden state, and the model learns their weights.",
        fits=lambda text: text == ALL or _layer_numbers(text) is not None,
        expected="layers such as -1 or 4,5,6, or all",
    )
    precision: str = option(_PRECISION, "Type of the factors of an encoder's matrix products.",
                            choices=PRECISIONS)  # fmt: skip

    named_by = "a directory or hub id"

    @classmethod
    def reads(cls, model: str) -> bool:
        return True

    def check(self) -> None:
        if self.layers == ALL and self.sequence_frames:
            raise UserError(
                f"config.{self.modality}.layers is {ALL}, and config.sequence_frames is {self.sequence_frames}; only a "
                "vector holds several hidden states, so leave one of the two out"
            )

    @abc.abstractmethod
    def _load_encoder(self) -> Any:
        """Returns the encoder with its weights; its module imports JAX.

        The encoder has `dim`, D of a hidden state; `layers`, how many hidden states follow the one before the first
        layer; `opened`, its files; and `sha256`, their hash.
        """

    @property
    def spec(self) -> dict[str, Any]:
        """JSON as of every extractor. It was written before there was a `precision`, so the default is left out."""
        spec = super().spec
        if self.precision == _PRECISION:
            del spec["options"]["precision"]
        return spec

    @property
    def _running(self) -> Running:
        """How the encoder is run."""
        return Running(precision=self.precision)

    @functools.cached_property
    def _encoder(self) -> Any:
        return self._load_encoder()

    @functools.cached_property
    def _layers(self) -> tuple[int, ...]:
        """The layers in use. The last one of an encoder that jmer fine-tuned is the one that its head reads."""
        if self.layers == _LAST and self._encoder.opened.note:
            return (self._encoder.opened.note.layer,)
        return chosen_layers(self.layers, self._encoder.layers, field=f"config.{self.modality}.layers")

    @property
    def _wanted(self) -> dict[str, Any]:
        """The arguments by which an encoder is asked for its hidden states."""
        return {"layers": self._layers, "apart": self.layers == ALL}

    @property
    def states(self) -> int:
        return len(self._layers) if self.layers == ALL else 1

    @property
    def dim(self) -> int:
        return self.states * super().dim

    @property
    def frame_dim(self) -> int:
        return self._encoder.dim

    def pooled(
        self, frames: Float[np.ndarray, "T D_states"], *, cls: Float[np.ndarray, " D_states"] | None = None
    ) -> Encoded:
        """Returns `encoded`; where the frames hold several states, each state is pooled by itself."""
        shape = (self.states, self.frame_dim) if self.layers == ALL else (self.frame_dim,)
        return super().pooled(frames.reshape(-1, *shape), cls=None if cls is None else cls.reshape(shape))

    @property
    def weights(self) -> str:
        return self._encoder.sha256

    @property
    def sha256_of_halves(self) -> str:
        """The hash of the encoder's published weights, rounded to float16: a copy in half precision has the same."""
        return self._encoder.sha256_of_halves

    @property
    def encoder_folder(self) -> Path:
        """The directory of the encoder's weights."""
        return self._encoder.opened.folder

    @property
    def is_in_halves(self) -> bool:
        """Whether the encoder's published weights lie there as a copy in half precision."""
        return self._encoder.is_in_halves

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the encoder out of what is sent to a worker process."""
        return {name: value for name, value in self.__dict__.items() if name != "_encoder"}


def chosen_layers(chosen: str, count: int, *, field: str) -> tuple[int, ...]:
    """Returns the layers that a choice such as `-1`, `4,5,6` or `all` names; 0 is before the first, `count` the last.

    Raises:
      UserError: the encoder has no such layer.
    """
    if chosen == ALL:
        return tuple(range(count + 1))
    numbers = _layer_numbers(chosen) or [count + 1]
    if not all(-count - 1 <= number <= count for number in numbers):
        raise UserError(
            f"{field} is {chosen}; expected layers from 0 (before the first) to {count}, -1 for the last one, or "
            "several, comma-separated, whose mean is taken"
        )
    return tuple(number % (count + 1) for number in numbers)


def _layer_numbers(text: str) -> list[int] | None:
    """Returns the whole numbers in a comma-separated list; None where the list is empty or holds anything else."""
    try:
        return [int(name) for name in names_in(text)] or None
    except ValueError:
        return None


def encoded(
    frames: Float[np.ndarray, "T ..."],
    *,
    pooling: Sequence[str],
    sequence_frames: int,
    cls: Float[np.ndarray, "..."] | None = None,
) -> Encoded:
    """Pools frames, at least one, into a vector, and keeps a shortened sequence of them if one is wanted.

    Args:
      frames: `[T, D']`, or `[T, K, D']` for K hidden states, whose vectors then lie end to end.
      pooling: names out of `mean`, `std` and `cls`; the vector joins their results in this order.
      sequence_frames: the most frames of the sequence; 0 for no sequence.
      cls: `[D']` or `[K, D']`, the result of the pooling of that name.
    """
    frames = np.asarray(frames, np.float32)
    statistics = {"mean": lambda: frames.mean(axis=0), "std": lambda: frames.std(axis=0), "cls": lambda: cls}
    vector = np.concatenate([statistics[name]() for name in pooling], axis=-1).reshape(-1)
    return Encoded(vector, shortened(frames, sequence_frames) if sequence_frames else None)


def shortened(frames: Float[np.ndarray, "T D_frame"], limit: int) -> Float16[np.ndarray, "T_kept D_frame"]:
    """Returns at most `limit` frames: the means of as many parts, whose lengths differ by a frame at the most."""
    if len(frames) > limit:
        edges = np.linspace(0, len(frames), limit + 1).round().astype(int)
        frames = np.add.reduceat(frames, edges[:-1], axis=0) / np.diff(edges)[:, None]
    return np.clip(frames, -_LARGEST, _LARGEST).astype(np.float16)
