"""The fields of a training config, with their defaults. Experiments in `configs/` change what they are about."""

from typing import Any, TypeAlias

from ml_collections import ConfigDict

from jmer.errors import UserError

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


_AT_LEAST = {
    "batch_utterances": 1, "hidden": 2, "heads": 1, "past": 0, "future": 0, "seed": 0, "seeds": 1, "epochs": 1,
    "patience": 1, "weight_decay": 0, "dropout": 0, "drop_node": 0, "warmup": 0,
}  # fmt: skip
_BELOW = {"dropout": 1, "drop_node": 1, "warmup": 1}
_ABOVE = {"lr": 0, "clip_norm": 0}


def check(config: Config) -> None:
    """Checks the fields that a number can be wrong for.

    Raises:
      UserError: one is out of its range.
    """
    expected = [(name, config[name] >= bound, f"at least {bound}") for name, bound in _AT_LEAST.items()]
    expected += [(name, config[name] < bound, f"below {bound}") for name, bound in _BELOW.items()]
    expected += [(name, config[name] > bound, f"above {bound}") for name, bound in _ABOVE.items()]
    whole = config.heads > 0 and config.hidden % 2 == 0 and config.hidden % config.heads == 0
    expected.append(("hidden", whole, f"a multiple of 2 and of config.heads ({config.heads})"))
    for name, fits, what in expected:
        if not fits:
            raise UserError(f"config.{name} is {config[name]}; expected {what}")
