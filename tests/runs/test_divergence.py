"""Epochs that make the loss or the parameters infinite or NaN: nothing of them is saved, and training can go on."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import jmer
from jmer import train
from jmer.base import cli
from jmer.base.errors import DivergedError
from jmer.base.types import FlatSplit
from jmer.runs import directory
from jmer.training import checkpoint, steps

# One update an epoch. The first has a learning rate of 0; the second overflows, after its loss was still finite.
OVERFLOW = {"batch_utterances": 1000, "warmup": 0.25, "lr": 3.3e38, "encoder": "none", "graph": "none"}


pytestmark = pytest.mark.usefixtures("optax_promotion")


def arguments(dataset, workdir, tmp_path, **options):
    """The arguments of jmer.train for a small model."""
    file = tmp_path / "small.py"
    file.write_text(
        f"from pathlib import Path\nimport tiny\ndef get_config():\n    return tiny.config(Path({str(dataset)!r}))\n"
    )
    return [f"--config={file}", f"--workdir={workdir}", *(f"--config.{k}={v}" for k, v in options.items())]


def test_the_last_good_epoch_is_kept_and_a_lower_learning_rate_goes_on_from_it(tiny_dataset, tmp_path, capsys):
    workdir = tmp_path / "run"
    for _ in range(2):  # the same command again ends in the same way
        assert cli.run(train.main, arguments(tiny_dataset, workdir, tmp_path, **OVERFLOW)) == DivergedError.exit_code
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1
        assert (
            "in epoch 2: the loss, the parameters or the dev logits of seed 0 are infinite or NaN; epoch 1 is kept"
            in said[0]
        )
        assert "lower --config.lr" in said[0]
        assert checkpoint.latest_epoch(workdir / "checkpoints") == 1
        assert [json.loads(line)["epoch"] for line in (workdir / "metrics.jsonl").read_text().splitlines()] == [1]
    saved = checkpoint.Checkpoints(workdir / "checkpoints").restore(1, state=None, best=None)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(saved[:2]))

    lower = OVERFLOW | {"lr": 0.01}
    assert cli.run(train.main, arguments(tiny_dataset, workdir, tmp_path, **lower, hidden=16)) == cli.EXIT_USER_ERROR
    assert "config.hidden was 8, is 16" in capsys.readouterr().err
    assert cli.run(train.main, arguments(tiny_dataset, workdir, tmp_path, **lower)) == cli.EXIT_OK
    said = capsys.readouterr().out
    assert "changed setting: config.lr was 3.3e+38, is 0.01" in said
    assert "going on after epoch 1" in said
    run = directory.load(workdir)
    assert run.progress.epoch == 4
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(run.params))
    # The run is sound again, so that another learning rate would make another run.
    other = OVERFLOW | {"lr": 0.02}
    assert cli.run(train.main, arguments(tiny_dataset, workdir, tmp_path, **other)) == cli.EXIT_USER_ERROR
    assert "config.lr was 0.01, is 0.02" in capsys.readouterr().err


@pytest.mark.parametrize("diverges", ["loss", "moments", "outputs on dev"])
def test_the_seed_that_diverges_is_named(tiny_dataset, tmp_path, monkeypatch, diverges):
    """As if seed 1 alone had done so in the second epoch, in one way only."""
    confusion, make_train_epoch, epochs = steps.confusion, steps.make_train_epoch, []
    good, bad = (jax.device_put(np.array([1, x], np.float32)) for x in (1, np.nan))

    @jax.jit
    def spoil(tree, factor):
        def one(x):
            return x * factor.reshape(-1, *[1] * (x.ndim - 1)) if x.dtype == np.float32 else x

        return jax.tree.map(one, tree)

    @jax.jit
    def uncount(counts, factor):  # an utterance whose logits are not finite counts for no class
        return jnp.where(jnp.isfinite(factor)[:, None, None], counts, 0)

    def spoiled(*args):
        train_epoch = make_train_epoch(*args)

        def epoch(*args):
            state, loss = train_epoch(*args)
            epochs.append(bad if epochs else good)
            if diverges == "moments":
                state = state._replace(opt_state=spoil(state.opt_state, epochs[-1]))
            return state, spoil(loss, epochs[-1]) if diverges == "loss" else loss

        return epoch

    monkeypatch.setattr(steps, "make_train_epoch", spoiled)
    if diverges == "outputs on dev":
        monkeypatch.setattr(steps, "confusion", lambda *args: uncount(confusion(*args), epochs[-1]))
    options = OVERFLOW | {"lr": 0.01, "seeds": 2}
    with pytest.raises(jmer.UserError, match=r"in epoch 2: .* of seed 1 are infinite or NaN; epoch 1 is kept"):
        tiny.train(tiny_dataset, tmp_path / "run", **options)
    (record,) = json.loads((tmp_path / "run/diverged.json").read_text())["epochs"]
    assert record == {"epoch": 2, "seeds": [1], "lr": 0.01, "warmup": 0.25, "clip_norm": 1.0}


def test_an_utterance_whose_logits_are_not_finite_counts_for_no_class():
    model, batch = tiny.model(), tiny.batch(tiny.dialogues([5, 3]))
    flat = FlatSplit(*jax.tree.map(lambda x: jnp.asarray(x).reshape(-1, *x.shape[2:]), batch))
    index = jnp.arange(flat.mask.size, dtype=jnp.int32).reshape(1, *batch.mask.shape)
    params = steps.init_params(model, seeds=[0, 1])
    params["head"] = jax.tree.map(lambda x: x.at[1].set(jnp.nan), params["head"])
    stats = {f"{m}_{name}": jnp.ones(d) for m, d in tiny.DIMS.items() for name in steps.STATS}
    counts = steps.confusion(model, params, stats, flat, index)
    assert counts.sum(axis=(1, 2)).tolist() == [(batch.label != -1).sum(), 0]
