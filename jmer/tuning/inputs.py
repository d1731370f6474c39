"""What fine-tuning begins with, as `features.json` of its run records it."""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jmer.base.types import Corpus
from jmer.features import worker


@dataclass(frozen=True, kw_only=True)
class TuneInputs:
    """The inputs and labels of a run.

    labels: the label names; a class is its label's position.
    dataset_fingerprint: identifies the texts or the clips, the speakers and the labels of the corpus.
    model_sha256: identifies the files of the encoder that fine-tuning begins with.
    """

    labels: tuple[str, ...]
    dataset_fingerprint: str
    model_sha256: str

    def to_json(self) -> dict[str, Any]:
        """Returns the inputs as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, described: Mapping[str, Any]) -> "TuneInputs":
        """Returns the inputs that `to_json` described."""
        names = ("dataset_fingerprint", "model_sha256")
        return cls(labels=tuple(described["labels"]), **{name: described[name] for name in names})

    def changes_from(self, old: "TuneInputs") -> tuple[str, ...]:
        """Compares these inputs of a call with those of the run; every difference is to be refused."""
        found = []
        if old.labels != self.labels:
            found.append(f"the labels were {', '.join(old.labels)}, are {', '.join(self.labels)}")
        for name, phrase in (("dataset_fingerprint", "the corpus's fingerprint"), ("model_sha256", "the model's hash")):
            was, now = getattr(old, name), getattr(self, name)
            if was != now:
                found.append(f"{phrase} was {was[:12]}, is {now[:12]}")
        return tuple(found)


def fingerprint(corpus: Corpus, *, clips: bool) -> str:
    """Returns one hash over the texts, speakers and labels of a corpus, and with `clips` over its clips."""
    digest = hashlib.sha256(json.dumps(corpus.labels).encode())
    of_clip = functools.cache(worker.digest)  # a recording may hold many utterances
    for split, dialogues in corpus.splits.items():
        for dialogue in dialogues:
            rows = [
                (u.id, u.speaker, u.text, u.label, u.sentiment, *(() if u.start is None else (u.start, u.end)))
                for u in dialogue.utterances
            ]
            heard = [of_clip(u.clip) for u in dialogue.utterances if clips and u.clip]
            digest.update(json.dumps([split, dialogue.id, rows, *heard]).encode())
    return digest.hexdigest()
