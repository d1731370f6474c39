"""Multimodal emotion recognition in conversation, compiled with JAX."""

from typing import TYPE_CHECKING, Any

from jmer.base.errors import UserError
from jmer.base.types import Dialogue, Prediction, Utterance

if TYPE_CHECKING:
    from jmer.runs.predictor import Predictor, load

__all__ = ["Dialogue", "Prediction", "Predictor", "UserError", "Utterance", "load"]


def __getattr__(name: str) -> Any:
    """Imports `load` and `Predictor` on first use: they need JAX, which a decoding worker must not import."""
    if name in ("Predictor", "load"):
        from jmer.runs import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module 'jmer' has no attribute '{name}'")
