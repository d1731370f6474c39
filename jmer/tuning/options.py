"""All options of fine-tuning. Nothing here imports JAX."""

from dataclasses import dataclass

from ml_collections import ConfigDict

from jmer.base.errors import UserError
from jmer.base.options import option, to_config
from jmer.base.types import PRECISIONS
from jmer.dataset.options import SourceOptions
from jmer.encoders.passages import ContextOptions
from jmer.encoders.running import Running
from jmer.training.options import ClassLossOptions, FoldOptions, LogOptions, SeedOptions, UpdateOptions


@dataclass(frozen=True, kw_only=True)
class AdapterOptions:
    """Low-rank adapters (LoRA, Hu et al. 2022)."""

    rank: int = option(0, "Rank of the adapters beside each matrix of the layers; 0 trains all weights.", at_least=0)
    alpha: float = option(16.0, "Adapters are scaled by alpha / rank.", above=0)


@dataclass(frozen=True, kw_only=True)
class TextOptions(ContextOptions):
    """What an encoder of text is given."""

    batch_tokens: int = option(2048, "Tokens of a batch of text, padding included.", at_least=8)
    mask_tokens: float = option(0.0, "Share of the tokens of the utterances that an update hides behind the encoder's "
                                "mask token.", at_least=0, below=1)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SpeechOptions:
    """What an encoder of speech is given."""

    batch_clips: int = option(16, "Clips of a batch of speech.", at_least=1)
    seconds: float = option(3.0, "Seconds of each clip that an update hears, from a random place on; scores come of "
                            "whole clips.", above=0, at_most=30)  # fmt: skip
    warp: float = option(0.1, "Most by which an update hears a clip quicker or slower, and higher or lower; a share.",
                         at_least=0, below=1)  # fmt: skip
    mask_seconds: float = option(0.2, "Most seconds that each of two masks hides in an update (SpecAugment, Park et "
                                 "al. 2019).", at_least=0)  # fmt: skip
    mask_bands: int = option(10, "Most mel bands that each of two masks hides in an update.", at_least=0)


@dataclass(frozen=True, kw_only=True)
class TuneOptions(
    SourceOptions,
    TextOptions,
    SpeechOptions,
    AdapterOptions,
    ClassLossOptions,
    UpdateOptions,
    SeedOptions,
    FoldOptions,
    LogOptions,
):
    """All options of fine-tuning."""

    model: str = option("", "Encoder of text or of speech to begin with: a directory in Hugging Face's layout, or an "
                        "id on their hub.")  # fmt: skip
    layer: int = option(-1, "Hidden state that the heads read, -1 for the last; layers above it are left out.")
    linear: bool = option(False, "A linear term of the logits, zero at first, reads the mean of every hidden state.")
    head: str = option("random", "The head begins at random, or as a probe: a logistic regression on the vectors of "
                       "the encoder as published (Kumar et al. 2022).", choices=("random", "probe"))  # fmt: skip
    train_embeddings: bool = option(False, "What lies below the layers, such as token embeddings and convolutions, is "
                                    "trained as well, where all weights are.")  # fmt: skip
    dropout: float = option(0.1, "Dropout rate in the encoder and before the head.", at_least=0, below=1)
    sentiment: float = option(0.0, "Weight of the loss of a second head that tells the sentiment.", at_least=0)
    epochs: int = option(5, "Passes over the train split, over which the learning rate decays.", at_least=1)
    lr: float = option(5e-5, "Peak learning rate of the encoder, after warm-up.", above=0)
    head_lr: float = option(1e-3, "Peak learning rate of the head.", above=0)
    layer_decay: float = option(
        1.0, "Factor of the learning rate from each layer to the one below.", above=0, at_most=1
    )
    decay: str = option("linear", "Decay of the learning rate to zero at the last step.",
                        choices=("linear", "cosine", "constant"))  # fmt: skip
    average: str = option("none", "Weights that are scored and kept: the latest, their moving average, or their mean "
                          "over the ends of the epochs.", choices=("none", "ema", "epochs"))  # fmt: skip
    precision: str = option("float32", "Type of the factors of matrix products.", choices=PRECISIONS)
    remat: bool = option(False, "The backward pass computes each layer anew, which saves memory.")

    @property
    def running(self) -> Running:
        """How the encoder is run in training."""
        return Running(
            precision=self.precision,
            remat=self.remat,
            dropout=self.dropout,
            rank=self.rank,
            scale=self.alpha / max(self.rank, 1),
        )

    def check(self) -> None:
        """Checks the options together.

        Raises:
          UserError: two of them contradict each other.
        """
        SourceOptions.check(self)
        FoldOptions.check(self)
        if not self.model:
            raise UserError(
                "config.model is empty; expected the directory of an encoder, or an id such as "
                "sentence-transformers/all-MiniLM-L6-v2"
            )
        if self.batch_tokens < self.max_tokens:
            raise UserError(
                f"config.batch_tokens is {self.batch_tokens}; expected at least config.max_tokens ({self.max_tokens})"
            )


def default_config() -> ConfigDict:
    """Returns a config with every option at its default; config files begin with it."""
    return to_config(TuneOptions())
