"""Text features by a published BERT-type encoder, frozen; audio and video features as in lite.py.

python -m jmer.extract --config configs/extract/hf.py --config.source=meld --config.root=data/MELD.Raw

The command line names other encoders by hub id or directory: --config.text.model=bert-base-uncased, for instance.
--config.audio.model takes wav2vec 2.0, HuBERT, WavLM and Whisper; --config.video.model takes ViT.
"""

from typing import Any

from ml_collections import ConfigDict

from jmer.extract import default_config


def get_config() -> ConfigDict:
    config: Any = default_config()
    config.source = "meld"
    config.text.model = "sentence-transformers/all-MiniLM-L6-v2"  # 22 M parameters
    return config
