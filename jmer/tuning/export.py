"""What fine-tuning leaves: a directory in Hugging Face's layout with all weights, or one with adapters alone.

config.json, tokenizer files, model.safetensors     of an encoder whose weights were all trained
adapter_config.json, adapter_model.safetensors      of adapters, beside a base that is named
head.safetensors                                    the heads, on the mean over an utterance's tokens
jmer.json                                           labels, and how the encoder reads a dialogue
README.md                                           the card
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

import jmer
from jmer.encoders import adapters, published
from jmer.encoders.adapters import Adapters
from jmer.encoders.opened import Note
from jmer.encoders.passages import ContextOptions
from jmer.encoders.text import TextEncoder
from jmer.tuning.classifier import ENCODER
from jmer.tuning.options import TuneOptions

HEAD = "head.safetensors"


@dataclass(frozen=True, kw_only=True)
class Card:
    """What the card of a fine-tuned encoder says of its training."""

    corpus: str
    seed: int
    dev_weighted_f1: float


def write(
    folder: Path, variables: Any, *, encoder: TextEncoder, labels: Sequence[str], options: TuneOptions, card: Card
) -> None:
    """Writes a fine-tuned encoder in place of what `folder` holds.

    Args:
      variables: of the classifier.
      encoder: the encoder that fine-tuning began with.
    """
    if folder.is_dir():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    params = variables["params"]
    context = ContextOptions(**{name: getattr(options, name) for name in ContextOptions.__dataclass_fields__})
    base = ""
    if options.rank:
        factors = _factors(variables["adapters"][ENCODER])
        given = encoder.opened.given
        located = str(Path(given).resolve()) if Path(given).is_dir() else given
        found = Adapters(base=located, scale=options.alpha / options.rank, factors=factors)
        adapters.write(folder, found, rank=options.rank)
        base = published.sha256_of_halves(params[ENCODER])  # frozen, so that they are the published ones
    else:
        for file in encoder.opened.folder.iterdir():
            if file.suffix in (".json", ".txt", ".model") and not file.name.endswith(".index.json"):
                shutil.copy(file, folder / file.name)
        published.save(folder / "model.safetensors", params[ENCODER], like=encoder.opened.folder)
    heads = {
        f"{name}.{leaf}": np.ascontiguousarray(x, np.float32)
        for name, head in params.items()
        if name != ENCODER
        for leaf, x in head.items()
    }
    save_file(heads, folder / HEAD)
    Note(labels=tuple(labels), context=context, base_sha256=base).write(folder)
    (folder / "README.md").write_text(_card(encoder, labels, options, card), encoding="utf-8")


def _factors(tree: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns the factors of each adapted kernel, by the kernel's published name."""
    named = published.named(tree)
    stems = [name.removesuffix(".first") for name in named if name.endswith(".first")]
    return {
        f"{stem}.weight": (np.asarray(named[f"{stem}.first"][1]), np.asarray(named[f"{stem}.second"][1]))
        for stem in stems
    }


def _card(encoder: TextEncoder, labels: Sequence[str], options: TuneOptions, card: Card) -> str:
    """Returns the card, in Markdown."""
    how = f"adapters of rank {options.rank}" if options.rank else "all weights"
    reads = {-1: "the whole dialogue", 0: "its own utterance alone"}.get(
        options.context, f"{options.context} turns around its utterance"
    )
    return f"""# {Path(encoder.opened.given).name}, fine-tuned by jmer {jmer.__version__}

| | |
|---|---|
| base | {encoder.opened.given} |
| trained | {how}, on the train split of {card.corpus}, seed {card.seed} |
| classes | {", ".join(labels)} |
| a token reads | {reads}{", no later turns" if options.causal else ""} |
| a turn begins with | {options.speakers} |
| weighted F1 on dev, which chose the epoch and the seed | {card.dev_weighted_f1:.4f} |

The licences of the base and of the corpus hold for these weights as well. `{HEAD}` maps the mean of the last hidden
state over an utterance's tokens to the logits of the classes.

    python -m jmer.extract --config extract/hf --config.source={options.source} --config.text.model=THIS_DIRECTORY
"""
