"""Options of the model, part by part.

Nothing here imports JAX: a command reads its arguments, and tells mistakes, before it loads what it runs on.
"""

from dataclasses import dataclass

from jmer.base.errors import UserError
from jmer.base.options import Number, names_in, option
from jmer.base.types import MODALITIES, PRECISIONS

GRAPH_LAYERS = ("rgcn", "gat", "grnn", "gfpush")


@dataclass(frozen=True, kw_only=True)
class LayerOptions:
    """What all layers of the model share."""

    hidden: int = option(128, "Width of every layer, a multiple of 2 and of heads.", at_least=2, at_most=1 << 16)
    heads: int = option(4, "Heads of every attention between utterances.", at_least=1, at_most=1024)
    dropout: Number = option(0.4, "Dropout rate of features, of attention and feed-forward outputs, and of the head.",
                            at_least=0, below=1, traced=True)  # fmt: skip
    precision: str = option("float32", "Type of the factors of large matrix products; everything else is float32.",
                            choices=PRECISIONS)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class WindowOptions:
    """How far an utterance sees."""

    past: int = option(10, "Earlier utterances that the speaker graph joins to an utterance.", at_least=0)
    future: int = option(
        10, "Later utterances that it joins; 0 makes the whole model causal, for online use.", at_least=0
    )

    @property
    def causal(self) -> bool:
        """Whether no output may depend on a later utterance."""
        return self.future == 0


@dataclass(frozen=True, kw_only=True)
class InputOptions(LayerOptions):
    """Inputs of the model, and how training augments them."""

    sequences: str = option("", "Modalities whose frames are pooled by attention, beside their vectors.",
                            choices=MODALITIES, names=True)  # fmt: skip
    modality_dropout: Number = option(
        0.0,
        "Rate at which training hides a modality of an utterance, never all of them.",
        at_least=0,
        below=1,
        traced=True,
    )
    feature_noise: Number = option(
        0.0, "Standard deviation of noise on features, in deviations of each.", at_least=0, traced=True
    )
    mixup: Number = option(
        0.0, "Alpha of mixup between utterances of one class; 0 switches mixup off.", at_least=0, traced=True
    )
    speaker_mean: bool = option(False, "The model also reads by how much each feature differs from its mean over the "
                                "speaker's utterances in the dialogue.")  # fmt: skip
    linear: bool = option(False, "The logits also have a term that is linear in the features, as of a linear probe.")


@dataclass(frozen=True, kw_only=True)
class EncoderOptions(LayerOptions, WindowOptions):
    """Encoder over the utterances of a dialogue."""

    encoder: str = option("bigru", "Encoder of each modality.",
                          choices=("none", "gru", "transformer", "bigru", "bigru_attention"))  # fmt: skip
    encoder_layers: int = option(1, "Blocks of the transformer.", at_least=1, at_most=1000)
    co_attention: bool = option(False, "Modalities attend to each other after their encoders.")


@dataclass(frozen=True, kw_only=True)
class FusionOptions(LayerOptions):
    """Fusion of the modalities."""

    fusion: str = option("gated", "How modalities are joined: before the encoder, by gates, or by their logits.",
                         choices=("early", "gated", "late", "hybrid"))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GFPushOptions:
    """Mixed-order propagation, GFPush of GRAND+."""

    order: int = option(4, "Steps of propagation.", at_least=0, at_most=1000)
    alpha: float = option(0.2, "Share that stays at each step, of scheme ppr.", above=0, at_most=1)
    rmax: float = option(0.0, "Residues below rmax times the degree are not pushed on.", at_least=0)
    top_k: int = option(0, "Entries that are kept of each row; 0 keeps all.", at_least=0)
    scheme: str = option("ppr", "Weights of the steps.", choices=("ppr", "avg", "single"))


@dataclass(frozen=True, kw_only=True)
class GraphOptions(LayerOptions, WindowOptions):
    """Graph over the utterances of a dialogue and their speakers."""

    graph: str = option("rgcn,gat", "Layers over the speaker graph in their order, or none.", choices=GRAPH_LAYERS,
                        names=True, fits=lambda text: text == "none" or bool(names_in(text)),
                        expected=f"none, or some of {', '.join(GRAPH_LAYERS)}")  # fmt: skip
    graph_nodes: str = option("utterance", "A node is an utterance, or one modality of an utterance.",
                              choices=("utterance", "modality"))  # fmt: skip
    graph_form: str = option("auto", "How the graph is computed, with one result; auto takes the quickest.",
                             choices=("auto", "dense", "banded", "segments"), neutral=True)  # fmt: skip
    graph_weight: float = option(1.0, "Lambda in x + lambda * graph(x).")
    learn_graph_weight: bool = option(False, "Lambda is trained, from graph_weight; metrics.jsonl records it.")
    distance_bins: str = option("", "Relations also by distance, such as 2,5 for 1 to 2, 3 to 5 and beyond.",
                                fits=lambda text: _ascending(names_in(text)),
                                expected="distances from 1 up, ascending and comma-separated, such as 2,5")  # fmt: skip
    bases: int = option(0, "Bases of the relations' weights in rgcn and grnn; 0 gives each relation its own matrix.",
                        at_least=0)  # fmt: skip
    gfpush: GFPushOptions = option(GFPushOptions(), "Options of the layer gfpush.")
    drop_node: Number = option(
        0.1, "Rate at which training zeroes a node of the graph.", at_least=0, below=1, traced=True
    )
    drop_edge: Number = option(
        0.0, "Rate at which training removes an edge of the graph.", at_least=0, below=1, traced=True
    )

    @property
    def graph_layers(self) -> tuple[str, ...]:
        """The layers in their order; empty for no graph."""
        return names_in(self.graph)

    @property
    def bins(self) -> tuple[int, ...]:
        """The distances that `distance_bins` names."""
        return tuple(map(int, names_in(self.distance_bins)))


@dataclass(frozen=True, kw_only=True)
class ContrastiveOptions:
    """Supervised contrastive loss."""

    weight: Number = option(0.0, "Weight of the contrastive loss; 0 switches it off.", at_least=0, traced=True)
    temperature: Number = option(0.1, "Temperature of its similarities.", above=0, traced=True)
    prototypes: bool = option(True, "Each class has one learned member in every batch.")


@dataclass(frozen=True, kw_only=True)
class AuxiliaryOptions:
    """Auxiliary outputs and their losses."""

    sentiment: Number = option(0.0, "Weight of the sentiment task, for datasets with sentiments; 0 switches it off.",
                              at_least=0, traced=True)  # fmt: skip
    branch_loss: Number = option(0.0, "Weight of the losses of the branches that late and hybrid fusion mix, each by "
                                "itself, so that one also answers without the others.", at_least=0,
                                traced=True)  # fmt: skip
    specialist: str = option("", "Labels of a second classifier for rare classes, comma-separated.")
    specialist_weight: float = option(0.5, "Its weight in the loss, and where it is merged with the main classifier.",
                                      above=0, below=1)  # fmt: skip
    contrastive: ContrastiveOptions = option(ContrastiveOptions(), "Options of the contrastive loss.")


@dataclass(frozen=True, kw_only=True)
class ModelOptions(InputOptions, EncoderOptions, FusionOptions, GraphOptions, AuxiliaryOptions):
    """Options of the whole model."""

    @property
    def not_streamable(self) -> tuple[str, ...]:
        """Why the model cannot answer utterance by utterance at a constant cost; empty where it can."""
        later = f"config.future={self.future}"
        found = {
            f"config.encoder={self.encoder} also reads the dialogue from its end": self.encoder.startswith("bi"),
            f"config.encoder={self.encoder} attends to every earlier utterance": self.encoder == "transformer",
            "config.co_attention attends to every earlier utterance": self.co_attention,
            f"with {later} the graph joins later utterances": bool(self.graph_layers) and not self.causal,
            f"with {later} config.speaker_mean reads later utterances": self.speaker_mean and not self.causal,
        }
        return tuple(reason for reason, holds in found.items() if holds)

    def check(self) -> None:
        """Checks the options together.

        Raises:
          UserError: two of them ask for what cannot go together.
        """
        if self.hidden % 2 or self.hidden % self.heads:
            raise UserError(
                f"config.hidden is {self.hidden}; expected a multiple of 2 and of config.heads ({self.heads})"
            )
        if self.causal and self.encoder.startswith("bi"):
            raise UserError(
                f"config.future=0 asks for a causal model, but config.encoder={self.encoder} also reads the dialogue "
                "from its end; take --config.encoder=gru, transformer or none, or a config.future of 1 or more"
            )
        for name, asked in (
            ("graph_nodes=modality", self.graph_nodes == "modality"),
            ("co_attention", self.co_attention),
        ):
            if asked and self.fusion == "early":
                raise UserError(
                    f"config.{name} needs each modality's encoding, but config.fusion=early joins the modalities "
                    "before the encoder; take gated, late or hybrid fusion, or leave it out"
                )
        if self.branch_loss and self.fusion not in ("late", "hybrid"):
            raise UserError(
                f"config.branch_loss needs branches with logits of their own, but config.fusion is {self.fusion}; take "
                "late or hybrid fusion, or leave it out"
            )


def _ascending(bins: tuple[str, ...]) -> bool:
    return all(b.isdecimal() and int(b) > 0 for b in bins) and list(bins) == sorted(set(bins), key=int)
