"""What every extractor is, and how it is identified."""

import abc
import dataclasses
import hashlib
import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from jmer.base.errors import UserError
from jmer.base.types import Status


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the worker's half of an extractor makes of one utterance.

    payload: what `encode` takes, small enough to pass between processes; None where the modality is absent.
    status, reason: as in `jmer.base.types.Extracted`.
    """

    payload: Any
    status: Status = "ok"
    reason: str = ""


class Encoded(NamedTuple):
    """vector: `[D]` float32. sequence: `[T, D']` float16, T from 1 to `sequence_frames`; None if that is 0."""

    vector: np.ndarray
    sequence: np.ndarray | None = None


@dataclass(frozen=True)
class Extractor(abc.ABC):
    """One way to turn a modality of an utterance into a vector; subclasses are frozen dataclasses of their options.

    sequence_frames: how much of the sequence that the vector sums up is kept beside it: that many frames at most, a
      longer one being averaged in as many equal parts; 0 for none of it.

    modality: what it reads. `prepare` is given the `Media` of a clip, with that track in it, or the turns of a dialogue
      up to the utterance, a `Turn` each.
    kind, version: name within the modality, and a number to raise whenever the same input gives another vector.
    lookahead: how many payloads may wait for others of their group to fill a batch.
    turns_before: how many earlier turns `prepare` wants; 0 but for text.
    dim, sequence_dim: D and D'; the latter is 0 where no sequence is kept.
    """

    sequence_frames: int = dataclasses.field(default=0, kw_only=True)

    modality: ClassVar[str]
    kind: ClassVar[str]
    version: ClassVar[int]
    lookahead: ClassVar[int] = 1

    def __post_init__(self):
        if self.sequence_frames < 0:
            raise UserError(f"sequence_frames is {self.sequence_frames}; expected 0 or how many frames to keep")

    def frames_wanted(self, seconds: float) -> int:
        """How many frames of a clip that lasts so long `prepare` wants; 0 but for video."""
        return 0

    @property
    def turns_before(self) -> int:
        return 0

    @property
    @abc.abstractmethod
    def dim(self) -> int: ...

    @property
    def frame_dim(self) -> int:
        """D' of a sequence, whether or not one is asked for."""
        return self.dim

    @property
    def sequence_dim(self) -> int:
        return self.frame_dim if self.sequence_frames else 0

    @property
    def weights(self) -> str:
        """Hash of the files that hold what was learned; empty without such."""
        return ""

    @abc.abstractmethod
    def prepare(self, raw: Any) -> Prepared:
        """The worker's half, without jax: raw input, never empty -> payload."""

    def group(self, payload: Any) -> Hashable:
        """Payloads of one group, such as those of like length, are encoded together."""
        return None

    def batch(self, group: Hashable) -> int:
        """How many payloads make a full batch of a group."""
        return 1

    @abc.abstractmethod
    def encode(self, payloads: Sequence[Any], *, exact: bool = False) -> list[Encoded]:
        """The main process's half. What comes of a payload does not depend on the others but for the last digits.

        exact: not even those, for payloads of one group, as many as make a batch or fewer: what is not there is
          computed too. (Compiled products round otherwise in other shapes.)
        """

    def __getstate__(self) -> dict[str, Any]:
        """What goes to a worker: not the encoder with its weights."""
        return {name: value for name, value in self.__dict__.items() if name != "_encoder"}

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
            for name in ("model", "sha256", "detector", "detector_sha256"):
                spec["options"].pop(name, None)
        return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()
