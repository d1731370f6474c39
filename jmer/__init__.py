"""Multimodal emotion recognition in conversation, compiled with JAX."""

from typing import TYPE_CHECKING, Any

from jmer.errors import UserError
from jmer.types import Dialogue, Prediction, Utterance

if TYPE_CHECKING:
    from jmer.predict import Predictor, load

__all__ = ["Dialogue", "Prediction", "Predictor", "UserError", "Utterance", "load"]


def __getattr__(name: str) -> Any:
    """Imports what needs jax when it is first asked for: decoding workers import `jmer` too, and never need it."""
    if name in ("Predictor", "load"):
        from jmer import predict

        return getattr(predict, name)
    raise AttributeError(f"module 'jmer' has no attribute '{name}'")
