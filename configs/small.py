"""A model for a corpus of some hundred utterances: a linear term, a small network beside it, and five seeds that vote.

    python -m jmer.train --config configs/small.py --config.dataset=data/packed/my --config.cv=speaker

The scores are in docs/accuracy.md.
"""

from jmer.config import Config, small


def get_config() -> Config:
    return small()
