"""Fine-tunes all layers of an encoder of text, on whole dialogues.

    python -m jmer.finetune --config configs/finetune/text.py --config.source=meld --config.root=data/MELD.Raw

The options are those of configs/meld/tuned.py, which has the scores.
"""

from jmer.config import Config, tuned_text


def get_config() -> Config:
    return tuned_text()
