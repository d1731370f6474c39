"""BiGRU encoders and gated fusion, without a graph: what the speaker graph is measured against.

python -m jmer.train --config configs/bigru.py
"""

from jmer.config import Config, base


def get_config() -> Config:
    config = base()
    config.graph = "none"
    return config
