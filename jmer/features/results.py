"""The results of a dialogue's utterances: their features stacked, and the status of each row."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from jmer.base.errors import UserError
from jmer.base.labels import SENTIMENTS, check_label
from jmer.base.types import UNLABELLED, Dialogue, Extracted, Features, Status, Utterance


def features_of(
    dialogue: Dialogue,
    results: Sequence[Mapping[str, Extracted]],
    *,
    dims: Mapping[str, int],
    sequence_dims: Mapping[str, int] = MappingProxyType({}),
    labels: Sequence[str],
) -> Features:
    """Stacks the results of a dialogue's utterances.

    Args:
      results: of each utterance, by modality.
      dims: modality -> D; modalities that are not among them are left out.
      sequence_dims: modality -> D' of the modalities whose sequences are kept.
      labels: the label set; only needed where utterances have labels.

    Raises:
      UserError: a label or a sentiment is unknown.
    """
    values = {m: np.zeros((len(results), dim), np.float32) for m, dim in dims.items()}
    present = {m: np.zeros(len(results), np.bool_) for m in dims}
    for i, result in enumerate(results):
        for modality in dims:
            vector = result[modality].vector
            if vector is not None:
                values[modality][i] = vector
                present[modality][i] = True
    sequences = {
        m: tuple(np.zeros((0, dim), np.float16) if (s := r[m].sequence) is None else s for r in results)
        for m, dim in sequence_dims.items()
    }
    return Features(
        dialogue_id=dialogue.id,
        utterance_ids=tuple(u.id for u in dialogue.utterances),
        speakers=tuple(u.speaker for u in dialogue.utterances),
        texts=tuple(u.text for u in dialogue.utterances),
        labels=np.array([_class(u, labels, where=dialogue.id) for u in dialogue.utterances], np.int32),
        sentiments=np.array([_sentiment(u, where=dialogue.id) for u in dialogue.utterances], np.int32),
        values=values,
        present=present,
        sequences=sequences,
    )


def row_of(utterance: Utterance, results: Mapping[str, Extracted]) -> tuple[Status, str]:
    """Returns the status of an utterance, the worst of its modalities, and the reasons for it.

    `failed`: an input that the row names could not be read, or the row has nothing to extract. `degraded`: an input
    could only be read in part. A modality that is absent by nature (no clip named, no text, sound only) leaves the row
    `ok`. The notes of the utterance's source are among the reasons.
    """
    statuses = {result.status for result in results.values()}
    missing = [f"clip missing: {utterance.missing_clip}"] if utterance.missing_clip else []
    nothing = statuses <= {"ok"} and not missing and all(result.vector is None for result in results.values())
    status: Status = "ok"
    if missing or nothing or "failed" in statuses:
        status = "failed"
    elif "degraded" in statuses:
        status = "degraded"
    modalities: dict[str, list[str]] = {}  # by reason, since the reason of a clip holds for both of its tracks
    for modality, result in results.items():
        if result.status != "ok":
            modalities.setdefault(result.reason, []).append(modality)
    reasons = [*utterance.notes, *missing, *(f"{', '.join(names)}: {reason}" for reason, names in modalities.items())]
    return status, "; ".join(reasons + ["nothing to extract"] * nothing)


def _class(utterance: Utterance, labels: Sequence[str], *, where: str) -> int:
    if utterance.label is None:
        return UNLABELLED
    return labels.index(check_label(utterance.label, labels, where=f"{where} {utterance.id}"))


def _sentiment(utterance: Utterance, *, where: str) -> int:
    if utterance.sentiment is None:
        return UNLABELLED
    if utterance.sentiment not in SENTIMENTS:
        raise UserError(
            f"{where} {utterance.id}: sentiment is '{utterance.sentiment}'; expected {', '.join(SENTIMENTS)} or none"
        )
    return SENTIMENTS.index(utterance.sentiment)
