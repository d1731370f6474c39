"""Utterances one by one: the answers of the whole dialogue, at a constant cost, and nothing from a model that peeks."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
import tiny

import jmer
from jmer.base import cli, paths
from jmer.base.options import from_config
from jmer.config import base
from jmer.features.text import lite
from jmer.nn.options import GFPushOptions, ModelOptions
from jmer.runs import streaming
from jmer.runs.directory import Run
from jmer.runs.predictor import Predictor
from jmer.runs.voting import Voters
from jmer.training.options import TrainOptions


def untrained(tmp_path, **chosen) -> Run:
    """A causal run of random parameters."""
    return tiny.untrained(tmp_path, **{"encoder": "gru", "future": 0} | chosen)


def mappings(length: int, *, seed: int = 4, speakers: int = 3) -> list[dict]:
    """A dialogue of ready features; one utterance has none at all."""
    d = tiny.dialogue(length, np.random.default_rng(seed), speakers=speakers)
    given = [
        {"id": f"u{i}", "speaker": s, "features": {m: d.values[m][i] for m in tiny.DIMS if d.present[m][i]}}
        for i, s in enumerate(d.speakers)
    ]
    return [u | {"features": {}} if i == 4 else u for i, u in enumerate(given)]


def check(found, expected):
    assert len(found) == len(expected)
    for p, q in zip(found, expected, strict=True):
        assert (p.utterance_id, p.speaker, p.modalities, p.status, p.reason) == (
            q.utterance_id, q.speaker, q.modalities, q.status, q.reason,
        )  # fmt: skip
        np.testing.assert_allclose(list(p.probs.values()), list(q.probs.values()), atol=1e-5)
        np.testing.assert_allclose(list(p.gates.values()), list(q.gates.values()), atol=1e-5)


@pytest.mark.parametrize(
    "chosen",
    [
        {"graph": "rgcn,gat", "distance_bins": "1,2"},
        {"graph": "grnn", "graph_nodes": "modality", "fusion": "late", "encoder": "none"},
        {"graph": "gfpush", "gfpush": GFPushOptions(order=2, rmax=0.01, top_k=4), "fusion": "hybrid"},
        {"graph": "none", "fusion": "early", "speaker_mean": True, "linear": True},
        {"graph": "none", "encoder": "none", "future": 5},
    ],
    ids=lambda chosen: "-".join(map(str, chosen.values())),
)
def test_answers_are_those_of_the_whole_dialogue(tmp_path, chosen):
    predictor = Predictor(Voters([untrained(tmp_path, **chosen)], vote=False))
    # More turns than the window and more speakers than there is room for at first.
    given = mappings(24, speakers=20)
    expected = predictor.predict(given)
    assert len({u["speaker"] for u in given}) > 10
    stream = predictor.stream()
    check([stream.predict(u) for u in given], expected)


def test_seeds_and_runs_vote_in_a_stream_and_streams_do_not_mix(tmp_path):
    many, one = untrained(tmp_path, seeds=2, keep=2, graph="gat"), untrained(tmp_path, graph="none", seed=5)
    predictor = Predictor(Voters([many, one], vote=True))
    first, second = mappings(8, seed=1), mappings(8, seed=2)
    streams = predictor.stream(), predictor.stream()
    found = [[s.predict(u) for s, u in zip(streams, pair, strict=True)] for pair in zip(first, second, strict=True)]
    for i, given in enumerate((first, second)):
        check([pair[i] for pair in found], predictor.predict(given))


def test_a_turn_compiles_nothing_and_remembers_no_more_than_the_last(tmp_path):
    predictor = Predictor(Voters([untrained(tmp_path, graph="rgcn,gat")], vote=False))
    stream, given = predictor.stream(), mappings(60)
    stream.predict(given[0])
    step: Any = streaming._step
    compiled, sizes = step._cache_size(), []
    for u in given[1:]:
        stream.predict(u)
        sizes.append(sum(x.nbytes for x in jax.live_arrays()))
    assert step._cache_size() == compiled
    assert len(set(sizes[10:])) == 1


@pytest.mark.parametrize(
    ("chosen", "reasons"),
    [
        ({"encoder": "bigru", "future": 2}, ["config.encoder=bigru also reads the dialogue from its end",
                                             "with config.future=2 the graph joins later utterances"]),
        ({"encoder": "transformer"}, ["config.encoder=transformer attends to every earlier utterance"]),
        ({"co_attention": True}, ["config.co_attention attends to every earlier utterance"]),
        ({"future": 1, "graph": "none", "speaker_mean": True},
         ["with config.future=1 config.speaker_mean reads later utterances"]),
    ],
)  # fmt: skip
def test_a_model_that_cannot_is_refused_with_the_options_to_train_with(tmp_path, chosen, reasons):
    run = untrained(tmp_path, encoder="none", graph="none")
    run = replace(run, options=replace(run.options, **{"encoder": "gru", "graph": "gat"} | chosen))
    predictor = Predictor(Voters([run], vote=False))
    with pytest.raises(jmer.UserError) as error:
        predictor.stream()
    message = f"{tmp_path} cannot answer utterance by utterance: {'; '.join(reasons)}; train a causal model"
    assert str(error.value).startswith(message)
    assert "config.future=0 and config.encoder=gru" in str(error.value)


def test_what_is_streamable_is_what_no_later_utterance_changes():
    """The reasons are complete: a model that has none of them is causal by its options, or has no context at all."""
    for encoder in ("none", "gru"):
        assert not ModelOptions(encoder=encoder, future=0, speaker_mean=True).not_streamable
        assert not ModelOptions(encoder=encoder, future=3, graph="none").not_streamable
        assert ModelOptions(encoder=encoder, future=3).not_streamable


def test_an_utterance_that_is_refused_leaves_the_dialogue_as_it_was(tmp_path, unchecked):
    predictor = Predictor(Voters([untrained(tmp_path)], vote=False))
    given, stream = mappings(7), predictor.stream()
    found = []
    for i, u in enumerate(given):
        if i == 3:
            wrong: Any = [{"speaker": "new", "features": {"text": np.ones(2)}}, {"speakr": "x"}, 5]
            for bad in wrong:
                with pytest.raises(jmer.UserError):
                    stream.predict(bad)
        found.append(stream.predict(u))
    check(found, predictor.predict(given))


TEXTS = [("a", "Lovely day."), ("b", "I hate you."), ("a", ""), ("c", "Fine."), ("b", "What a mess!")]


def test_texts_are_extracted_turn_by_turn(run_of_texts):
    predictor = jmer.load(run_of_texts)
    given = [{"speaker": s, "text": t} for s, t in TEXTS]
    stream = predictor.stream()
    found = [stream.predict(u) for u in given]
    expected = predictor.predict(given)
    check(found, expected)
    assert [p.text for p in found] == [t for _, t in TEXTS]
    assert stream.predict("And now?").utterance_id == "utt5"


def test_an_extractor_is_given_the_turns_before(run_of_texts, monkeypatch):
    heard = []
    prepare, cls = lite.Vader.prepare, lite.Vader
    monkeypatch.setattr(
        cls, "prepare", lambda self, turns: heard.append([t.text for t in turns]) or prepare(self, turns)
    )
    monkeypatch.setattr(cls, "turns_before", property(lambda self: 2))
    stream = jmer.load(run_of_texts).stream()
    for speaker, text in TEXTS:
        stream.predict({"speaker": speaker, "text": text})
    texts = [t for _, t in TEXTS]
    assert heard == [texts[max(0, i - 2) : i + 1] for i in range(5) if texts[i]]


def test_an_encoder_that_reads_later_turns_only_answers_provisionally(run_of_texts, monkeypatch):
    monkeypatch.setattr(lite.Vader, "reads_later", property(lambda self: True))
    predictor = jmer.load(run_of_texts)
    with pytest.raises(jmer.UserError, match=r"the encoder of text also reads what is said later; .*provisional=True"):
        predictor.stream().predict("Lovely day.")
    stream = predictor.stream(provisional=True)
    check([stream.predict("Lovely day.")], predictor.predict("Lovely day."))


def test_the_starter_answers_what_it_says_of_the_dialogue_so_far(shared):
    predictor = jmer.load("starter", encoders=shared / "weights")
    stream, given = predictor.stream(provisional=True), [{"speaker": s, "text": t} for s, t in TEXTS[1:4]]
    found = [stream.predict(u) for u in given]
    check(found, [predictor.predict(given[: i + 1])[-1] for i in range(len(given))])
    with pytest.raises(jmer.UserError, match="also reads what is said later"):
        predictor.stream().predict("I hate you.")


def test_the_config_that_comes_with_jmer_can_be_streamed():
    config = cli.load_config(paths.find_config("causal"))
    options = from_config(TrainOptions, config)
    assert not options.not_streamable
    assert replace(options, future=base().future, encoder=base().encoder) == from_config(TrainOptions, base())
