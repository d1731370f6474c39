"""What every extractor is, and how it is identified."""

import abc
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from jmer.types import Status


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the worker's half of an extractor makes of one utterance.

    payload: what `encode` takes, small enough to pass between processes; None where the modality is absent.
    status, reason: as in `jmer.types.Extracted`.
    """

    payload: Any
    status: Status = "ok"
    reason: str = ""


@dataclass(frozen=True)
class Extractor(abc.ABC):
    """One way to turn a modality of an utterance into a vector; subclasses are frozen dataclasses of their options.

    modality: what it reads. `prepare` is given a str, a waveform `[T]` or frames `[F, height, width, 3]`.
    kind, version: name within the modality, and a number to raise whenever the same input gives another vector.
    lookahead: how many payloads are worth gathering before `encode` is called.
    frames_wanted: how many frames of a clip `prepare` wants; 0 but for video.
    dim: D of the vectors.
    """

    modality: ClassVar[str]
    kind: ClassVar[str]
    version: ClassVar[int]
    lookahead: ClassVar[int] = 1

    @property
    def frames_wanted(self) -> int:
        return 0

    @property
    @abc.abstractmethod
    def dim(self) -> int: ...

    @property
    def weights(self) -> str:
        """Hash of the files that hold what was learned; empty without such."""
        return ""

    @abc.abstractmethod
    def prepare(self, raw: Any) -> Prepared:
        """The worker's half, without jax: raw input, never empty -> payload."""

    def encode(self, payloads: Sequence[Any]) -> np.ndarray:
        """The main process's half: payloads -> `[N, D]` float32. A row does not depend on the others."""
        return np.stack(payloads)

    @property
    def spec(self) -> dict[str, Any]:
        """JSON that `registry.build` makes an equal extractor of."""
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        head = {"modality": self.modality, "kind": self.kind, "version": self.version}
        return head | {"options": options, "weights": self.weights}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides the vectors. Where the weights lie does not, once their hash is known."""
        spec = self.spec
        if spec["weights"]:
            spec["options"].pop("model", None)
        return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()
