"""What a training config begins with: every option at its default. Experiments in `configs/` change a few of them."""

from typing import Any, TypeAlias

from jmer.base import options
from jmer.training.options import TrainOptions

Config: TypeAlias = Any  # an ml_collections.ConfigDict; what type a field has is known when it runs


def base() -> Config:
    """Returns the defaults: BiGRU encoders, gated fusion, R-GCN then GAT over the speaker graph, cross-entropy."""
    return options.to_config(TrainOptions())
