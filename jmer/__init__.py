"""Multimodal emotion recognition in conversation, compiled with JAX.

The folders are layers. Data flows through them from top to bottom, and a module imports only from its own folder and
from the folders above it. tests/test_imports.py reads the order from this list:

    base        errors, files, paths, options, the command line, and the values that flow through jmer
    media       clips in, frames and 16 kHz waveforms out; faces in the frames
    corpora     tables and archives in, dialogues out
    encoders    Flax networks that read published checkpoints
    features    dialogues in, features out: extractors, their registry, workers and cache
    dataset     features in, packed dataset directories out, and batches of them
    graph       graphs over speakers and utterances, and propagation on any graph
    nn          encoders, graph layers, fusion, and the model that they make up
    training    losses, optimiser, sampling, metrics, devices, checkpoints
    pages       HTML pages that need nothing else: timelines and reports
    runs        the run directory, training into it, prediction and reports from it
    serve       the page of jmer.demo: uploads in, timelines out
    tuning      fine-tuning of encoders on dialogues
    config      the defaults that a training config begins with

The other modules at the top are commands. `python -m jmer.train` and `jmer train` are the same command, and no module
imports a command.
"""

from typing import TYPE_CHECKING, Any

from jmer.base import jaxsetup
from jmer.base.errors import UserError
from jmer.base.types import Dialogue, Prediction, Utterance

if TYPE_CHECKING:
    from jmer.runs.predictor import Predictor, load

__version__ = "0.1.0"
__all__ = ["Dialogue", "Prediction", "Predictor", "UserError", "Utterance", "__version__", "load"]

jaxsetup.mend_cpu_fusion()


def __getattr__(name: str) -> Any:
    """Imports `Predictor` and `load` when they are first asked for.

    Both need JAX. Decoding workers and the parsing of arguments import `jmer` too and must not wait for JAX.
    """
    if name in ("Predictor", "load"):
        from jmer.runs import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module 'jmer' has no attribute '{name}'")
