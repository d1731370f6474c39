"""Fine-tunes all layers of an encoder of text, on whole dialogues.

    python -m jmer.finetune --config configs/finetune/text.py --config.source=meld --config.root=data/MELD.Raw

TODO figures.
"""

from typing import Any

from ml_collections import ConfigDict

from jmer.finetune import default_config


def get_config() -> ConfigDict:
    config: Any = default_config()
    config.model = "sentence-transformers/all-MiniLM-L6-v2"  # 22 M parameters
    return config
