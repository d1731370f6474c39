"""Hybrid fusion: it mixes the logits of a branch for each modality with those of a branch of early fusion.

python -m jmer.train --config configs/hybrid.py

The dev weighted F1 is 1.00 on the embedded sample, which is synthetic. The run takes 32 CPU seconds, most of
which go into compiling.
On the text of MELD alone (frozen MiniLM, 20 epochs), the mean over 5 seeds is a dev weighted F1 of .554 +- .013 and a
macro-F1 of .391 +- .016.
"""

from jmer.config import Config, base


def get_config() -> Config:
    config = base()
    config.fusion = "hybrid"
    return config
