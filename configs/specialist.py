"""With a second classifier for the rare classes, merged with the main one, and focal loss weighted by class.

python -m jmer.train --config configs/specialist.py
"""

from jmer.config import Config, base


def get_config() -> Config:
    config = base()
    config.specialist = "disgust,sadness,fear"
    config.class_weights = "sqrt"
    config.focal_gamma = 1.0
    return config
