"""What fine-tuning leaves: a directory in Hugging Face's layout with all weights, or one with adapters alone.

config.json, tokenizer files, model.safetensors     of an encoder whose weights were all trained
adapter_config.json, adapter_model.safetensors      of adapters, beside a base that is named
head.safetensors                                    the heads, on the mean over an utterance's tokens; of the linear
                                                    term, on those of all hidden states end to end
jmer.json                                           labels, and how the encoder reads a dialogue
README.md                                           the card
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

import jmer
from jmer.encoders import adapters, published
from jmer.encoders.adapters import Adapters
from jmer.encoders.encoder import Encoder
from jmer.tuning.classifier import ENCODER
from jmer.tuning.material import Material
from jmer.tuning.options import TuneOptions

HEAD = "head.safetensors"


@dataclass(frozen=True, kw_only=True)
class Card:
    """What the card of a fine-tuned encoder says of its training.

    dev_weighted_f1: which chose the epoch and the seed; None where the last epoch was kept.
    """

    corpus: str
    seed: int
    dev_weighted_f1: float | None


def write(
    folder: Path, variables: Any, *, material: Material, labels: Sequence[str], options: TuneOptions, card: Card
) -> None:
    """Writes a fine-tuned encoder in place of what `folder` holds.

    Args:
      variables: of the classifier.
      material: the encoder that fine-tuning began with, and how it reads.
    """
    if folder.is_dir():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    params, encoder, base = variables["params"], material.encoder, ""
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
    heads = {name: _on_raw_vectors(head, variables["stats"]) for name, head in params.items() if name != ENCODER}
    save_file({f"{name}.{leaf}": x for name, head in heads.items() for leaf, x in head.items()}, folder / HEAD)
    replace(material.note(labels), base_sha256=base).write(folder)
    (folder / "README.md").write_text(_card(material, labels, options, card), encoding="utf-8")


def _on_raw_vectors(head: Any, stats: Any) -> dict[str, np.ndarray]:
    """Returns a head for vectors as they are pooled, given one for standardised vectors.

    A head without a bias, the linear term over all hidden states, reads vectors as they are pooled already.
    """
    if "bias" not in head:
        return {"kernel": np.ascontiguousarray(head["kernel"], np.float32)}
    kernel = np.asarray(stats["scale"])[:, None] * np.asarray(head["kernel"])
    bias = np.asarray(head["bias"]) - np.asarray(stats["mean"]) @ kernel
    return {"kernel": np.ascontiguousarray(kernel, np.float32), "bias": np.ascontiguousarray(bias, np.float32)}


def _factors(tree: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns the factors of each adapted kernel, by the kernel's published name."""
    named = published.named(tree)
    stems = [name.removesuffix(".first") for name in named if name.endswith(".first")]
    return {
        f"{stem}.weight": (np.asarray(named[f"{stem}.first"][1]), np.asarray(named[f"{stem}.second"][1]))
        for stem in stems
    }


def _card(material: Material, labels: Sequence[str], options: TuneOptions, card: Card) -> str:
    """Returns the card, in Markdown."""
    encoder: Encoder = material.encoder
    rows = {
        "base": encoder.opened.given,
        "trained": f"{f'adapters of rank {options.rank}' if options.rank else 'all weights'}, on the train split of "
        f"{card.corpus}, seed {card.seed}",
        "classes": ", ".join(labels),
        "hidden state of the head": f"{material.layer} of {encoder.layers}",
    }
    if material.modality == "text":
        reads = {-1: "the whole dialogue", 0: "its own utterance alone"}.get(
            options.context, f"{options.context} turns around its utterance"
        )
        rows["a token reads"] = reads + (", no later turns" if options.causal else "")
        rows["a turn begins with"] = options.speakers
    if card.dev_weighted_f1 is not None:
        rows["weighted F1 on dev, which chose the epoch and the seed"] = f"{card.dev_weighted_f1:.4f}"
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    extract = f"--config extract/hf --config.source={options.source} --config.{material.modality}.model=THIS_DIRECTORY"
    pooled = "an utterance's tokens" if material.modality == "text" else "the frames of a sound"
    return f"""# {Path(encoder.opened.given).name}, fine-tuned by jmer {jmer.__version__}

| | |
|---|---|
{table}

The licences of the base and of the corpus hold for these weights as well. `{HEAD}` maps the mean of the hidden state
over {pooled} to the logits of the classes.

    python -m jmer.extract {extract}
"""
