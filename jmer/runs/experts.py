"""Experts, one a modality, whose probabilities are pooled.

An expert is an extractor and a linear classifier on its features. Experts that were trained on different corpora need
not have the same classes; each class is named after the label that it counts for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import log_softmax, softmax

from jmer.base.errors import UserError
from jmer.base.types import Features
from jmer.dataset import store
from jmer.features.extractor import Extractor
from jmer.runs.inputs import Modality
from jmer.runs.voting import Opinion


@dataclass(frozen=True, kw_only=True)
class Expert:
    """A classifier of one modality.

    build: makes its extractor; it raises UserError where the encoder is not to be found.
    classes: the label that each class counts for, C names.
    kernel, bias: from features to logits, calibrated.
    prior: the share of each class where the expert was trained.
    weight: how much the expert counts beside others.
    """

    build: Callable[[], Extractor]
    classes: tuple[str, ...]
    kernel: Float[np.ndarray, "D C"]
    bias: Float[np.ndarray, " C"]
    prior: Float[np.ndarray, " C"]
    weight: float

    def probabilities(self, x: Float[np.ndarray, "U D"], labels: Sequence[str]) -> Float[np.ndarray, "U L"]:
        """Returns the probability of each of L labels."""
        return softmax(x @ self.kernel + self.bias, axis=1) @ self._counts_for(labels)

    def share_of(self, labels: Sequence[str]) -> Float[np.ndarray, " L"]:
        """Returns the share of each label where the expert was trained."""
        return self.prior @ self._counts_for(labels)

    def _counts_for(self, labels: Sequence[str]) -> Float[np.ndarray, "C L"]:
        return np.eye(len(labels))[[labels.index(name) for name in self.classes]]


class Experts:
    """Experts whose answers are pooled; the attributes are those of `jmer.runs.voting.Voters`."""

    sequences: frozenset[str] = frozenset()

    def __init__(self, experts: Mapping[str, Expert], *, labels: Sequence[str]):
        """experts: modality -> the expert; labels: those of the answers."""
        self._experts = experts
        self.labels = tuple(labels)
        self.inputs = {m: Modality(dim=len(e.kernel), extractor={}, fingerprint="") for m, e in experts.items()}

    def build(self, modality: str) -> Extractor:
        """Returns the extractor of a modality. Raises UserError where its encoder is not to be found."""
        return self._experts[modality].build()

    def check(self, dataset: store.Dataset) -> None:
        """Raises UserError: the features of a dataset are those of other extractors."""
        raise UserError(f"{dataset.path}: experts read clips and texts, not packed features; give the clips")

    def answer(self, dialogues: Sequence[Features]) -> list[Opinion]:
        """Returns the opinion on each dialogue."""
        return [self._answer(dialogue) for dialogue in dialogues]

    def attention(self, dialogue: Features) -> None:
        """Returns None: experts look at one utterance at a time."""

    def begin(self) -> Callable[[Features, int], Opinion]:
        """Returns what `jmer.runs.voting.Voters.begin` does; experts look at one utterance at a time."""
        return lambda utterance, speaker: self._answer(utterance)

    def _answer(self, dialogue: Features) -> Opinion:
        experts = {m: expert for m, expert in self._experts.items() if m in dialogue.present}
        probs = {m: e.probabilities(dialogue.values[m], self.labels) for m, e in experts.items()}
        return pooled(
            probs,
            present={m: dialogue.present[m] for m in experts},
            priors={m: e.share_of(self.labels) for m, e in experts.items()},
            weights={m: e.weight for m, e in experts.items()},
        )


def pooled(
    probs: Mapping[str, Float[np.ndarray, "U L"]],
    *,
    present: Mapping[str, np.ndarray],
    priors: Mapping[str, Float[np.ndarray, " L"]],
    weights: Mapping[str, float],
) -> Opinion:
    """Pools the probabilities of experts (logarithmic pooling, Genest & Zidek 1986, section 3).

    What an expert has learnt beyond the shares of its training data is its evidence, log p - log prior. The pooled
    evidence is the weighted mean over the experts that are present, and so is the pooled prior. An expert that is alone
    therefore answers as it would by itself. The share of an expert is that of its weighted evidence, measured as the
    divergence of its probabilities from its prior.

    Args:
      present: modality -> `[U]`, whether the utterance has it.

    Returns: where no expert is present, probabilities and shares are 0.
    """
    weight = {m: weights[m] * present[m][:, None] for m in probs}
    total = np.maximum(sum(weight.values()), 1e-12)
    tiny = 1e-6  # an expert that does not know a label has nothing against it
    evidence = {m: np.log(p + tiny) - np.log(priors[m] + tiny) for m, p in probs.items()}
    prior = sum(w * priors[m] for m, w in weight.items()) / total
    logits = np.log(prior + tiny) + sum(w * evidence[m] for m, w in weight.items()) / total
    anyone = np.any(list(present.values()), axis=0)[:, None]
    strength = {m: (weight[m] * p * evidence[m]).sum(axis=1) for m, p in probs.items()}
    whole = np.maximum(sum(strength.values()), 1e-12)
    return Opinion(
        probs=np.where(anyone, np.exp(log_softmax(logits, axis=1)), 0),
        shares={m: np.maximum(s, 0) / whole for m, s in strength.items()},
    )
