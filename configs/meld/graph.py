"""MELD, text: BiGRU, R-GCN and GAT on all hidden states of an encoder, frozen or fine-tuned; five seeds that vote.

    python -m jmer.extract --config configs/extract/hf.py --config.source=meld --config.root=data/MELD.Raw \\
        --config.text.model=MODEL --config.text.layers=all --config.text.pooling=mean,std \\
        --config.audio.model=none --config.video.model=none --config.out=data/packed/meld-text
    python -m jmer.train --config configs/meld/graph.py --config.dataset=data/packed/meld-text

The mean over the seeds on dev:

| MODEL | weighted F1 | macro-F1 | weighted F1 of the vote |
|---|---|---|---|
| sentence-transformers/all-MiniLM-L6-v2 | .584 +- .005 | .440 +- .013 | .598 |
| runs/tuned/model, which configs/meld/tuned.py leaves | .595 +- .008 | .462 +- .009 | .596 |
"""

from jmer.config import Config, base


def get_config() -> Config:
    config = base()
    config.class_weights = "sqrt"
    config.epochs = 30
    config.seeds = 5
    config.vote = True
    return config
