"""The inputs of an utterance: which modalities need no work, what a text extractor reads, and the key for the cache."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jmer.base.errors import UserError
from jmer.base.types import Dialogue, Extracted, Heard, Turn, Utterance
from jmer.features.extractor import Extractor


def without_work(
    utterance: Utterance, extractors: Mapping[str, Extractor], dims: Mapping[str, int], *, where: str
) -> tuple[dict[str, Extracted], list[str]]:
    """Returns results of the modalities that are ready or absent, and the names of the modalities to extract.

    Args:
      extractors: by modality.
      dims: modality -> D, of the modalities in use.
      where: the dialogue, for the messages.

    Raises:
      UserError: ready features are of another width, not finite, or of a modality that is not in use.
    """
    if unused := sorted(set(utterance.features) - set(dims)):
        raise UserError(
            f"{where} {utterance.id}: ready {unused[0]} features, but {unused[0]} is not used; leave them out"
        )
    results, todo = {}, []
    for modality, dim in dims.items():
        ready = utterance.features.get(modality)
        if ready is not None:
            ready = np.asarray(ready, np.float32)
            if ready.shape != (dim,) or not np.isfinite(ready).all():
                raise UserError(
                    f"{where} {utterance.id}: ready {modality} features have shape {list(ready.shape)}; "
                    f"expected [{dim}], all finite"
                )
            results[modality] = Extracted(vector=ready, sequence=utterance.sequences.get(modality))
        elif modality not in extractors:
            results[modality] = Extracted(vector=None, reason="no ready features")
        elif modality == "text" and not utterance.text.strip():
            results[modality] = Extracted(vector=None, reason="no text")
        elif modality != "text" and utterance.clip is None:
            results[modality] = Extracted(vector=None, reason="no clip")
        else:
            todo.append(modality)
    return results, todo


def heard(dialogue: Dialogue, index: int, extractor: Extractor) -> list[Turn] | Heard:
    """Returns what a text extractor reads of an utterance.

    An extractor that reads the dialogue is given all turns; any other is given the earlier turns that it wants, and the
    utterance's own.
    """
    if extractor.reads_dialogue:
        return Heard(tuple(Turn(u.speaker, u.text) for u in dialogue.utterances), index)
    turns = dialogue.utterances[max(0, index - extractor.turns_before) : index + 1]
    return [Turn(u.speaker, u.text) for u in turns]


def cache_key(dialogue: Dialogue, index: int, extractor: Extractor, *, digests: Mapping[Path, str]) -> str | None:
    """Returns the hash of an extractor's input, in hexadecimal; None where the content of the clip is not known.

    Args:
      digests: SHA-256 of each clip that an extractor reads; empty where the clip could not be read to be hashed.
    """
    utterance = dialogue.utterances[index]
    if extractor.modality == "text":
        content = ["text", utterance.text]
        if extractor.reads_dialogue:
            content = ["dialogue", *heard(dialogue, index, extractor)]
        elif extractor.turns_before:  # an extractor with a context may also read the speakers' names
            content = ["turns", *heard(dialogue, index, extractor)]
    else:
        digest = digests[utterance.clip] if utterance.clip else ""
        if not digest:
            return None
        content = ["clip", digest, utterance.max_seconds]  # a clip beyond the limit is not decoded
        if utterance.start is not None:
            content += [utterance.start, utterance.end]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
