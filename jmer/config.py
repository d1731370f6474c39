"""The base of every training config: each option at its default. The files in `configs/` change a few of them."""

from typing import Any, TypeAlias

from jmer.base import options
from jmer.training.options import TrainOptions

Config: TypeAlias = Any  # an ml_collections.ConfigDict, whose fields have no static types


def base() -> Config:
    """Returns the defaults: BiGRU encoders, gated fusion, R-GCN then GAT over the speaker graph, cross-entropy."""
    return options.to_config(TrainOptions())
