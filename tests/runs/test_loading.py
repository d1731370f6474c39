"""What `jmer.load` is told beside the run: the device, the encoders, the warm-up. A predictor in several threads."""

import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

import jmer
from jmer.encoders import hub
from jmer.runs.environment import on_device
from jmer.training import steps

GIVEN = [{"speaker": "a", "features": {"audio": np.linspace(-1, 1, 5)}}]


def test_a_predictor_works_on_the_device_that_it_was_loaded_for(trained, monkeypatch):
    used = []
    predict = steps.predict

    def watched(model, params, *rest):
        found = predict(model, params, *rest)
        used.append({device for x in jax.tree.leaves((params, found)) for device in x.devices()})
        return found

    monkeypatch.setattr(steps, "predict", watched)
    if len(jax.devices()) < 2:
        pytest.skip("needs a second device; the tests simulate four unless XLA_FLAGS is set")
    second = jax.devices()[1]
    (moved,) = jmer.load(trained, vote=True, device="cpu:1").predict(GIVEN)
    (first,) = jmer.load(trained, vote=True).predict(GIVEN)
    assert used == [{second}, {jax.devices()[0]}]
    np.testing.assert_allclose(list(moved.probs.values()), list(first.probs.values()), atol=1e-6)


@pytest.mark.parametrize("device", ["tpu", "cpu:99", "cpu:x", "nonsense"])
def test_a_device_that_is_not_there_is_named(trained, device):
    with pytest.raises(jmer.UserError, match=f"JAX has no device '{device}' here; it has cpu:0"):
        jmer.load(trained, vote=True, device=device)
    with on_device(None):
        assert jax.config.values["jax_default_device"] is None


def test_encoders_lie_in_the_folder_that_is_named(trained, tmp_path, monkeypatch):
    monkeypatch.delenv(hub.ENCODERS, raising=False)
    with pytest.raises(jmer.UserError, match=r"the folder of encoders .*nowhere does not exist"):
        jmer.load(trained, vote=True, encoders=tmp_path / "nowhere")
    named, general = (tmp_path / name for name in ("named", "general"))
    for root in (named, general):
        for file in ("config.json", "model.safetensors"):
            (root / "tiny").mkdir(parents=True, exist_ok=True)
            (root / "tiny" / file).write_text("{}")
    monkeypatch.setenv(hub.ENCODERS, str(general))
    with hub.encoders_in(named):
        assert hub.resolve("someone/tiny", field="x") == named / "tiny"
    with hub.encoders_in(None):
        assert hub.resolve("someone/tiny", field="x") == general / "tiny"


def test_the_starter_finds_its_encoders_by_the_argument(shared, monkeypatch, caplog):
    monkeypatch.delenv(hub.ENCODERS, raising=False)
    with caplog.at_level(logging.INFO, logger="jmer"):
        warm = jmer.load("starter", encoders=shared / "weights", warmup=True)
    assert set(warm._extractors) == {"text", "audio", "video"}  # nothing is left to be opened
    said = [record.getMessage() for record in caplog.records]
    for name in ("minilm-l6-v2", "whisper-tiny-en-encoder"):
        assert f"{shared}/weights/{name} holds a copy in half precision, not the published bytes" in said
    assert warm.predict("I hate you.")[0].modalities == ("text",)


def test_progress_counts_every_input(run_of_texts):
    loaded = jmer.load(run_of_texts)
    dialogues = [["Lovely.", "Awful.", ""], "Fine."]
    done: list[int] = []
    loaded.predict_all(dialogues, progress=done.append)
    assert sum(done) == loaded.count_inputs(dialogues) == 3


def test_threads_get_the_answers_that_one_thread_gets(run_of_texts):
    loaded = jmer.load(run_of_texts)
    dialogues = [
        [f"{word} day number {i}." for i in range(n)] for n, word in enumerate(("A", "Lovely", "Sad", "Bad"), 1)
    ]
    expected = [loaded.predict(dialogue) for dialogue in dialogues]
    fresh = jmer.load(run_of_texts)  # has no extractor yet, so that threads meet while it is made
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(fresh.predict, dialogues * 8))
    for predictions, one in zip(found, expected * 8, strict=True):
        assert [p.text for p in predictions] == [p.text for p in one]
        for p, q in zip(predictions, one, strict=True):
            np.testing.assert_allclose(list(p.probs.values()), list(q.probs.values()), atol=1e-6)


@pytest.mark.parametrize("given", [None, "true"])
def test_memory_of_a_gpu_is_taken_as_needed(trained, given):
    """In a process of its own, since JAX reads the variable once."""
    environment = {name: x for name, x in os.environ.items() if name != "XLA_PYTHON_CLIENT_PREALLOCATE"}
    environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": given} if given else {}
    code = (
        f"import jmer, os; jmer.load({str(trained)!r}, vote=True); print(os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (given or "false")
