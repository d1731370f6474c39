"""A transformer over the utterances replaces BiGRU and graph; a speaker embedding tells it who speaks.

python -m jmer.train --config configs/transformer.py

The dev weighted F1 is .98 on the embedded sample, which is synthetic. The run takes 36 CPU seconds, most of
which go into compiling.
On the text of MELD alone (frozen MiniLM, 20 epochs), the mean over 5 seeds is a dev weighted F1 of .536 +- .011 and a
macro-F1 of .349 +- .009.
"""

from jmer.config import Config, base


def get_config() -> Config:
    config = base()
    config.encoder = "transformer"
    config.encoder_layers = 2
    config.graph = "none"
    return config
