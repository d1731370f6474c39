"""BiGRU encoders, gated fusion, R-GCN then GAT over the speaker graph: the defaults.

python -m jmer.train --config configs/gat_fusion.py
"""

from ml_collections import ConfigDict

from jmer.config import base


def get_config() -> ConfigDict:
    return base()
