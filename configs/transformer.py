"""A transformer over the utterances in place of BiGRU and graph; it knows who speaks by its speaker embedding.

python -m jmer.train --config configs/transformer.py
"""

from jmer.config import Config, base


def get_config() -> Config:
    config = base()
    config.encoder = "transformer"
    config.encoder_layers = 2
    config.graph = "none"
    config.lr = 5e-4
    return config
