"""All options of fine-tuning. Nothing here imports JAX."""

from dataclasses import dataclass

from ml_collections import ConfigDict

from jmer.base.errors import UserError
from jmer.base.options import option, to_config
from jmer.dataset.options import SourceOptions
from jmer.encoders.passages import ContextOptions
from jmer.encoders.running import Running
from jmer.training.options import CLASS_WEIGHTS


@dataclass(frozen=True, kw_only=True)
class AdapterOptions:
    """Low-rank adapters (LoRA, Hu et al. 2022)."""

    rank: int = option(0, "Rank of the adapters beside each matrix of the layers; 0 trains all weights.", at_least=0)
    alpha: float = option(16.0, "Adapters are scaled by alpha / rank.", above=0)


@dataclass(frozen=True, kw_only=True)
class TuneOptions(SourceOptions, ContextOptions, AdapterOptions):
    """All options of fine-tuning."""

    model: str = option("", "Encoder to begin with: a directory in Hugging Face's layout, or an id on their hub.")
    train_embeddings: bool = option(False, "The token embeddings are trained as well, where all weights are.")
    dropout: float = option(0.1, "Dropout rate in the encoder and before the head.", at_least=0, below=1)
    class_weights: str = option("none", "Weights of the classes: by count, its root, or the effective number.",
                                choices=CLASS_WEIGHTS)  # fmt: skip
    label_smoothing: float = option(0.0, "Share of the target that is spread over all classes.", at_least=0, below=1)
    sentiment: float = option(0.0, "Weight of the loss of a second head that tells the sentiment.", at_least=0)
    batch_tokens: int = option(2048, "Tokens of a batch, padding included.", at_least=8)
    epochs: int = option(5, "Passes over the train split, over which the learning rate decays.", at_least=1)
    lr: float = option(5e-5, "Peak learning rate of the encoder, after warm-up.", above=0)
    head_lr: float = option(1e-3, "Peak learning rate of the head.", above=0)
    layer_decay: float = option(
        1.0, "Factor of the learning rate from each layer to the one below.", above=0, at_most=1
    )
    warmup: float = option(0.1, "Share of all steps that warm up.", at_least=0, below=1)
    decay: str = option("linear", "Decay of the learning rate to zero at the last step.",
                        choices=("linear", "cosine", "constant"))  # fmt: skip
    weight_decay: float = option(1e-2, "Decay of weight matrices.", at_least=0)
    clip_norm: float = option(1.0, "Global norm to which gradients are cut.", above=0)
    average: str = option("none", "Weights that are scored and kept: the latest, their moving average, or their mean "
                          "over the ends of the epochs.", choices=("none", "ema", "epochs"))  # fmt: skip
    precision: str = option("float32", "Type of the factors of matrix products.", choices=("float32", "bfloat16"))
    remat: bool = option(False, "The backward pass computes each layer anew, which saves memory.")
    seed: int = option(0, "The first seed.", at_least=0)
    seeds: int = option(1, "Seeds that are trained, one after another; the best on dev is exported.", at_least=1)

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
        super().check()
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
