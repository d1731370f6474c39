"""RAVDESS, speech and faces, in six folds of actors.

python -m jmer.train --config configs/ravdess/speech_face.py --config.dataset=data/packed/ravdess
"""

from jmer.config import Config, small


def get_config() -> Config:
    config = small()
    config.cv = "speaker"
    config.modalities = "audio,video"
    return config
