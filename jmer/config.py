"""The bases of training configs. The files in `configs/` change a few of their fields."""

from typing import Any, TypeAlias

from jmer.base import options
from jmer.training.options import TrainOptions
from jmer.tuning.options import default_config as tuning_config

Config: TypeAlias = Any  # an ml_collections.ConfigDict, whose fields have no static types


def base() -> Config:
    """Returns the defaults: BiGRU encoders, gated fusion, R-GCN then GAT over the speaker graph, cross-entropy."""
    return options.to_config(TrainOptions())


def small() -> Config:
    """Returns the base for corpora of some hundred utterances.

    A linear probe is hard to beat there. So the logits of each modality are a linear term with a penalty on its weights
    and a small network beside it. Each modality also learns by itself, so that it answers as well where the others are
    missing. Smoothed labels keep a model that fits every training utterance from being too sure. Five seeds vote, and
    the last epoch counts, so that no dev split is needed.
    """
    config = base()
    config.linear = True
    config.speaker_mean = True
    config.encoder = "none"
    config.graph = "none"
    config.fusion = "late"
    config.branch_loss = 1.0
    config.hidden = 32
    config.l2 = 0.1
    config.label_smoothing = 0.2
    config.weight_decay = 0.0
    config.lr = 3e-3
    config.epochs = 60
    config.batch_utterances = 32
    config.choose = "last"
    config.seeds = 5
    config.vote = True
    return config


def tuned_text() -> Config:
    """Returns the base for fine-tuning an encoder of text: few updates at a high rate, and their moving average."""
    config: Config = tuning_config()
    config.model = "sentence-transformers/all-MiniLM-L6-v2"  # 22 M parameters
    config.linear = True
    config.class_weights = "sqrt"
    config.lr = 2e-4
    config.epochs = 3
    config.average = "ema"
    return config
