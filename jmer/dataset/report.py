"""The report of an extraction: what is noted of every dialogue, for the manifest and for the table that is printed."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from jmer.base.types import MODALITIES
from jmer.dataset.manifest import MANIFEST
from jmer.features.engine import Extraction
from jmer.features.extractor import Extractor
from jmer.features.results import row_of

_REASONS_SHOWN = 20


class Tally:
    """Notes what the manifest says of the dialogues, one after the other.

    rows: the manifest's entry of each utterance.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []
        self._absences: dict[str, Counter[str]] = {modality: Counter() for modality in MODALITIES}
        self._remarks: dict[str, Counter[str]] = {modality: Counter() for modality in MODALITIES}
        self._lost: Counter[tuple[str, str, str]] = Counter()  # features that a view lacks and its original has

    def add(self, done: Extraction, view_splits: Sequence[str]) -> None:
        """Notes a dialogue.

        Args:
          view_splits: names of the splits of views, in their order.
        """
        for utterance, results in zip(done.dialogue.utterances, done.results, strict=True):
            status, reason = row_of(utterance, results)
            where = {"split": done.split, "dialogue": done.dialogue.id, "utterance": utterance.id}
            self.rows.append(where | {"status": status, "reason": reason})
            for modality, result in results.items():
                if result.vector is None:
                    self._absences[modality][result.reason] += 1
                elif result.status == "ok" and result.reason:
                    self._remarks[modality][result.reason] += 1
        for split, of_view in zip(view_splits, done.views, strict=False):  # dialogues of other splits have no views
            for original, results in zip(done.results, of_view, strict=True):
                for modality, result in results.items():
                    if result.vector is None and original[modality].vector is not None:
                        self._lost[split, modality, result.reason] += 1

    def describe(self, modality: str, extractor: Extractor | None) -> dict[str, Any]:
        """Returns the manifest's entry of a modality; a modality that no utterance has is absent."""
        reason, absences = f"switched off by {modality}.model=none", self._absences[modality]
        if extractor is not None and absences.total() == len(self.rows):
            common = ", ".join(f"{reason} ({n})" for reason, n in absences.most_common(3))
            extractor, reason = None, f"no utterance has it: {common}"
        if extractor is None:
            return {"dim": 0, "extractor": None, "fingerprint": "", "reason": reason}
        described = {"dim": extractor.dim, "extractor": extractor.spec, "fingerprint": extractor.fingerprint}
        described |= {"states": extractor.states} if extractor.states > 1 else {}
        return described | {"reason": "", "remarks": dict(sorted(self._remarks[modality].items()))}

    def notes(self) -> list[str]:
        """Returns a note on each kind of loss: utterances that have a modality, but not in an augmented view."""
        return [
            f"{split}: {n} utterances, augmented, lack {modality}: {reason}"
            for (split, modality, reason), n in self._lost.items()
        ]


def show(manifest: Mapping[str, Any], *, told: Sequence[str] = ()) -> None:
    """Prints the notes, the modalities, the rows of each split by status, and the most frequent reasons.

    told: notes that the user has been told already.
    """
    for note in manifest["notes"]:
        if note not in told:
            print(f"note: {note}")
    for modality, described in manifest["modalities"].items():
        holds = f"{described['dim']} features" if described["dim"] else f"absent: {described['reason']}"
        print(f"{modality}: {holds}")
        for remark, n in sorted(described.get("remarks", {}).items(), key=lambda item: -item[1]):
            print(f"  {n} x {remark}")
    if manifest["views"]:
        print(f"views: {manifest['views']} of train, {' and '.join(manifest['augmentation'])} augmented")
    _show_rows(manifest["rows"])
    _show_reasons(manifest["rows"])
    print()


def _show_rows(rows: Sequence[Mapping[str, str]]) -> None:
    print(f"\n{'split':8}{'ok':>8}{'degraded':>10}{'failed':>8}{'rows':>8}")
    for split in [*dict.fromkeys(row["split"] for row in rows), "all"]:
        counts = Counter(row["status"] for row in rows if split in (row["split"], "all"))
        print(f"{split:8}{counts['ok']:8}{counts['degraded']:10}{counts['failed']:8}{counts.total():8}")


def _show_reasons(rows: Sequence[Mapping[str, str]]) -> None:
    """Prints reasons that differ only in their figures as one, with an example."""
    kinds: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for row in rows:
        if row["reason"]:
            kinds.setdefault((row["status"], re.sub(r"\d+", "0", row["reason"])), []).append(row)
    for (status, _), group in sorted(kinds.items(), key=lambda item: -len(item[1]))[:_REASONS_SHOWN]:
        example = f"{group[0]['split']} {group[0]['utterance']}: {group[0]['reason']}"
        print(f"{status:>8} {len(group):5} x {'' if len(group) == 1 else 'like '}{example}")
    if len(kinds) > _REASONS_SHOWN:
        print(f"{len(kinds) - _REASONS_SHOWN} more reasons are in the rows of {MANIFEST}")
