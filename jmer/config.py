"""The fields of a training config, with their defaults. Experiments in `configs/` change what they are about."""

from typing import Any, TypeAlias

from ml_collections import ConfigDict

Config: TypeAlias = Any  # a ConfigDict; what type a field has is known when it runs


def base() -> Config:
    """Returns the defaults: BiGRU encoders, gated fusion, R-GCN then GAT over the speaker graph."""
    config = ConfigDict()

    # Data.
    config.dataset = ""  # dataset directory that jmer.extract wrote; empty: the embedded sample, extracted first
    config.modalities = ""  # comma-separated; empty: all that the dataset holds
    config.batch_utterances = 256  # padded utterances a batch, about

    # Model.
    config.hidden = 128  # width of every layer
    config.heads = 4  # of the graph attention
    config.past = 10  # the speaker graph's window, in utterances
    config.future = 10
    config.graph_weight = 1.0  # lambda in fused + lambda * graph(fused)
    config.dropout = 0.4
    config.drop_node = 0.1

    # Optimisation.
    config.seed = 0  # of the first
    config.seeds = 1  # how many to train in one program; scores become mean and standard deviation over them
    config.epochs = 60  # at the most
    config.patience = 10  # epochs without a better dev weighted F1 after which a seed is done
    config.lr = 1e-3  # peak, after warm-up; cosine decay to zero at the last epoch
    config.warmup = 0.1  # share of all steps
    config.weight_decay = 1e-2
    config.clip_norm = 1.0  # global norm of the gradients

    config.lock()
    return config
