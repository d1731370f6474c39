"""With the supervised contrastive loss, and a learned prototype a class for the rare ones.

python -m jmer.train --config configs/contrastive.py
"""

from jmer.config import Config, base


def get_config() -> Config:
    config = base()
    config.contrastive.weight = 0.3
    return config
