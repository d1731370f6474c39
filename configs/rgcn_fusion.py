"""R-GCN alone over the speaker graph.

python -m jmer.train --config configs/rgcn_fusion.py

Dev weighted F1 on the embedded sample, which is synthetic: .96, in 33 CPU seconds, mostly compiling.
On MELD's text alone (MiniLM, frozen; 20 epochs): dev weighted F1 .532 +- .004, macro-F1 .343 +- .004 over 5 seeds.
"""

from jmer.config import Config, base


def get_config() -> Config:
    config = base()
    config.graph = "rgcn"
    return config
