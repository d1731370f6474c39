"""The defaults on text alone: what the words give.

python -m jmer.train --config configs/text_only.py
"""

from jmer.config import Config, base


def get_config() -> Config:
    config = base()
    config.modalities = "text"
    return config
