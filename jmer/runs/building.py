"""The model and the objective that the options of a run describe."""

from collections.abc import Mapping, Sequence

import numpy as np

from jmer.base.options import names_in
from jmer.base.types import MODALITIES
from jmer.nn.model import Model
from jmer.nn.speaker_graph import GraphOptions
from jmer.training.objective import Objective
from jmer.training.options import TrainOptions
from jmer.training.sampling import class_weights


def make_model(
    options: TrainOptions, *, dims: Mapping[str, int], sequence_dims: Mapping[str, int], labels: Sequence[str]
) -> Model:
    """Returns the model for features, and sequences, of these dims and for these labels."""
    layers = options.graph_layers
    graph = GraphOptions(
        layers=layers,
        past=options.past,
        future=options.future,
        form=options.graph_form,
        distance_bins=options.bins,
        heads=options.heads,
        bases=options.bases,
        drop_node=options.drop_node,
        drop_edge=options.drop_edge,
        order=options.gfpush.order,
        alpha=options.gfpush.alpha,
        rmax=options.gfpush.rmax,
        top_k=options.gfpush.top_k,
        scheme=options.gfpush.scheme,
    )
    return Model(
        dims=tuple((m, dims[m]) for m in MODALITIES if m in dims),
        sequence_dims=tuple((m, sequence_dims[m]) for m in MODALITIES if m in sequence_dims),
        num_classes=len(labels),
        hidden=options.hidden,
        heads=options.heads,
        encoder=options.encoder,
        encoder_layers=options.encoder_layers,
        causal=options.causal,
        co_attention=options.co_attention,
        fusion=options.fusion,
        graph=graph if layers else None,
        graph_nodes=options.graph_nodes,
        graph_weight=options.graph_weight,
        learn_graph_weight=options.learn_graph_weight,
        dropout=options.dropout,
        modality_dropout=options.modality_dropout,
        feature_noise=options.feature_noise,
        mixup=options.mixup,
        sentiment=options.sentiment > 0,
        specialist=tuple(map(list(labels).index, names_in(options.specialist))),
        specialist_weight=options.specialist_weight,
        embedding=options.contrastive.weight > 0,
        prototypes=options.contrastive.weight > 0 and options.contrastive.prototypes,
        precision=options.precision,
    )


def make_objective(options: TrainOptions, *, labels: Sequence[str], counts: np.ndarray) -> Objective:
    """Returns the objective that training minimises.

    Args:
      counts: `[C]`, how many utterances of each class the train split has.
    """
    scheme = options.class_weights
    weights = None if scheme == "none" else tuple(class_weights(counts, scheme=scheme).tolist())
    log_prior = None
    if options.logit_adjustment:
        # A class that does not occur counts as half an utterance, which keeps its logarithm finite.
        share = np.maximum(counts, 0.5) / counts.sum()
        log_prior = tuple((options.logit_adjustment * np.log(share)).tolist())
    specialist = tuple(map(list(labels).index, names_in(options.specialist)))
    rare = [counts[c] for c in specialist]
    specialist_counts = np.array([*rare, counts.sum() - sum(rare)])
    return Objective(
        class_weights=weights,
        focal_gamma=options.focal_gamma,
        label_smoothing=options.label_smoothing,
        log_prior=log_prior,
        sentiment_weight=options.sentiment,
        specialist=specialist,
        specialist_weight=options.specialist_weight,
        specialist_class_weights=tuple(class_weights(specialist_counts, scheme="sqrt").tolist()),
        contrastive_weight=options.contrastive.weight,
        contrastive_temperature=options.contrastive.temperature,
        augmentations=options.consistency.passes,
        consistency_weight=options.consistency.weight,
        consistency_temperature=options.consistency.temperature,
        consistency_confidence=options.consistency.confidence,
    )
