"""Training end to end on a tiny dataset: resume, determinism, seeds, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

import jmer
from jmer import evaluate, train
from jmer.base import cli
from jmer.base.types import UNLABELLED
from jmer.dataset import store
from jmer.runs import directory, fit, predictor, scoring
from jmer.training import checkpoint, metrics


@pytest.fixture(scope="module", autouse=True)
def _optax():
    """Optax raises a float to an integer power, which strict promotion forbids; our own code is strict elsewhere."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return tiny.write_dataset(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """Two seeds, four epochs, never interrupted."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    fit.fit(tiny.config(dataset, seeds=2), workdir)
    return workdir


def assert_same(a, b, *, within=0.0):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=within)


def state_of(workdir):
    """All that the last checkpoint holds, as it was saved."""
    checkpoints = checkpoint.Checkpoints(workdir / "checkpoints")
    epoch = checkpoints.latest()
    assert epoch is not None
    return checkpoints.restore(epoch, state=None, best=None)


def lines_of(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_it_learns(trained):
    lines = lines_of(trained)
    assert [(line["epoch"], line["seed"]) for line in lines] == [(e, s) for e in (1, 2, 3, 4) for s in (0, 1)]
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]
    assert {"config.json", "features.json", "environment.json", "tensorboard"} <= {p.name for p in trained.iterdir()}


@pytest.mark.parametrize("when", ["before", "after", "without its hashes"])
def test_killed_and_run_again_it_ends_with_the_same_parameters(dataset, trained, tmp_path, monkeypatch, when):
    config, save = tiny.config(dataset, seeds=2), checkpoint.Checkpoints.save

    def killed(self, epoch, **parts):
        if when != "before" or epoch != 3:
            save(self, epoch, **parts)
        if epoch == 3:
            if when == "without its hashes":
                (self.folder / "3.sha256.json").unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.Checkpoints, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        fit.fit(config, tmp_path / "run")
    monkeypatch.setattr(checkpoint.Checkpoints, "save", save)
    fit.fit(config, tmp_path / "run")
    assert_same(state_of(tmp_path / "run"), state_of(trained))
    assert lines_of(tmp_path / "run") == lines_of(trained)


def test_a_seed_alone_is_the_same_as_in_company(dataset, trained, tmp_path):
    fit.fit(tiny.config(dataset, seed=1), tmp_path / "run")
    alone, together = directory.load(tmp_path / "run"), directory.load(trained)
    assert_same(jax.tree.map(lambda x: x[0], alone.params), jax.tree.map(lambda x: x[1], together.params), within=1e-5)
    assert not np.allclose(*jax.tree.leaves(together.params)[0])  # and seeds differ


def test_the_best_epochs_are_kept_seed_by_seed():
    scores = np.array([[0.1, 0.5], [0.3, 0.6], [0.3, 0.4], [0.2, 0.1], [0.4, 0.5], [0.35, 0.9]])
    progress = {"epoch": 0, "improved_epoch": [0, 0], "best_epoch": [[0] * 2] * 2, "best_score": [[-1.0] * 2] * 2}
    for f1 in scores:
        chosen, progress = fit._choose(f1, progress, patience=3)
        assert (chosen.sum(axis=1) <= 1).all()
    # Seed 0: the later of equals; seed 1 last improved in epoch 2 and stopped looking after epoch 5.
    assert [sorted(kept) for kept in progress["best_epoch"]] == [[5, 6], [2, 5]]
    assert [sorted(kept) for kept in progress["best_score"]] == [[0.35, 0.4], [0.5, 0.6]]
    assert progress["improved_epoch"] == [5, 2]


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    """A run with the parts that the default leaves out, on data with augmented views; of one shape, to compile once."""
    splits = {"train": tiny.dialogues([5, 7, 6, 8, 5]), "dev": tiny.dialogues([5, 8], seed=2)}
    splits["train_view1"] = tiny.dialogues([5, 7, 6, 8, 5], seed=7)
    data = tiny.write_dataset(tmp_path_factory.mktemp("data") / "views", splits=splits, views=1)
    config = tiny.config(
        data, seeds=2, epochs=3, keep_epochs=2, vote=True, specialist="glad", sentiment=0.3, sampler="sqrt",
        class_weights="effective", focal_gamma=1.0, learn_graph_weight=True, logit_adjustment=0.5, fusion="hybrid",
        mixup=0.2, feature_noise=0.1, modality_dropout=0.1, modalities="text,audio", graph="gat",
    )  # fmt: skip
    config.contrastive.weight = 0.1
    config.consistency.passes = 2
    workdir = tmp_path_factory.mktemp("runs") / "rich"
    fit.fit(config, workdir)
    return workdir


def test_every_part_trains_from_the_config(rich):
    lines = lines_of(rich)
    assert all(np.isfinite(line["train_loss"]) for line in lines)
    weights = {line["graph_weight"] for line in lines}
    assert len(weights) > 3  # lambda is learnt, and told
    assert all(abs(w - 1) < 0.5 for w in weights)
    classes = json.loads((rich / "classes.json").read_text())
    assert list(classes) == list(tiny.LABELS)
    for key in ("share", "drawn_share"):
        assert sum(row[key] for row in classes.values()) == pytest.approx(1)
    assert any(row["share"] != row["drawn_share"] for row in classes.values())
    average = sum(row["weight"] * row["utterances"] for row in classes.values())
    assert average == pytest.approx(sum(row["utterances"] for row in classes.values()))


def test_seeds_epochs_and_runs_vote(rich, trained, tmp_path, capsys):
    run = directory.load(rich)
    assert jax.tree.leaves(run.params)[0].shape[:2] == (2, 2)
    dataset = store.load(Path(run.config.dataset))
    dialogues = dataset.split("dev")
    each = []  # of every seed's every kept epoch
    for s in range(2):
        for k in range(2):
            alone = replace(run, params=jax.tree.map(lambda x, s=s, k=k: x[s : s + 1, k : k + 1], run.params))
            each.append(np.concatenate([p[0] for p, _ in predictor.predict_features(alone, dialogues)]))
    assert np.abs(each[0] - each[1]).max() > 1e-3
    labels = np.concatenate([d.labels for d in dialogues])
    expected = metrics.classification_report(labels, np.mean(each, axis=0).argmax(-1), 3)
    result = scoring.evaluate([run], dataset, "dev", vote=True)
    assert result["weighted_f1"]["values"] == [expected["weighted_f1"]]
    assert "vote of all seeds" in capsys.readouterr().out

    averaged = shutil.copytree(rich, tmp_path / "averaged")
    config = json.loads((averaged / "config.json").read_text()) | {"merge_epochs": "average"}
    (averaged / "config.json").write_text(json.dumps(config))
    means = jax.tree.map(lambda x: x.mean(axis=1, keepdims=True), run.params)
    assert_same(directory.load(averaged).params, means, within=1e-7)

    # Two runs of different models; the predictor of a run that votes takes all its seeds.
    assert cli.run(evaluate.main, [f"--workdir={rich}", f"--with={trained}", "--split=dev"]) == 0
    both = json.loads((rich / "eval/dev-vote/metrics.json").read_text())
    assert both["members"] == [str(rich), str(trained)]
    d = dialogues[0]
    given = [
        {"speaker": speaker, "features": {m: d.values[m][i] for m in tiny.DIMS if d.present[m][i]}}
        for i, speaker in enumerate(d.speakers)
    ]
    heard = [{**u, "features": {m: x for m, x in u["features"].items() if m != "video"}} for u in given]
    probs = [[p.probs[label] for label in tiny.LABELS] for p in jmer.load(rich).predict(heard)]
    np.testing.assert_allclose(probs, np.mean([e[: len(d)] for e in each], axis=0), atol=1e-5)
    first = predictor.predict_features(directory.load(trained), [d])[0][0][:1]
    pooled = np.concatenate([predictor.predict_features(run, [d])[0][0], first]).mean(axis=0)
    together = jmer.load(rich, trained).predict(given)
    np.testing.assert_allclose([[p.probs[label] for label in tiny.LABELS] for p in together], pooled, atol=1e-5)
    assert set(together[0].gates) == {*tiny.DIMS, "joint"}


def test_runs_that_do_not_fit_together_do_not_vote(rich, trained, tmp_path):
    other = shutil.copytree(trained, tmp_path / "other")
    described = json.loads((other / "features.json").read_text())
    for change, message in (
        ({"labels": ["calm", "glad", "bored"]}, "only runs of one label set"),
        (
            {"modalities": described["modalities"] | {"text": tiny.modality("text", fingerprint="x")}},
            "the same features",
        ),
        ({"format": 1}, "trained by another version"),
    ):
        (other / "features.json").write_text(json.dumps(described | change))
        with pytest.raises(jmer.UserError, match=message):
            jmer.load(rich, other)


def test_evaluation_chooses_the_best_epoch_and_writes_its_files(dataset, trained, capsys):
    assert cli.run(evaluate.main, [f"--workdir={trained}", "--split=dev"]) == 0
    result = json.loads((trained / "eval/dev/metrics.json").read_text())
    best = [max(x["dev_weighted_f1"] for x in lines_of(trained) if x["seed"] == seed) for seed in (0, 1)]
    np.testing.assert_allclose(result["weighted_f1"]["values"], best, atol=1e-12)
    assert result["weighted_f1"]["mean"] == pytest.approx(np.mean(best))
    assert result["weighted_f1"]["std"] == pytest.approx(np.std(best, ddof=1))
    labels = np.concatenate([d.labels for d in store.load(dataset).split("dev")])
    assert result["n"] == (labels != UNLABELLED).sum() == np.sum(result["confusion_matrix"])
    assert result["labels"] == list(result["per_class"]) == list(tiny.LABELS)
    assert (trained / "eval/dev/confusion_matrix.png").read_bytes().startswith(b"\x89PNG")
    rows = (trained / "eval/dev/predictions.csv").read_text().splitlines()
    assert len(rows) == 1 + len(labels)
    assert "weighted F1" in capsys.readouterr().out


def test_prediction_equals_evaluation_whatever_the_mapping(dataset, trained):
    run, loaded = directory.load(trained), jmer.load(trained)
    split = store.load(dataset).split("test")
    probs = predictor.predict_features(run, split)[1][0][0]
    d = split[1]
    given = [
        {"speaker": speaker, "features": {m: d.values[m][i] for m in tiny.DIMS if d.present[m][i]}}
        for i, speaker in enumerate(d.speakers)
    ]
    found = loaded.predict(given)
    np.testing.assert_allclose([[p.probs[label] for label in tiny.LABELS] for p in found], probs, atol=1e-5)
    assert [p.label for p in found] == [tiny.LABELS[i] for i in probs.argmax(-1)]
    for p, utterance in zip(found, given, strict=True):
        assert sum(p.gates.values()) == pytest.approx(1, abs=1e-5)
        assert all(p.gates[m] == 0 for m in tiny.DIMS if m not in utterance["features"])
    assert loaded.predict([]) == []
    assert len(loaded.predict([{"speaker": "a", "features": {"audio": np.ones(5)}}] * 200)) == 200


@pytest.mark.parametrize(
    ("utterance", "message"),
    [
        ({"text": "hello"}, "utt0: no speaker"),
        ({"speaker": "a", "txt": "hello"}, "unknown field 'txt'"),
        ({"speaker": "a", "features": {"text": np.ones(5)}}, "text.*5.*6"),
        ({"speaker": "a", "features": {"smell": np.ones(5)}}, "smell"),
    ],
)
def test_bad_dialogues_are_refused(trained, utterance, message):
    with pytest.raises(jmer.UserError, match=message):
        jmer.load(trained).predict([utterance])


def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_serves(trained, tmp_path):
    workdir = shutil.copytree(trained, tmp_path / "run")
    file = max((workdir / "checkpoints/4/best").rglob("*"), key=lambda p: p.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(jmer.UserError, match=r"is damaged.*remove .*checkpoints/4 to go on"):
        directory.load(workdir)
    shutil.rmtree(workdir / "checkpoints/4")
    assert directory.load(workdir).progress["epoch"] == 3


def errors(capsys, *argv) -> str:
    """The one line that a refused command prints."""
    assert cli.run(train.main, [str(a) for a in argv]) == cli.EXIT_USER_ERROR
    err = capsys.readouterr().err.strip()
    assert err.startswith("error: ")
    assert "\n" not in err
    return err


def test_what_training_refuses(root, dataset, trained, tmp_path, capsys):
    config = f"--config={root}/configs/gat_fusion.py"
    workdir = f"--workdir={tmp_path}/run"
    data = f"--config.dataset={dataset}"
    assert "did you mean 'lr'" in errors(capsys, config, "--config.lrr=1")
    assert "nowhere does not exist" in errors(capsys, config, f"--config.dataset={tmp_path}/nowhere", workdir)
    assert "'smell' is not one of" in errors(capsys, config, data, workdir, "--config.modalities=smell")
    assert "has another" in errors(capsys, config, data, f"--workdir={trained}")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").touch()
    assert "holds no run" in errors(capsys, config, data, f"--workdir={tmp_path}/full")
    no_dev = tiny.write_dataset(tmp_path / "no_dev", splits={"train": tiny.dialogues([4])})
    assert "no dev split" in errors(capsys, config, f"--config.dataset={no_dev}", workdir)
    assert "does not exist" in errors(capsys, "--config=nowhere.py")
    assert "config.hidden is 100; expected a multiple of 2 and of config.heads (3)" in errors(
        capsys, config, data, workdir, "--config.hidden=100", "--config.heads=3"
    )
    for field, value in (("dropout", "1.0"), ("seeds", "0"), ("lr", "0"), ("heads", "0"), ("epochs", "-1")):
        assert f"config.{field} is" in errors(capsys, config, data, workdir, f"--config.{field}={value}")
    unlabelled = [replace(d, labels=np.full_like(d.labels, UNLABELLED)) for d in tiny.dialogues([4])]
    mute = [replace(d, present={**d.present, "audio": np.zeros(4, np.bool_)}) for d in tiny.dialogues([4])]
    for name, train_split, message in (("u", unlabelled, "train split has a label"), ("m", mute, "has audio; leave")):
        out = tiny.write_dataset(tmp_path / name, splits={"train": train_split, "dev": tiny.dialogues([4])})
        assert message in errors(capsys, config, f"--config.dataset={out}", workdir)
    assert not (tmp_path / "run").exists()


def test_evaluation_refuses_other_features_and_labels_and_maps_their_order(dataset, trained, tmp_path, capsys):
    def run(out, *more):
        return cli.run(evaluate.main, [f"--workdir={trained}", f"--dataset={out}", "--split=dev", *more])

    other = {m: tiny.modality(m, fingerprint="other") for m in tiny.DIMS}
    assert run(tiny.write_dataset(tmp_path / "other", modalities=other)) == 2
    assert "another extractor" in capsys.readouterr().err
    assert run(tiny.write_dataset(tmp_path / "labels", labels=("calm", "glad", "bored"))) == 2
    assert "'bored' is not in the set" in capsys.readouterr().err
    assert cli.run(evaluate.main, [f"--workdir={tmp_path}/nowhere"]) == 2
    assert "does not exist" in capsys.readouterr().err

    turned = [2, 0, 1]  # new position of each label
    labels = [tiny.LABELS[turned.index(i)] for i in range(3)]
    lookup = np.array([*turned, UNLABELLED], np.int32)
    splits = {"dev": [replace(d, labels=lookup[d.labels]) for d in store.load(dataset).split("dev")]}
    assert run(tiny.write_dataset(tmp_path / "turned", labels=labels, splits=splits)) == 0
    mapped = json.loads((trained / "eval/dev/metrics.json").read_text())
    assert run(dataset) == 0
    assert json.loads((trained / "eval/dev/metrics.json").read_text())["weighted_f1"] == mapped["weighted_f1"]


def test_compiled_programs_are_kept_where_jax_was_told_or_in_the_cache_folder(tmp_path, monkeypatch):
    name = "jax_compilation_cache_dir"
    before = jax.config.values[name]
    directory.keep_compiled()
    assert jax.config.values[name] == before  # conftest named it
    monkeypatch.setenv("JMER_CACHE", str(tmp_path))
    try:
        jax.config.update(name, None)
        directory.keep_compiled()
        assert jax.config.values[name] == str(tmp_path / "xla")
    finally:
        jax.config.update(name, before)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_loss_that_is_not_finite_stops_training(tmp_path):
    bad = tiny.dialogues([4, 4])
    bad[0].values["text"][0] = np.inf
    out = tiny.write_dataset(tmp_path / "d", splits={"train": bad, "dev": tiny.dialogues([4])})
    with pytest.raises(FloatingPointError, match="epoch 1"):
        fit.fit(tiny.config(out), tmp_path / "run")
