"""The model that jmer ships: an expert of text, one of speech and one of faces (`jmer/runs/starter_files/README.md`).

The encoders of text and of speech are not part of jmer. They are fetched from the Hugging Face hub, or lie in the
folder that $JMER_ENCODERS names. `benchmarks/starter.py` trains the experts and writes these files:

    starter.json         labels; classes, weight and extractor of each expert, and the hash of its encoder
    starter.safetensors  kernel, bias and prior of each expert
    text/                adapters beside the encoder of text, as `jmer.finetune` leaves them
    README.md            the card
"""

import functools
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from jmer.base.errors import UserError
from jmer.features import registry
from jmer.features.extractor import Extractor
from jmer.features.summary import PooledLayers
from jmer.runs.experts import Expert, Experts

_log = logging.getLogger(__name__)

NAME = "starter"
FOLDER = Path(__file__).parent / "starter_files"


def open_starter(folder: Path = FOLDER) -> Experts:
    """Opens the experts. An encoder is only looked for when its modality is read."""
    described = json.loads((folder / "starter.json").read_text(encoding="utf-8"))
    arrays = load_file(folder / "starter.safetensors")
    experts = {
        modality: Expert(
            build=functools.partial(build, modality, of, folder),
            classes=tuple(of["classes"]),
            weight=of["weight"],
            **{name: arrays[f"{modality}.{name}"] for name in ("kernel", "bias", "prior")},
        )
        for modality, of in described["experts"].items()
    }
    return Experts(experts, labels=described["labels"])


def build(modality: str, described: Mapping[str, Any], folder: Path) -> Extractor:
    """Makes the extractor of an expert.

    Args:
      described: the expert in starter.json.
      folder: of the starter, in which a model that begins with `./` lies.

    Raises:
      UserError: its encoder is not to be found, or is not the one that the expert was trained on.
    """
    options = dict(described["options"])
    if options["model"].startswith("./"):
        options["model"] = str(folder / options["model"])
    extractor = registry.from_options(modality, registry.options_of(modality)(**options), sequence_frames=0)
    assert extractor is not None
    _ = extractor.dim  # looks for the encoder
    expected = described.get("sha256_of_halves")
    if expected and isinstance(extractor, PooledLayers) and extractor.sha256_of_halves != expected:
        raise UserError(
            f"the weights of {options['model']} are not those that the starter was trained on; fetch the encoder again"
        )
    if isinstance(extractor, PooledLayers) and extractor.is_in_halves:
        _log.info(f"{extractor.encoder_folder} holds a copy in half precision, not the published bytes")
    return extractor
