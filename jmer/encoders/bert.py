"""The BERT family in Flax: BERT and MiniLM, RoBERTa, XLM-R and CamemBERT, DistilBERT.

Devlin et al. 2019; Wang et al. 2020; Liu et al. 2019; Conneau et al. 2020; Sanh et al. 2019. Submodules carry the names
that PyTorch checkpoints of each family give them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jmer.encoders.layers import LayerNames, LayerNorm, LayerShape, Sees, run_layers
from jmer.encoders.running import Running

_BERT = LayerNames(
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    out="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    wide="intermediate.dense",
    narrow="output.dense",
    last_norm="output.LayerNorm",
)
_DISTILBERT = LayerNames(
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    out="attention.out_lin",
    attention_norm="sa_layer_norm",
    wide="ffn.lin1",
    narrow="ffn.lin2",
    last_norm="output_layer_norm",
)

# These number positions from the padding token's id plus 1, and so have that many fewer of them for tokens.
_SHIFTED = ("roberta", "xlm-roberta", "camembert")

# The values of `model_type` in config.json that this network covers.
MODEL_TYPES = ("bert", *_SHIFTED, "distilbert")

# DistilBERT's names for fields of config.json.
RENAMED: Mapping[str, str] = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "activation": "hidden_act",
}


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """The fields of config.json that shape the network, under BERT's names."""

    model_type: str
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    type_vocab_size: int = 2
    pad_token_id: int = 0

    @property
    def first_position(self) -> int:
        """The number of the position that a row's first token has."""
        return self.pad_token_id + 1 if self.model_type in _SHIFTED else 0

    @property
    def positions(self) -> int:
        """The number of tokens that the model has positions for."""
        return self.max_position_embeddings - self.first_position

    @property
    def token_types(self) -> int:
        """The number of token types; 0 where the model has none."""
        return 0 if self.model_type == "distilbert" else self.type_vocab_size


class Bert(nn.Module, kw_only=True):
    """Token ids -> hidden states."""

    config: BertConfig
    running: Running = Running()

    @nn.compact
    def __call__(
        self,
        ids: Int[Array, "B T"],
        position: Int[Array, "B T"],
        kind: Int[Array, "B T"],
        sees: Sees,
        layers: tuple[int, ...],
    ) -> list[Float[Array, "B T D"]]:
        """Runs the layers up to the highest of `layers`.

        position: of each token within its segment, from 0, below `config.positions`.
        kind: the token's type, of those that the model was trained with; unused by models without types.
        sees: which tokens see which.
        layers: the hidden states to return. 0 is the state before the first layer.
        """
        c = self.config

        def embedded(name: str, count: int, numbers: Any) -> Any:
            return nn.Embed(count, c.hidden_size, name=f"embeddings.{name}_embeddings")(numbers)

        x = embedded("word", c.vocab_size, ids)
        x = x + embedded("position", c.max_position_embeddings, position + c.first_position)
        if c.token_types:
            x = x + embedded("token_type", c.token_types, jnp.minimum(kind, c.token_types - 1))
        x = LayerNorm(epsilon=c.layer_norm_eps, name="embeddings.LayerNorm")(x)
        distilbert = c.model_type == "distilbert"
        states = run_layers(
            x,
            layers,
            name="transformer.layer.{}" if distilbert else "encoder.layer.{}",
            names=_DISTILBERT if distilbert else _BERT,
            shape=LayerShape(
                heads=c.num_attention_heads,
                inner=c.intermediate_size,
                epsilon=c.layer_norm_eps,
                norm_first=False,
                activation=c.hidden_act,
            ),
            running=self.running,
            sees=sees,
        )
        return [states[layer] for layer in layers]
