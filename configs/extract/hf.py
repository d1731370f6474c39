"""Features of text from a frozen BERT-type encoder in the layout of Hugging Face; audio and video are as in lite.py.

python -m jmer.extract --config configs/extract/hf.py --config.source=meld --config.root=data/MELD.Raw

The command line names other encoders, by hub id or by directory. --config.audio.model takes wav2vec 2.0, HuBERT, WavLM
or Whisper, and --config.video.model takes ViT.
"""

from typing import Any

from ml_collections import ConfigDict

from jmer.extract import default_config


def get_config() -> ConfigDict:
    config: Any = default_config()
    config.source = "meld"
    config.text.model = (
        "sentence-transformers/all-MiniLM-L6-v2"  # 22 M parameters; or bert-base-uncased, a directory, ...
    )
    return config
