"""What a training config begins with: every option at its default. Experiments in `configs/` change a few of them."""

from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

from jmer.base import options
from jmer.base.errors import UserError
from jmer.training.options import TrainOptions

Config: TypeAlias = Any  # an ml_collections.ConfigDict; what type a field has is known when it runs


def base() -> Config:
    """Returns the defaults: BiGRU encoders, gated fusion, R-GCN then GAT over the speaker graph, cross-entropy."""
    return options.to_config(TrainOptions())


_AT_LEAST = {
    "batch_utterances": 1, "devices": 0, "hidden": 2, "heads": 1, "past": 0, "future": 0, "seed": 0, "seeds": 1,
    "epochs": 1, "patience": 1, "weight_decay": 0, "dropout": 0, "drop_node": 0, "drop_edge": 0, "warmup": 0,
    "modality_dropout": 0, "encoder_layers": 1, "bases": 0, "gfpush.order": 0, "gfpush.rmax": 0, "gfpush.top_k": 0,
    "feature_noise": 0, "mixup": 0, "consistency.passes": 1, "consistency.weight": 0, "consistency.confidence": 0,
    "focal_gamma": 0, "label_smoothing": 0, "logit_adjustment": 0, "sentiment": 0, "contrastive.weight": 0,
    "keep_epochs": 1,
}  # fmt: skip
_BELOW = {
    "dropout": 1, "drop_node": 1, "drop_edge": 1, "modality_dropout": 1, "warmup": 1, "specialist_weight": 1,
    "label_smoothing": 1, "consistency.confidence": 1,
}  # fmt: skip
_ABOVE = {
    "lr": 0, "clip_norm": 0, "specialist_weight": 0, "gfpush.alpha": 0, "consistency.temperature": 0,
    "contrastive.temperature": 0,
}  # fmt: skip
_SCHEMES = ("none", "inverse", "sqrt", "effective")
BIDIRECTIONAL = ("bigru", "bigru_attention")  # encoders that can be no part of a causal model
_ONE_OF = {
    "data_dtype": ("float32", "bfloat16"),
    "precision": ("float32", "bfloat16"),
    "data_mode": ("auto", "resident", "streamed"),
    "encoder": ("none", "gru", "transformer", *BIDIRECTIONAL),
    "fusion": ("early", "gated", "late", "hybrid"),
    "graph_nodes": ("utterance", "modality"),
    "graph_form": ("auto", "dense", "banded", "segments"),
    "gfpush.scheme": ("ppr", "avg", "single"),
    "class_weights": _SCHEMES,
    "sampler": _SCHEMES,
    "merge_epochs": ("vote", "average"),
}
GRAPH_LAYERS = ("rgcn", "gat", "grnn", "gfpush")
RESULT_NEUTRAL = ("data_mode", "devices")  # a run may go on with another value of these


def names_in(field: str) -> tuple[str, ...]:
    """Returns the names in a comma-separated field."""
    return tuple(name.strip() for name in field.split(",") if name.strip())


def graph_layers(config: Config) -> tuple[str, ...]:
    """Returns the layers of `config.graph`."""
    return () if config.graph == "none" else names_in(config.graph)


def check(config: Config) -> None:
    """Checks every field, and the fields together.

    Raises:
      UserError: a field is out of its range, or two ask for what cannot go together.
    """
    values = {name: _field(config, name) for name in {*_AT_LEAST, *_BELOW, *_ABOVE, *_ONE_OF}}
    expected = [(name, values[name] >= bound, f"at least {bound}") for name, bound in _AT_LEAST.items()]
    expected += [(name, values[name] < bound, f"below {bound}") for name, bound in _BELOW.items()]
    expected += [(name, values[name] > bound, f"above {bound}") for name, bound in _ABOVE.items()]
    expected += [(name, values[name] in names, f"one of {', '.join(names)}") for name, names in _ONE_OF.items()]
    whole = config.heads > 0 and config.hidden % 2 == 0 and config.hidden % config.heads == 0
    expected.append(("hidden", whole, f"a multiple of 2 and of config.heads ({config.heads})"))
    expected.append(("gfpush.alpha", config.gfpush.alpha <= 1, "at most 1"))
    for name in ("patience", "epochs"):  # so that each seed comes to so many epochs
        fits = config.keep_epochs <= config[name]
        expected.append(("keep_epochs", fits, f"at most config.{name} ({config[name]})"))
    layers = graph_layers(config)
    known = bool(layers) == (config.graph != "none") and set(layers) <= set(GRAPH_LAYERS)
    expected.append(("graph", known, f"none, or layers of {', '.join(GRAPH_LAYERS)}, comma-separated"))
    bins = names_in(config.distance_bins)
    ascending = all(b.isdecimal() and int(b) > 0 for b in bins) and list(bins) == sorted(set(bins), key=int)
    expected.append(("distance_bins", ascending, "distances from 1 up, ascending and comma-separated, such as 2,5"))
    for name, fits, what in expected:
        if not fits:
            raise UserError(f"config.{name} is {_field(config, name)}; expected {what}")

    if config.future == 0 and config.encoder in BIDIRECTIONAL:
        raise UserError(
            f"config.future=0 asks for a causal model, but config.encoder={config.encoder} reads the dialogue from its "
            "end too; take --config.encoder=gru, transformer or none, or a config.future of 1 or more"
        )
    if config.graph_nodes == "modality" and config.fusion == "early":
        raise UserError(
            "config.graph_nodes=modality needs each modality's encoding, but config.fusion=early joins the modalities "
            "before the encoder; take gated, late or hybrid fusion, or --config.graph_nodes=utterance"
        )
    if config.co_attention and config.fusion == "early":
        raise UserError(
            "config.co_attention needs each modality's encoding, but config.fusion=early joins the modalities before "
            "the encoder; take gated, late or hybrid fusion, or --config.co_attention=False"
        )


def check_fit(
    config: Config,
    *,
    modalities: Sequence[str],
    sequences: Collection[str],
    labels: Sequence[str],
    sentiments: bool,
) -> None:
    """Checks a config against what it is to be trained on.

    Args:
      modalities: those to train on.
      sequences: the modalities of whose sequences the train split has any.
      labels: the dataset's label set.
      sentiments: whether any utterance of the train split has one.

    Raises:
      UserError: the config asks for what the data cannot give.
    """
    if len(modalities) == 1:
        for name, asked in (("co_attention", config.co_attention), ("graph_nodes", config.graph_nodes == "modality")):
            if asked:
                raise UserError(
                    f"config.{name}={config[name]} joins modalities with each other, but there is only {modalities[0]} "
                    "to train on; give more modalities, or leave it out"
                )
    for name in names_in(config.sequences):
        if name not in modalities:
            raise UserError(
                f"config.sequences: '{name}' is not one of the modalities to train on ({', '.join(modalities)})"
            )
        if name not in sequences:
            raise UserError(
                f"config.sequences asks for the sequences of {name}, but the train split has none; extract them with "
                "--config.sequence_frames=32 (or another length), or leave it out"
            )
    rare = names_in(config.specialist)
    for label in rare:
        if label not in labels:
            raise UserError(f"config.specialist: '{label}' is not one of the dataset's labels ({', '.join(labels)})")
    if len(rare) != len(set(rare)) or len(rare) >= len(labels):
        raise UserError(f"config.specialist is {config.specialist}; expected some of the labels, not all, each once")
    if config.sentiment and not sentiments:
        raise UserError(
            "config.sentiment asks for the sentiment task, but no utterance of the train split has a sentiment; "
            "extract from a source that has them (MELD, or a table with a sentiment column), or leave it out"
        )


def _field(config: Config, name: str) -> Any:
    """A field by its dotted name."""
    for part in name.split("."):
        config = config[part]
    return config
