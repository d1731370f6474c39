"""A run as an ONNX file: onnxruntime gives the answers of the run. What needs jax2onnx is skipped where it is not."""

import json
import sys

import numpy as np
import pytest
import tiny
from program_inputs import LENGTHS, arrays

import jmer
from jmer import export
from jmer.base import cli
from jmer.nn.options import GFPushOptions
from jmer.runs import onnx, voting

MOST = 100


@pytest.mark.parametrize(
    "chosen",
    [
        {"encoder": "bigru_attention", "graph": "rgcn,gat", "fusion": "hybrid", "specialist": "glad"},
        {"encoder": "none", "graph": "grnn,gfpush", "gfpush": GFPushOptions(top_k=3, order=2), "distance_bins": "1"},
        {"encoder": "transformer", "graph": "gat", "graph_nodes": "modality", "co_attention": True, "fusion": "late"},
        {"encoder": "gru", "future": 0, "graph": "none", "fusion": "early", "speaker_mean": True, "linear": True},
    ],
    ids=lambda chosen: chosen["encoder"],
)
def test_onnxruntime_answers_as_the_run(tmp_path, chosen):
    pytest.importorskip("jax2onnx")
    runtime = pytest.importorskip("onnxruntime")
    run = tiny.untrained(tmp_path, seeds=2, **chosen)
    onnx.write(run, tmp_path / "model.onnx", tmp_path / "onnx.json", utterances=MOST, vote=True)
    described = json.loads((tmp_path / "onnx.json").read_text())
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    assert {each.name: each.shape for each in session.get_inputs()} == {
        name: each["shape"] for name, each in described["inputs"].items()
    }
    dialogues = tiny.dialogues(LENGTHS, seed=8)
    names = list(described["outputs"])
    for d, opinion in zip(dialogues, voting.Voters([run], vote=True).answer(dialogues), strict=True):
        given = {
            name: np.concatenate([x, np.zeros((1, MOST - len(d), *x.shape[2:]), x.dtype)], axis=1)
            for name, x in arrays([d]).items()
        }
        found = dict(zip(names, session.run(names, given), strict=True))
        np.testing.assert_allclose(found["probs"][0, : len(d)], opinion.probs, atol=1e-5)
        for i, share in enumerate(opinion.shares.values()):
            np.testing.assert_allclose(found["shares"][0, : len(d), i], share, atol=1e-5)


def test_what_cannot_be_is_said(tmp_path, trained, monkeypatch, capsys):
    def refusal(**chosen) -> str:
        run = tiny.untrained(tmp_path, encoder="none", graph="none", **chosen)
        with pytest.raises(jmer.UserError) as error:
            onnx.write(run, tmp_path / "model.onnx", tmp_path / "onnx.json", utterances=MOST, vote=False)
        return str(error.value)

    monkeypatch.setitem(sys.modules, "jax2onnx", object())
    assert "was trained with config.precision=bfloat16" in refusal(precision="bfloat16")
    assert "the run reads sequences (audio)" in refusal(sequences="audio")
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    assert "--onnx needs jax2onnx: pip install 'jmer[onnx]'" in refusal()
    out = tmp_path / "out"
    for given, expected in (("100", "--onnx needs jax2onnx"), ("-1", "--onnx is -1; expected how many utterances")):
        assert cli.run(export.main, [f"--workdir={trained}", f"--out={out}", f"--onnx={given}"]) == 2
        assert expected in capsys.readouterr().err
        assert not out.exists()
