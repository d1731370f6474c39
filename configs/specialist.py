"""A second classifier for the rare classes is merged with the main one, and focal loss is weighted by class.

python -m jmer.train --config configs/specialist.py

The dev weighted F1 is .98 on the embedded sample, which is synthetic. The run takes 34 CPU seconds, most of
which go into compiling.
On the text of MELD alone (frozen MiniLM, 20 epochs), the mean over 5 seeds is a dev weighted F1 of .550 +- .010 and a
macro-F1 of .407 +- .016.
"""

from jmer.config import Config, base


def get_config() -> Config:
    config = base()
    config.specialist = "disgust,sadness,fear"
    config.class_weights = "sqrt"
    config.focal_gamma = 1.0
    return config
