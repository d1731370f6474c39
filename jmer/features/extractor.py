"""The protocol of an extractor: its options, its two halves, and its identity."""

import abc
import dataclasses
import hashlib
import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float16, Float32

from jmer.base import options
from jmer.base.errors import UserError
from jmer.base.options import Field, option
from jmer.base.types import Status

# Metadata of a field that only locates weights: a file or folder, or the hash that the file must have. Such a field is
# no part of an extractor's identity once the hash of the weights is known.
FILE = MappingProxyType({"locates": "file"})
HASH = MappingProxyType({"locates": "hash"})


def file_option(help: str) -> Any:
    """Declares an option that names a file of weights; empty by default."""
    return dataclasses.field(default="", metadata={"option": Field(help=help), **FILE})


def hash_option(help: str) -> Any:
    """Declares an option that holds the SHA-256 that a file of weights must have; empty by default."""
    return dataclasses.field(default="", metadata={"option": Field(help=help), **HASH})


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The result of the worker's half of an extractor for one utterance.

    payload: the input of `encode`, small enough to pass between processes; None where the modality is absent.
    status, reason: as in `jmer.base.types.Extracted`.
    """

    payload: Any
    status: Status = "ok"
    reason: str = ""


class Encoded(NamedTuple):
    """The features of one utterance in one modality.

    vector: `[D]` float32.
    sequence: `[T, D']` float16 with T from 1 to `sequence_frames`; None where no sequence was asked for.
    """

    vector: Float32[np.ndarray, " D"]
    sequence: Float16[np.ndarray, "T D_frame"] | None = None


@dataclass(frozen=True, kw_only=True)
class SequenceOptions:
    """The options that all extractors share; a config holds them at its top level, once for all modalities."""

    sequence_frames: int = option(
        0,
        "Frames that are kept of each utterance's tokens, sounds and faces, beside the vector; 0 keeps none.",
        at_least=0,
    )


_SHARED = frozenset(field.name for field in dataclasses.fields(SequenceOptions))


@dataclass(frozen=True, kw_only=True)
class Extractor(SequenceOptions, abc.ABC):
    """One way to turn a modality of an utterance into a vector.

    A subclass is a frozen dataclass of its options. Each option is declared by `jmer.base.options.option`, and the
    config's group of the modality, the checks and the help follow from the declaration. A sequence that is longer than
    `sequence_frames` is shortened by averaging as many parts of equal length.

    modality: the modality that the extractor reads. `prepare` takes a clip's `Media`, in which that track is present;
      for text it takes the turns of the dialogue up to the utterance, as `Turn`s, or a `Heard`.
    kind: the extractor's name within its modality.
    version: a number that is raised whenever the same input gives another vector.
    named_by: the description of the files or ids that `model` of the config may name in place of the kind, such as
      "an ONNX file"; empty for an extractor that is chosen by its kind.
    libraries: the packages whose releases change the features by more than rounding. Their versions are part of the
      cache's key and not of the fingerprint, so that a trained model still loads under newer libraries.
    lookahead: how many payloads may wait for others of their group to fill a batch.
    """

    modality: ClassVar[str]
    kind: ClassVar[str]
    version: ClassVar[int]
    named_by: ClassVar[str] = ""
    libraries: ClassVar[tuple[str, ...]] = ()
    lookahead: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for name, value, known in options.fields(self):
            if complaint := known.complaint(value):
                place = name if name in _SHARED else f"{self.modality}.{name}"
                raise UserError(f"config.{place} is {value}; expected {complaint}")
        self.check()

    def check(self) -> None:
        """Checks the options together, after each was checked by itself.

        Raises:
          UserError: two options contradict each other.
        """

    @classmethod
    def own_options(cls) -> dict[str, tuple[Any, Any, Field]]:
        """Returns name -> (type, default, `Field`) of the options that the config holds in the modality's group."""
        return {
            field.name: (field.type, field.default, field.metadata["option"])
            for field in dataclasses.fields(cls)
            if "option" in field.metadata and field.name not in _SHARED
        }

    @classmethod
    def reads(cls, model: str) -> bool:
        """Says whether the extractor reads the file or id `model`; asked of those with `named_by` alone."""
        return False

    def frames_wanted(self, seconds: float) -> int:
        """Returns how many frames `prepare` wants of a clip of this duration; 0 for text and audio."""
        return 0

    @property
    def turns_before(self) -> int:
        """How many earlier turns `prepare` wants; 0 for audio and video."""
        return 0

    @property
    def reads_dialogue(self) -> bool:
        """Whether `prepare` wants a `Heard`, with all turns of the dialogue; False for audio and video."""
        return False

    @property
    def reads_later(self) -> bool:
        """Whether the features of an utterance depend on later turns of the dialogue."""
        return False

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """D of the vector."""

    @property
    def states(self) -> int:
        """How many hidden states of an encoder the vector holds, end to end and each D / states wide."""
        return 1

    @property
    def frame_dim(self) -> int:
        """D' of a sequence, whether or not a sequence is asked for."""
        return self.dim

    @property
    def sequence_dim(self) -> int:
        """D' of the sequences that are kept; 0 where none are."""
        return self.frame_dim if self.sequence_frames else 0

    @property
    def weights(self) -> str:
        """SHA-256 of the files that hold learned weights; empty for an extractor without weights."""
        return ""

    def load(self) -> None:
        """Loads what `prepare` needs and what takes long to load. This time is not counted as that of a clip.

        Raises:
          UserError: something cannot be loaded.
        """

    @abc.abstractmethod
    def prepare(self, raw: Any) -> Prepared:
        """The worker's half, which does without JAX: turns a raw input, never empty, into a payload."""

    def group(self, payload: Any) -> Hashable:
        """Returns the payload's group. Payloads of one group, such as those of one padded length, share a batch."""
        return None

    def batch(self, group: Hashable) -> int:
        """Returns how many payloads make a full batch of a group."""
        return 1

    @abc.abstractmethod
    def encode(self, payloads: Sequence[Any], *, exact: bool = False) -> list[Encoded]:
        """The main process's half: turns payloads into features. Results do not depend on the batch, up to rounding.

        Args:
          exact: always pad to the full batch shape, so that results are bit-identical in any batch. The payloads are
            then of one group and no more than a full batch of it.
        """

    @property
    def spec(self) -> dict[str, Any]:
        """JSON from which `registry.build` makes an equal extractor."""
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        head = {"modality": self.modality, "kind": self.kind, "version": self.version}
        return head | {"options": given, "weights": self.weights}

    @property
    def identity(self) -> dict[str, Any]:
        """`spec` without the options that locate weights, where the hash of the weights stands for them."""
        spec = self.spec
        if spec["weights"]:
            for field in dataclasses.fields(self):
                if "locates" in field.metadata:
                    del spec["options"][field.name]
        return spec

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `identity`: equal for extractors that give the same features."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()
