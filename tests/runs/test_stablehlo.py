"""A run as one program in StableHLO: run without jmer, it gives the answers of the run, whatever the shapes are."""

import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny
from program_inputs import LENGTHS, arrays

import jmer
from jmer import export
from jmer.base import cli, files
from jmer.nn.options import GFPushOptions
from jmer.runs import directory, stablehlo, voting
from jmer.runs.directory import Calibration, RunDirectory

# Where jmer cannot be imported; the arguments are the folder and a file of inputs.
ALONE = """
import json, sys
sys.modules["jmer"] = None
import jax, numpy as np
from jax import export
folder, file, out = sys.argv[1:]
described = json.load(open(f"{folder}/stablehlo.json"))
program = jax.jit(export.deserialize(bytearray(open(f"{folder}/{described['program']}", "rb").read())).call)
answers = {}
with np.load(file) as batches:
    for number in sorted({name.split("|")[0] for name in batches}):
        given = {name: batches[f"{number}|{name}"] for name in described["inputs"]}
        for name, described_input in described["inputs"].items():
            assert given[name].dtype == described_input["dtype"], name
            assert given[name].shape[2:] == tuple(described_input["shape"][2:]), name
        for name, x in program(given).items():
            answers[f"{number}|{name}"] = np.asarray(x)
            assert x.shape[2] == described["outputs"][name]["shape"][2]
np.savez(out, **answers)
assert not [name for name in sys.modules if name.startswith(("jmer.", "flax"))]
"""


@pytest.fixture(scope="module")
def calibrated(trained, tmp_path_factory):
    run = shutil.copytree(trained, tmp_path_factory.mktemp("calibrated") / "run")
    RunDirectory(run).write_calibration(Calibration(seeds=(1.5, 2.0), vote=0.7))
    return run


def test_without_jmer_the_program_answers_as_the_run(calibrated, tmp_path):
    out = tmp_path / "out"
    assert cli.run(export.main, [f"--workdir={calibrated}", f"--out={out}", "--stablehlo", "--vote", "--quiet"]) == 0
    dialogues = tiny.dialogues(LENGTHS, seed=8)
    batches = {"0": dialogues, "1": dialogues[:1], "2": dialogues[9:12]}
    given = {f"{n}|{name}": x for n, each in batches.items() for name, x in arrays(each).items()}
    np.savez(tmp_path / "given.npz", allow_pickle=False, **given)
    command = [sys.executable, "-c", ALONE, str(out), str(tmp_path / "given.npz"), str(tmp_path / "found.npz")]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""}, check=True)
    mappings = [
        [
            {"speaker": s, "features": {m: d.values[m][i] for m in tiny.DIMS if d.present[m][i]}}
            for i, s in enumerate(d.speakers)
        ]
        for d in dialogues
    ]
    expected = jmer.load(calibrated, vote=True).predict_all(mappings)
    with np.load(tmp_path / "found.npz") as found:
        for number, each in batches.items():
            for d, probs, shares in zip(each, found[f"{number}|probs"], found[f"{number}|shares"], strict=True):
                wanted = expected[dialogues.index(d)]
                of_labels = [[p.probs[label] for label in tiny.LABELS] for p in wanted]
                np.testing.assert_allclose(probs[: len(d)], of_labels, atol=1e-5)
                of_modalities = [[p.gates[m] for m in tiny.DIMS] for p in wanted]
                np.testing.assert_allclose(shares[: len(d)], of_modalities, atol=1e-5)
    described = json.loads((out / "stablehlo.json").read_text())
    assert described["labels"] == list(tiny.LABELS)
    assert described["seeds"] == [0, 1]
    listed = json.loads((out / "export.json").read_text())["files"]
    for name in ("model.stablehlo", "stablehlo.json"):
        assert listed[name] == files.sha256(out / name)
        assert f"| `{name}` |" in (out / "README.md").read_text()
    with (out / "model.stablehlo").open("ab") as file:
        file.write(b"x")
    with pytest.raises(jmer.UserError, match=r"model\.stablehlo is damaged"):
        directory.load(out)


@pytest.mark.parametrize(
    "chosen",
    [
        {"graph": "rgcn,gfpush", "distance_bins": "1,2", "fusion": "early", "past": 40, "future": 40},
        {"graph": "gat", "graph_nodes": "modality", "fusion": "late"},
        {"graph": "grnn", "fusion": "hybrid", "sequences": "audio", "data_dtype": "bfloat16"},
        {"graph": "gfpush", "gfpush": GFPushOptions(top_k=3, rmax=1e-3), "future": 0},
        {"graph": "none", "encoder": "transformer", "speaker_mean": True, "linear": True, "specialist": "glad"},
        {"graph": "gat", "graph_form": "segments", "co_attention": True},
    ],
    ids=lambda chosen: "-".join(map(str, chosen.values())),
)
def test_every_part_of_a_model_takes_rows_of_any_shape(tmp_path, chosen):
    run = tiny.untrained(tmp_path, **{"encoder": "none"} | chosen)
    stablehlo.write(run, tmp_path / "program", tmp_path / "described.json", vote=False)
    program = jax.export.deserialize(bytearray((tmp_path / "program").read_bytes()))
    dialogues = tiny.dialogues([9, 2, 6], seed=5)
    probs = jax.jit(program.call)(arrays(dialogues, sequences=bool(run.inputs.sequence_dims)))["probs"]
    opinions = voting.Voters([run], vote=False).answer(dialogues)
    for d, row, opinion in zip(dialogues, probs, opinions, strict=True):
        np.testing.assert_allclose(row[: len(d)], opinion.probs, atol=1e-5)
