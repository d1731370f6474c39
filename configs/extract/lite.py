"""Features that need no download: VADER and hashed n-grams of text, MFCCs and prosody of sound, face expression.

python -m jmer.extract --config configs/extract/lite.py --config.source=sample
python -m jmer.extract --config configs/extract/lite.py --config.source=meld --config.root=data/MELD.Raw
python -m jmer.extract --config configs/extract/lite.py --config.source=table --config.root=my.csv
"""

from ml_collections import ConfigDict

from jmer.extract import default_config


def get_config() -> ConfigDict:
    return default_config()
