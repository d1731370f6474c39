"""Hybrid fusion: the logits of each modality's branch and of a branch that joins them first, mixed.

python -m jmer.train --config configs/hybrid.py
"""

from jmer.config import Config, base


def get_config() -> Config:
    config = base()
    config.fusion = "hybrid"
    return config
