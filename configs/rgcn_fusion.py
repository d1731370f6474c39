"""R-GCN alone over the speaker graph.

python -m jmer.train --config configs/rgcn_fusion.py
"""

from jmer.config import Config, base


def get_config() -> Config:
    config = base()
    config.graph = "rgcn"
    return config
