"""An exported run: the same answers as the run, whole or refused, and not to be trained on."""

import json
import shutil

import jax
import numpy as np
import pytest
import tiny

import jmer
from jmer import evaluate, export
from jmer.base import cli, files
from jmer.runs import directory
from jmer.runs.directory import Calibration, RunDirectory
from jmer.training import checkpoint

D = tiny.dialogues([7], seed=5)[0]
GIVEN = [
    {"speaker": s, "features": {m: D.values[m][i] for m in tiny.DIMS if D.present[m][i]}}
    for i, s in enumerate(D.speakers)
]


def exported(run, out, *arguments: str):
    assert cli.run(export.main, [f"--workdir={run}", f"--out={out}", "--quiet", *arguments]) == 0
    return out


@pytest.fixture
def calibrated(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    RunDirectory(run).write_calibration(Calibration(seeds=(1.5, 2.0), vote=1.2))
    return run


@pytest.fixture(scope="module")
def averaged(tiny_dataset, tmp_path_factory):
    """A run whose three best epochs are merged by the mean of their parameters."""
    workdir = tmp_path_factory.mktemp("runs") / "averaged"
    tiny.train(
        tiny_dataset, workdir, epochs=3, keep_epochs=3, merge_epochs="average", encoder="none", graph="none",
        sequences="audio", choose="last",
    )  # fmt: skip
    return workdir


@pytest.mark.parametrize("form", ["safetensors", "orbax"])
def test_an_exported_run_answers_bit_for_bit_as_the_run(calibrated, averaged, tmp_path, form):
    for run, vote in ((calibrated, False), (calibrated, True), (averaged, None)):
        out = exported(run, tmp_path / "out", f"--format={form}")  # replaces the one before
        was, now = directory.load(run), directory.load(out)
        jax.tree.map(np.testing.assert_array_equal, (was.params, was.stats), (now.params, now.stats))
        assert (was.options, was.inputs, was.calibration, was.progress) == (
            now.options, now.inputs, now.calibration, now.progress,
        )  # fmt: skip
        if run != averaged and form == "safetensors":  # it reads frames, which ready features lack
            assert jmer.load(out, vote=vote).predict(GIVEN) == jmer.load(run, vote=vote).predict(GIVEN)
        held = {path.name for path in out.iterdir()}
        kept = {"config.json", "features.json", "environment.json", "export.json", "README.md"}
        kept |= {"calibration.json"} if run == calibrated else set()
        assert held == kept | {"model.safetensors" if form == "safetensors" else "checkpoints"}
    again = exported(out, tmp_path / "again")  # an export can be exported, in the other form too
    jax.tree.map(np.testing.assert_array_equal, directory.load(again).params, directory.load(averaged).params)
    if form == "orbax":
        folder = out / "checkpoints" / str(checkpoint.latest_epoch(out / "checkpoints"))
        assert {path.name for path in folder.iterdir() if path.is_dir()} == {"best", "progress"}


def test_only_the_epochs_that_count_are_stored(averaged, tmp_path):
    exported(averaged, tmp_path / "out")
    assert jax.tree.leaves(directory.load(tmp_path / "out").params)[0].shape[:2] == (1, 1)
    described = json.loads((tmp_path / "out/export.json").read_text())
    assert described["keep_epochs"] == 1
    assert (tmp_path / "out/model.safetensors").stat().st_size < 40_000


@pytest.mark.parametrize("form", ["safetensors", "orbax"])
def test_a_damaged_or_missing_file_is_refused_by_name(trained, tmp_path, form):
    out = exported(trained, tmp_path / "out", f"--format={form}")
    directory.load(out)
    held = [file for file in out.rglob("*") if file.is_file() and file.name not in ("README.md", ".lock")]
    assert len(held) > 4
    for file in held:
        good = file.read_bytes()
        bad = bytearray(good)
        bad[len(bad) // 2] ^= 4
        for content in (bytes(bad), good[: len(good) // 2], b""):
            if content == good:
                continue
            file.write_bytes(content)
            with pytest.raises(jmer.UserError, match=f"{file.name} is damaged"):
                directory.load(out)
        file.unlink()
        with pytest.raises(jmer.UserError, match=f"{file.name} (is missing|does not exist)"):
            directory.load(out)
        file.write_bytes(good)
    directory.load(out)
    (out / "README.md").write_text("licence: mine")  # the card is there to be completed
    directory.load(out)


def test_parameters_of_another_model_are_refused(trained, averaged, tmp_path):
    out, other = exported(trained, tmp_path / "out"), exported(averaged, tmp_path / "other")
    shutil.copy(other / "model.safetensors", out / "model.safetensors")
    described = json.loads((out / "export.json").read_text())
    described["files"]["model.safetensors"] = files.sha256(out / "model.safetensors")
    files.save_sealed(out / "export.json", described)
    with pytest.raises(jmer.UserError, match=r"model\.safetensors does not hold the parameters that config\.json"):
        directory.load(out)


def test_where_it_may_be_written(trained, averaged, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    for out, expected in (
        (tmp_path / "mine", "exists and is no folder that jmer.export has written"),
        (tmp_path / "mine/notes.txt", "exists and is no folder that jmer.export has written"),
        (averaged, "exists and is no folder that jmer.export has written"),
        (trained, "is the run itself"),
    ):
        assert cli.run(export.main, [f"--workdir={trained}", f"--out={out}"]) == 2
        assert expected in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    exported(trained, tmp_path / "empty")
    exported(trained, tmp_path / "new/deep")
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "empty", "new"}  # and no leftovers
    assert cli.run(export.main, [f"--workdir={tmp_path / 'mine'}", f"--out={tmp_path / 'x'}"]) == 2
    assert cli.run(export.main, [f"--workdir={trained}", f"--out={tmp_path / 'x'}", "--vote"]) == 2
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("form", ["safetensors", "orbax"])
def test_an_export_is_not_trained_on(tiny_dataset, trained, tmp_path, form):
    out = exported(trained, tmp_path / "out", f"--format={form}")
    for _ in range(2):
        with pytest.raises(jmer.UserError, match="holds an exported model, which cannot be trained on"):
            tiny.train(tiny_dataset, out, seeds=2, epochs=6)
        (out / "export.json").unlink(missing_ok=True)


def test_the_card_says_what_the_model_is(tiny_dataset, calibrated, tmp_path):
    card = (exported(calibrated, tmp_path / "out") / "README.md").read_text()
    assert "This run had not been evaluated when it was exported." in card
    assert cli.run(evaluate.main, [f"--workdir={calibrated}", "--split=test", "--quiet"]) == 0
    card = (exported(calibrated, tmp_path / "out") / "README.md").read_text()
    score = json.loads((calibrated / "eval/test/metrics.json").read_text())
    assert f"| test | {score['n']} | tiny | " in card
    assert f"| {score['weighted_f1']['mean']:.3f} ± {score['weighted_f1']['std']:.3f} |" in card
    for expected in (
        "calm, glad, cross", "from text, audio and video", "| text | 6 | tiny |", "the dataset `tiny`", "2 seeds",
        "their temperature is 1.500, 2.000 by seed, and 1.200 for the vote", "| the model | to be filled in |",
        "| `model.safetensors` |",
    ):  # fmt: skip
        assert expected in card, expected
    assert str(tiny_dataset.parent) not in card  # where the data lay is nobody's business
    # The exported model can be scored like the run.
    assert cli.run(evaluate.main, [f"--workdir={tmp_path / 'out'}", "--split=test", "--quiet"]) == 0
    assert json.loads((tmp_path / "out/eval/test/metrics.json").read_text())["macro_f1"] == score["macro_f1"]
    (calibrated / "eval/test/metrics.json").write_text("{")
    assert cli.run(export.main, [f"--workdir={calibrated}", f"--out={tmp_path / 'out'}"]) == 2
    directory.load(tmp_path / "out")  # the earlier export is still there
