"""The bases of training configs. The files in `configs/` change a few of their fields."""

from typing import Any, TypeAlias

from jmer.base import options
from jmer.training.options import TrainOptions

Config: TypeAlias = Any  # an ml_collections.ConfigDict, whose fields have no static types


def base() -> Config:
    """Returns the defaults: BiGRU encoders, gated fusion, R-GCN then GAT over the speaker graph, cross-entropy."""
    return options.to_config(TrainOptions())


def small() -> Config:
    """Returns the base for corpora of some hundred utterances.

    A linear probe is hard to beat there. So the logits are a linear term with a penalty on its weights and a small
    network beside it. Hidden modalities keep one modality from drowning out another. Five seeds vote, and the last
    epoch counts, so that no dev split is needed.
    """
    config = base()
    config.linear = True
    config.speaker_mean = True
    config.encoder = "none"
    config.graph = "none"
    config.fusion = "early"
    config.modality_dropout = 0.4
    config.hidden = 32
    config.l2 = 0.1
    config.weight_decay = 0.0
    config.lr = 3e-3
    config.epochs = 60
    config.batch_utterances = 32
    config.choose = "last"
    config.seeds = 5
    config.vote = True
    return config
