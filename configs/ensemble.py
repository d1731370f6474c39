"""Five seeds, three best epochs of each, all voting.

python -m jmer.train --config configs/ensemble.py
"""

from jmer.config import Config, base


def get_config() -> Config:
    config = base()
    config.seeds = 5
    config.keep_epochs = 3
    config.vote = True
    return config
