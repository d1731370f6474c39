"""BiGRU encoders whose modalities attend to each other, then gated fusion; without a graph. Needs two modalities.

python -m jmer.train --config configs/co_attention.py
"""

from jmer.config import Config, base


def get_config() -> Config:
    config = base()
    config.co_attention = True
    config.graph = "none"
    return config
