"""RAVDESS, speech: all hidden states of Whisper tiny.en, frozen, in six folds of actors.

python -m jmer.train --config configs/ravdess/speech.py --config.dataset=data/packed/ravdess
"""

from jmer.config import Config, small


def get_config() -> Config:
    config = small()
    config.cv = "speaker"
    config.modalities = "audio"
    return config
