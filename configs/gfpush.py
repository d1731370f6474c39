"""GRAND+: mixed-order propagation (GFPush) of randomly dropped nodes, two passes kept consistent.

python -m jmer.train --config configs/gfpush.py
"""

from jmer.config import Config, base


def get_config() -> Config:
    config = base()
    config.graph = "gfpush"
    config.drop_node = 0.3
    config.consistency.passes = 2
    return config
