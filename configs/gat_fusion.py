"""BiGRU encoders, gated fusion, R-GCN then GAT over the speaker graph: the defaults.

    python -m jmer.train --config configs/gat_fusion.py

on the embedded sample, which is synthetic: weighted F1 1.00 on dev and .96 on test, 35 CPU seconds, mostly compiling.

    python -m jmer.extract --config configs/extract/hf.py --config.source=meld --config.root=data/MELD.Raw \\
        --config.text.model=sentence-transformers/all-MiniLM-L6-v2 --config.out=data/packed/meld-minilm
    python -m jmer.train --config configs/gat_fusion.py --config.dataset=data/packed/meld-minilm --config.seeds=5 \\
        --config.epochs=40 --config.class_weights=sqrt --workdir=runs/meld-minilm

on MELD's text alone, with the encoder frozen: dev weighted F1 .559 +- .003, macro-F1 .414 +- .008 over 5 seeds, 10 CPU
seconds a seed. In 20 epochs without class weights: .545 +- .007 and .359 +- .006 (benchmarks/results/ablation_meld.md).
"""

from jmer.config import Config, base


def get_config() -> Config:
    return base()
