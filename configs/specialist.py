"""With a second classifier for the rare classes, merged with the main one, and focal loss weighted by class.

python -m jmer.train --config configs/specialist.py

Dev weighted F1 on the embedded sample, which is synthetic: 1.00, in 40 CPU seconds, mostly compiling.
On MELD's text alone (MiniLM, frozen; 20 epochs): dev weighted F1 .546 +- .008, macro-F1 .402 +- .007 over 5 seeds.
"""

from jmer.config import Config, base


def get_config() -> Config:
    config = base()
    config.specialist = "disgust,sadness,fear"
    config.class_weights = "sqrt"
    config.focal_gamma = 1.0
    return config
