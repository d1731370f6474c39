"""The encoders of the system that jmer grew out of: BERT base, wav2vec 2.0 base, and ViT base over 16 frames.

python -m jmer.extract --config configs/extract/seed.py --config.source=meld --config.root=data/MELD.Raw

The encoders are fetched from the Hugging Face hub. Without a network, name directories: --config.text.model=DIR,
--config.audio.model=DIR and --config.video.model=DIR.
"""

from typing import Any

from ml_collections import ConfigDict

from jmer.extract import default_config


def get_config() -> ConfigDict:
    config: Any = default_config()
    config.source = "meld"
    config.text.model = "bert-base-uncased"
    config.text.pooling = "cls"
    config.audio.model = "facebook/wav2vec2-base"
    config.video.model = "google/vit-base-patch16-224-in21k"
    config.video.frames = 16
    config.video.crop = "frame"
    return config
