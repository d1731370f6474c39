"""A gated graph network: relational messages that each utterance takes into a GRU.

python -m jmer.train --config configs/grnn.py
"""

from jmer.config import Config, base


def get_config() -> Config:
    config = base()
    config.graph = "grnn"
    return config
