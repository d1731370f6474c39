"""A model for a corpus of some hundred utterances: a linear term, a small network beside it, and five seeds that vote.

    python -m jmer.train --config configs/small.py --config.dataset=data/packed/my --config.cv=speaker

Such a corpus is too small for the other configs, which lie below a linear probe there. A test compares this one with a
linear probe on the same folds (tests/runs/test_small.py).
"""

from jmer.config import Config, small


def get_config() -> Config:
    return small()
