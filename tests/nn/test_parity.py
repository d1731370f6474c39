"""Graph layers and GRU against PyTorch Geometric and PyTorch: outputs and every gradient.

tests/fixtures/torch_layers.npz holds the reference, in float64; make_torch_fixtures.py beside it says how it was made.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jmer.base.types import Rows
from jmer.graph import Segments
from jmer.nn.graph_layers import GAT, RGCN
from jmer.nn.options import GraphOptions
from jmer.nn.recurrent import GRU

Arrays = Mapping[str, np.ndarray]


@pytest.fixture(scope="module")
def fixtures(root) -> Arrays:
    with np.load(root / "tests" / "fixtures" / "torch_layers.npz") as file:
        return dict(file)


def under(fixtures: Arrays, prefix: str) -> Arrays:
    return {key.removeprefix(prefix): value for key, value in fixtures.items() if key.startswith(prefix)}


def rgcn_params(torch: Arrays) -> Any:
    root = {"kernel": torch["root"], "bias": torch["bias"]}
    if "comp" in torch:
        return {"bases": torch["weight"], "coefficients": torch["comp"], "root": root}
    return {"w": torch["weight"], "root": root}


def gat_params(torch: Arrays) -> Any:
    params = {
        "project": {"kernel": torch["lin.weight"].T},
        "a_send": torch["att_src"][0],
        "a_receive": torch["att_dst"][0],
        "bias": torch["bias"],
    }
    return params | {"a_relation": torch["a_relation"]} if "a_relation" in torch else params


def gru_params(torch: Arrays) -> Any:
    """PyTorch keeps a direction's gates in the rows, ours are in the columns."""
    suffixes = ("_l0", "_l0_reverse") if "weight_ih_l0_reverse" in torch else ("_l0",)
    return {
        "w_in": np.concatenate([torch[f"weight_ih{s}"].T for s in suffixes], axis=1),
        "w_rec": np.stack([torch[f"weight_hh{s}"].T for s in suffixes]),
        "b_in": np.stack([torch[f"bias_ih{s}"] for s in suffixes]),
        "b_rec": np.stack([torch[f"bias_hh{s}"] for s in suffixes]),
    }


def check(case: Arrays, to_ours: Callable[[Arrays], Any], layer: nn.Module, arguments: Callable[[jax.Array], tuple]):
    """Runs `layer` on `arguments(x)` and compares its output and gradients with the case's."""
    params = jax.tree.map(jnp.asarray, to_ours(under(case, "param/")))
    x = jnp.asarray(case["x"])

    @jax.jit
    def ours(params: Any, x: jax.Array) -> Any:
        def loss(params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            out = tiny.apply(layer, {"params": params}, *arguments(x)).reshape(case["out"].shape)
            return jnp.sum(out * case["cotangent"]), out

        made = jax.eval_shape(lambda: layer.init(jax.random.key(0), *arguments(x)))["params"]
        assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, params)  # none is left out
        (_, out), gradients = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, x)
        return {"out": out, "params": gradients[0], "x": gradients[1]}

    found = ours(params, x)
    expected = {"out": case["out"], "params": to_ours(under(case, "grad/")), "x": case["grad/x"]}
    for (path, value), reference in zip(
        jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(value, reference, rtol=0, atol=1e-5, err_msg=jax.tree_util.keystr(path))


RELATIONS = 4
FEATURES = 6


@pytest.mark.parametrize(
    ("name", "layer", "to_ours"),
    [
        ("rgcn", RGCN(options=GraphOptions(), features=FEATURES, relations=RELATIONS), rgcn_params),
        ("rgcn_bases", RGCN(options=GraphOptions(bases=2), features=FEATURES, relations=RELATIONS), rgcn_params),
        ("gat", GAT(options=GraphOptions(heads=2), features=FEATURES, relations=0), gat_params),
        ("gat_relations", GAT(options=GraphOptions(heads=2), features=FEATURES, relations=RELATIONS), gat_params),
    ],
)
def test_graph_layer_equals_pytorch_geometric(fixtures, name, layer, to_ours):
    graph, case = under(fixtures, "graph/"), under(fixtures, f"{name}/")
    num_nodes, num_edges, masked = len(case["x"]), len(graph["relation"]), 12
    # Among the edges lie masked slots that name any nodes and relations.
    rng = np.random.default_rng(0)
    order = rng.permutation(num_edges + masked)

    def slots(values: np.ndarray, below: int) -> jax.Array:
        garbage = rng.integers(below, size=masked, dtype=np.int32)
        return jnp.asarray(np.concatenate([values, garbage])[order])

    senders = slots(graph["senders"], num_nodes)
    receivers = slots(graph["receivers"], num_nodes)
    edges = Segments(
        slots(graph["relation"], RELATIONS), jnp.asarray(order < num_edges), senders, receivers, (1, num_nodes, 1)
    )
    check(case, to_ours, layer, lambda x: (edges, x[None, :, None]))


@pytest.mark.parametrize(("name", "bidirectional"), [("gru", False), ("bigru", True)])
def test_gru_equals_pytorch_on_packed_sequences(fixtures, name, bidirectional):
    case = under(fixtures, f"{name}/")
    u = case["x"].shape[1]
    mask = jnp.asarray(np.arange(u) < case["lengths"][:, None])
    layer = GRU(hidden=case["out"].shape[-1] // (1 + bidirectional), bidirectional=bidirectional)
    zeros = jnp.zeros(mask.shape, jnp.int32)
    check(case, gru_params, layer, lambda x: (x, Rows(mask=mask, dialogue=zeros, speaker=zeros)))
