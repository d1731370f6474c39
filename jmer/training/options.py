"""Options of training, part by part, and all that a training config holds. Nothing here imports JAX."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from jmer.base.errors import UserError
from jmer.base.options import Number, is_on, names_in, option
from jmer.base.types import MODALITIES, PRECISIONS
from jmer.nn.options import AuxiliaryOptions, ModelOptions

CLASS_WEIGHTS = ("none", "inverse", "sqrt", "effective")


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Data, and the devices that hold it."""

    dataset: str = option("", "Dataset directory that jmer.extract wrote; empty for the embedded sample.", neutral=True)
    modalities: str = option("", "Modalities to train on, comma-separated; empty for all that the dataset holds.",
                             choices=MODALITIES, names=True)  # fmt: skip
    batch_utterances: int = option(256, "Utterances of a batch, about.", at_least=1)
    data_dtype: str = option("float32", "Type in which features are held; bfloat16 takes half the memory.",
                             choices=PRECISIONS)  # fmt: skip
    data_mode: str = option("auto", "Features lie on the device or are streamed; auto streams over half of its memory.",
                            choices=("auto", "resident", "streamed"), neutral=True)  # fmt: skip
    devices: int = option(0, "Devices to train on, the first ones; 0 for all.", at_least=0, neutral=True)


@dataclass(frozen=True, kw_only=True)
class FoldOptions:
    """Cross-validation, for corpora that are too small for one split."""

    cv: str = option("none", "Cross-validation on all labelled dialogues, whatever their splits: each speaker, or each "
                     "dialogue, is tested in one fold and trained on in the others.",
                     choices=("none", "speaker", "dialogue"))  # fmt: skip
    folds: int = option(6, "Folds of the cross-validation.", at_least=2)
    fold: int = option(-1, "The one fold to train, from 0, such as on one of several machines; -1 for all.",
                       at_least=-1)  # fmt: skip

    def check(self) -> None:
        """Checks the options together.

        Raises:
          UserError: the fold is not one of the folds.
        """
        if self.cv == "none" and self.fold >= 0:
            raise UserError(f"config.fold is {self.fold}, but config.cv is none; set config.cv, or leave the fold out")
        if self.fold >= self.folds:
            raise UserError(f"config.fold is {self.fold}; expected a number below config.folds ({self.folds})")


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """Where the figures of the epochs go, besides metrics.jsonl and TensorBoard events."""

    tracker: str = option("", "Python module of a tracker with the interface of wandb, such as wandb or trackio; empty "
                          "for none.", neutral=True)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SamplerOptions:
    """Sampling of dialogues."""

    sampler: str = option("none", "Dialogues are drawn by the class weights of their utterances, by this scheme.",
                          choices=CLASS_WEIGHTS)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ClassLossOptions:
    """Cross-entropy."""

    class_weights: str = option("none", "Weights of the classes: by count, its root, or the effective number.",
                                choices=CLASS_WEIGHTS)  # fmt: skip
    label_smoothing: Number = option(
        0.0, "Share of the target that is spread over all classes.", at_least=0, below=1, traced=True
    )


@dataclass(frozen=True, kw_only=True)
class LossOptions(ClassLossOptions):
    """Classification loss and class imbalance."""

    focal_gamma: Number = option(0.0, "Focal loss; 2.0 is usual. Its alpha is class_weights.", at_least=0, traced=True)
    logit_adjustment: Number = option(
        0.0, "Tau of logit adjustment; 1.0 aims at balanced accuracy.", at_least=0, traced=True
    )


@dataclass(frozen=True, kw_only=True)
class ConsistencyOptions:
    """Consistent predictions of several passes, as in GRAND+."""

    passes: int = option(1, "Forward passes of a batch; above 1, with the consistency loss.", at_least=1)
    weight: Number = option(1.0, "Weight of the consistency loss.", at_least=0, traced=True)
    temperature: Number = option(0.5, "Temperature that sharpens the mean prediction.", above=0, traced=True)
    confidence: Number = option(0.0, "Least probability of the mean's likeliest class for an utterance to count.",
                               at_least=0, below=1, traced=True)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ObjectiveOptions(LossOptions, AuxiliaryOptions):
    """Objective of training, with consistent passes."""

    consistency: ConsistencyOptions = option(ConsistencyOptions(), "Options of consistent passes.")


@dataclass(frozen=True, kw_only=True)
class UpdateOptions:
    """Updates of the parameters."""

    warmup: float = option(0.1, "Share of all steps that warm up.", at_least=0, below=1)
    weight_decay: Number = option(1e-2, "Decay of weight matrices.", at_least=0, traced=True)
    clip_norm: Number = option(1.0, "Global norm to which gradients are cut.", above=0, traced=True)


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions(UpdateOptions):
    """Optimiser and length of training."""

    epochs: int = option(60, "Epochs at the most, over which the learning rate decays.", at_least=1)
    lr: Number = option(
        1e-3, "Peak learning rate, after warm-up; cosine decay to zero at the last epoch.", above=0, traced=True
    )
    l2: Number = option(0.0, "Penalty on half the squares of weight matrices, as a logistic regression has; it is part "
                       "of the gradient, where weight_decay is not.", at_least=0, traced=True)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SeedOptions:
    """Seeds, and how the epochs that are kept of each are chosen."""

    seed: int = option(0, "The first seed.", at_least=0)
    seeds: int = option(1, "Seeds that are trained; scores become mean and deviation.", at_least=1, at_most=1000)
    choose: str = option("best", "Epochs that are kept of each seed: the best on dev by weighted F1, or the last ones, "
                         "which needs no dev split.", choices=("best", "last"))  # fmt: skip

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds that are trained."""
        return tuple(range(self.seed, self.seed + self.seeds))


@dataclass(frozen=True, kw_only=True)
class SelectionOptions(SeedOptions):
    """The epochs that are kept of each seed."""

    patience: int = option(10, "Epochs without a better dev weighted F1 after which a seed is done.", at_least=1)
    keep_epochs: int = option(1, "Epochs that are kept of each seed.", at_least=1, at_most=1000)
    merge_epochs: str = option("vote", "Kept epochs are merged by the mean of their probabilities or of their weights.",
                               choices=("vote", "average"), neutral=True)  # fmt: skip
    vote: bool = option(False, "Evaluation and prediction also take the mean over all seeds.", neutral=True)


@dataclass(frozen=True, kw_only=True)
class TrainOptions(
    DataOptions,
    FoldOptions,
    ModelOptions,
    ObjectiveOptions,
    SamplerOptions,
    OptimizerOptions,
    SelectionOptions,
    LogOptions,
):
    """All options of a training run."""

    def check(self) -> None:
        """Checks the options together.

        Raises:
          UserError: two of them ask for what cannot go together.
        """
        FoldOptions.check(self)
        ModelOptions.check(self)
        for name in ("patience", "epochs"):  # so that each seed comes to so many epochs
            if self.keep_epochs > getattr(self, name):
                raise UserError(
                    f"config.keep_epochs is {self.keep_epochs}; expected at most config.{name} ({getattr(self, name)})"
                )

    def check_fit(
        self, *, modalities: Sequence[str], sequences: Collection[str], labels: Sequence[str], sentiments: bool
    ) -> None:
        """Checks the options against what is to be trained on.

        Args:
          modalities: those to train on.
          sequences: the modalities of whose sequences the train split has any.
          labels: the dataset's label set.
          sentiments: whether any utterance of the train split has a sentiment.

        Raises:
          UserError: the options ask for what the data cannot give.
        """
        joining = {"co_attention": self.co_attention, "graph_nodes": self.graph_nodes == "modality"}
        for name, asked in joining.items():
            if asked and len(modalities) == 1:
                raise UserError(
                    f"config.{name}={getattr(self, name)} joins modalities with each other, but there is only "
                    f"{modalities[0]} to train on; give more modalities, or leave it out"
                )
        for name in names_in(self.sequences):
            if name not in modalities:
                raise UserError(
                    f"config.sequences: '{name}' is not one of the modalities to train on ({', '.join(modalities)})"
                )
            if name not in sequences:
                raise UserError(
                    f"config.sequences asks for the sequences of {name}, but the train split has none; extract them "
                    "with --config.sequence_frames=32 (or another length), or leave it out"
                )
        rare = names_in(self.specialist)
        for label in rare:
            if label not in labels:
                raise UserError(
                    f"config.specialist: '{label}' is not one of the dataset's labels ({', '.join(labels)})"
                )
        if len(rare) != len(set(rare)) or len(rare) >= len(labels):
            raise UserError(f"config.specialist is {self.specialist}; expected some of the labels, not all, each once")
        if is_on(self.sentiment) and not sentiments:
            raise UserError(
                "config.sentiment asks for the sentiment task, but no utterance of the train split has a sentiment; "
                "extract from a source that has them (MELD, or a table with a sentiment column), or leave it out"
            )
