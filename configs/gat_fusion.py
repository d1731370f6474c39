"""BiGRU encoders, gated fusion, R-GCN then GAT over the speaker graph: the defaults.

    python -m jmer.train --config configs/gat_fusion.py

On the embedded sample (synthetic): see benchmarks/modality_ablation.py. On MELD's text by frozen MiniLM features, dev,
mean and standard deviation of 5 seeds: see the README's "On real data".
"""

from jmer.config import Config, base


def get_config() -> Config:
    return base()
