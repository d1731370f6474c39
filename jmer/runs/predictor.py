"""Prediction with trained runs, from Python: `jmer.load(run).predict(dialogue)`."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jmer.base.errors import UserError
from jmer.base.jaxsetup import take_memory_as_needed
from jmer.base.types import Dialogue, Extracted, Features, Prediction, Utterance
from jmer.corpora import sample
from jmer.dataset import store
from jmer.encoders import hub
from jmer.features import engine
from jmer.features.extractor import Extractor
from jmer.features.results import features_of, row_of
from jmer.runs import directory, starter
from jmer.runs.environment import keep_compiled, on_device
from jmer.runs.experts import Experts
from jmer.runs.given import Given, dialogue_of, utterance_of
from jmer.runs.voting import Opinion, Voters

_log = logging.getLogger(__name__)


def load(
    path: str | Path,
    *others: str | Path,
    vote: bool | None = None,
    device: str | None = None,
    encoders: str | Path | None = None,
    warmup: bool = False,
) -> "Predictor":
    """Opens a run directory for prediction, with the parameters of its best epochs, or the model that jmer ships.

    Compiled programs are kept in jmer's cache folder, so that the next process need not compile them. JAX then takes
    memory of a GPU as it needs it, unless XLA_PYTHON_CLIENT_PREALLOCATE is set or JAX already computes.

    Args:
      path: the run directory, or `starter` for the model that jmer ships.
      others: more runs. Then all seeds of all runs vote, as in `jmer.evaluate --with`.
      vote: whether the seeds of a run vote (the mean of their probabilities). By default they do where the run was
        trained with `config.vote`; otherwise the first seed predicts, and a warning is logged where there are others.
      device: where the model and the encoders run, such as `cpu`, `gpu` or `gpu:1`. By default it is JAX's first one.
      encoders: a folder with one folder for each public encoder. By default it is the one that $JMER_ENCODERS names,
        and an encoder that is not there comes from the Hugging Face hub.
      warmup: whether encoders are opened and programs compiled now, by a dialogue of the embedded sample, so that the
        first prediction is as quick as the next ones.

    Raises:
      UserError: there is no run, it has no checkpoint yet, a file of it is damaged, the runs do not fit together, JAX
        has no such device, there is no folder of encoders, or `vote` is False for several runs.
    """
    take_memory_as_needed()
    keep_compiled()
    folder = None if encoders is None else Path(encoders).expanduser()
    with hub.encoders_in(folder), on_device(device):
        predictor = Predictor(_model((path, *others), vote=vote), device=device, encoders=folder)
        if warmup:
            predictor.predict(next(iter(sample.load().splits.values()))[0])
    return predictor


def _model(paths: Sequence[str | Path], *, vote: bool | None) -> Voters | Experts:
    """Opens the model of `load`."""
    path, *others = paths
    if str(path) == starter.NAME:
        if others:
            raise UserError("the starter has experts of its own and votes with no run; load it alone, or the runs")
        return starter.open_starter()
    members = [directory.load(Path(p)) for p in (path, *others)]
    if others and vote is False:
        raise UserError("vote is False, but several runs can only predict by a vote; load one run, or leave vote out")
    if vote is None:
        vote = bool(others) or members[0].options.vote
        if not vote and members[0].options.seeds > 1:
            _log.warning(
                f"{path} holds {members[0].options.seeds} seeds, and the first one ({members[0].options.seed}) "
                "predicts; jmer.load(..., vote=True) lets all of them vote"
            )
    return Voters(members, vote=vote)


class Predictor:
    """A model with its extractors. Several threads may use it; one of them works at a time.

    labels: the label names, in the model's order.
    modalities: the modalities that the models read.
    dims: modality -> D of its features.
    """

    def __init__(self, model: Voters | Experts, *, device: str | None = None, encoders: Path | None = None):
        """Makes a predictor of a model; `device` and `encoders` are those of `load`."""
        self._model, self._device, self._encoders = model, device, encoders
        self._extractors: dict[str, Extractor] = {}
        self._left_out: dict[str, str] = {}  # modality -> why an expert of it cannot be used
        self._lock = threading.Lock()
        self.labels = model.labels
        self.modalities = tuple(model.inputs)
        self.dims = {name: modality.dim for name, modality in model.inputs.items()}

    def predict(self, dialogue: Given, *, strict: bool = False) -> list[Prediction]:
        """Returns a prediction for each utterance.

        Args:
          dialogue: of any length. A string is one utterance, and a list of strings are several of one speaker. A
            mapping may have `id`, `speaker`, `text`, `clip` (path), `start` and `end` (seconds, where the utterance is
            a part of its clip) and `features` (modality -> `[D]`). Ready features are used instead of text and clip. A
            modality whose sequence a model reads must be given as text or clip. A `jmer.Dialogue` has the same fields;
            its labels are ignored, as are features of a modality that no model reads.
          strict: whether a clip that cannot be read is an error. Otherwise its modalities are absent, and `status` and
            `reason` of the prediction say so.

        Raises:
          UserError: the dialogue is of another type, an utterance has an unknown field or a value of another type, or
            its features do not have the dim that the model reads or lack the sequence that the model also reads.
        """
        return self.predict_all([dialogue], strict=strict)[0]

    def predict_all(
        self,
        dialogues: Sequence[Given],
        *,
        strict: bool = False,
        attention: bool = False,
        progress: Callable[[int], object] = lambda done: None,
    ) -> list[list[Prediction]]:
        """Returns the predictions of several dialogues, each as `predict` takes it.

        Args:
          attention: whether the predictions say to which utterances the model's graph attended.
          progress: called with the number of inputs, out of `count_inputs`, that were read since the last call.
        """
        with self._working():
            readable = [self._readable(dialogue_of(given)) for given in dialogues]
            return self._predict(readable, strict=strict, attention=attention, progress=progress)

    def count_inputs(self, dialogues: Sequence[Given]) -> int:
        """Returns how many inputs the model reads of dialogues: each text, sound track and picture counts as one."""
        read = [dialogue_of(given) for given in dialogues]
        return sum(len(_raw(dialogue, name)) for dialogue in read for name in self.modalities)

    def stream(self, *, provisional: bool = False) -> "Stream":
        """Begins a dialogue that is predicted utterance by utterance, each at once.

        Args:
          provisional: an encoder of text that reads later turns may answer from the turns so far. An answer is then
            what `predict` says of the last utterance of the dialogue so far, and later turns might change it.

        Raises:
          UserError: a model is not causal, or looks at all earlier utterances.
        """
        with self._working():
            return Stream(self, self._model.begin(), provisional=provisional)

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        """Keeps other threads out, and works on the device and with the encoders that were asked for."""
        with self._lock, hub.encoders_in(self._encoders), on_device(self._device):
            yield

    def predict_split(self, dataset: Path, split: str) -> list[list[Prediction]]:
        """Returns the predictions of a split of a packed dataset, a list for each dialogue. Labels are not needed.

        Raises:
          UserError: there is no dataset, it is damaged or has no such split, or its features come from other extractors
            than those of the runs.
        """
        opened = store.load(dataset)
        self._model.check(opened)
        dialogues = opened.split(split)
        with self._working():
            opinions = self._model.answer(dialogues)
        return [
            [self._of_features(d, opinion, u) for u in range(len(d))]
            for d, opinion in zip(dialogues, opinions, strict=True)
        ]

    def _of_features(self, dialogue: Features, opinion: Opinion, number: int) -> Prediction:
        """Returns the prediction for an utterance that was extracted before."""
        utterance = Utterance(
            id=dialogue.utterance_ids[number], speaker=dialogue.speakers[number], text=dialogue.texts[number]
        )
        present = {name: dialogue.present[name][number] for name in self._model.inputs if name in dialogue.present}
        vectors = {name: dialogue.values[name][number] if here else None for name, here in present.items()}
        results = {name: Extracted(vector=vector) for name, vector in vectors.items()}
        return self._prediction(utterance, results, opinion, number)

    def _predict(
        self, dialogues: Sequence[Dialogue], *, strict: bool, attention: bool, progress: Callable[[int], object]
    ) -> list[list[Prediction]]:
        results = [
            engine.results_of(d, self._needed(d), dims=self.dims, strict=strict, progress=progress) for d in dialogues
        ]
        for dialogue, found in zip(dialogues, results, strict=True):
            for modality, reason in self._left_out.items():
                for i in _raw(dialogue, modality):
                    found[i][modality] = Extracted(vector=None, status="degraded", reason=reason)
        features = [self._features(d, found) for d, found in zip(dialogues, results, strict=True)]
        filled = [i for i, dialogue in enumerate(dialogues) if dialogue.utterances]
        opinions = dict(zip(filled, self._model.answer([features[i] for i in filled]), strict=True))
        predictions = [
            [
                self._prediction(utterance, found, opinions[i], u)
                for u, (utterance, found) in enumerate(zip(dialogue.utterances, results[i], strict=True))
            ]
            for i, dialogue in enumerate(dialogues)
        ]
        for i in filled if attention else ():
            predictions[i] = _attending(predictions[i], self._model.attention(features[i]))
        return predictions

    def _next(
        self,
        before: Sequence[Utterance],
        utterance: Utterance,
        answer: Callable[[Features], Opinion],
        *,
        strict: bool,
        provisional: bool,
    ) -> Prediction:
        """Returns the prediction for the next utterance of a dialogue.

        Args:
          before: the turns before, of which an extractor of text reads as many as it wants.
        """
        alone = Dialogue(id="stream", utterances=(self._readable_utterance(utterance),))
        extractors = self._needed(alone)
        for modality in extractors if not provisional else ():
            if extractors[modality].reads_later and _raw(alone, modality):
                raise UserError(
                    f"the encoder of {modality} also reads what is said later; fine-tune it with --config.causal=true, "
                    "or begin the stream with provisional=True, so that it reads the turns so far"
                )
        if text := extractors.get("text") if _raw(alone, "text") else None:
            read = len(before) if text.reads_dialogue else min(text.turns_before, len(before))
        else:
            read = 0
        whole = Dialogue(id="stream", utterances=(*before[len(before) - read :], *alone.utterances))
        found = engine.results_of(whole, extractors, dims=self.dims, strict=strict, after=read)[-1]
        for modality, reason in self._left_out.items():
            if _raw(alone, modality):
                found[modality] = Extracted(vector=None, status="degraded", reason=reason)
        return self._prediction(alone.utterances[0], found, answer(self._features(alone, [found])), 0)

    def _features(self, dialogue: Dialogue, results: Sequence[dict[str, Extracted]]) -> Features:
        sequences = engine.sequence_dims(self._extractors)
        return features_of(dialogue, results, dims=self.dims, sequence_dims=sequences, labels=())

    def _prediction(
        self, utterance: Utterance, results: dict[str, Extracted], opinion: Opinion, number: int
    ) -> Prediction:
        used = tuple(name for name in self.modalities if name in results and results[name].vector is not None)
        status, reason = row_of(utterance, results)
        given = {
            "utterance_id": utterance.id,
            "speaker": utterance.speaker,
            "text": utterance.text,
            "start": utterance.start,
            "end": utterance.end,
        }
        if not used:
            reason = f"nothing to go on: the model reads {', '.join(self.modalities)}" + (reason and f"; {reason}")
            return Prediction(**given, label="", probs={}, gates={}, status="failed", reason=reason)
        probs = opinion.probs[number]
        return Prediction(
            **given,
            label=self.labels[probs.argmax()],
            probs=dict(zip(self.labels, probs.tolist(), strict=True)),
            gates={name: float(share[number]) for name, share in opinion.shares.items()},
            modalities=used,
            status="ok" if status == "ok" else "degraded",
            reason="" if status == "ok" else reason,
        )

    def _readable(self, dialogue: Dialogue) -> Dialogue:
        """Returns a dialogue without features of a modality that no model reads."""
        return replace(dialogue, utterances=tuple(map(self._readable_utterance, dialogue.utterances)))

    def _readable_utterance(self, utterance: Utterance) -> Utterance:
        for m in utterance.features:
            if m in self._model.sequences:
                raw = "text" if m == "text" else "clip"
                raise UserError(
                    f"utterance {utterance.id}: ready {m} features, but the model reads the frames too, which only the "
                    f"{raw} gives; give that instead, or leave {m} out"
                )
        return replace(utterance, features={m: x for m, x in utterance.features.items() if m in self._model.inputs})

    def _needed(self, dialogue: Dialogue) -> dict[str, Extractor]:
        """Returns the extractors built so far, and those of modalities that an utterance gives as text or clip."""
        for name in self.modalities:
            if name in self._extractors or name in self._left_out or not _raw(dialogue, name):
                continue
            try:
                self._extractors[name] = self._model.build(name)
            except UserError as error:
                if not isinstance(self._model, Experts):
                    raise
                self._left_out[name] = str(error)
                _log.warning(f"{name} is left out: {error}")
        return self._extractors


class Stream:
    """A dialogue that goes on, made by `Predictor.stream`. Several may go on at once."""

    def __init__(self, predictor: Predictor, answer: Callable[[Features, int], Opinion], *, provisional: bool):
        """Begins the dialogue; `answer` is that of `jmer.runs.voting.Voters.begin`."""
        self._predictor, self._answer, self._provisional = predictor, answer, provisional
        self._before: list[Utterance] = []
        self._speakers: dict[str, int] = {}
        self._count = 0

    def predict(self, utterance: Utterance | str | Mapping[str, Any], *, strict: bool = False) -> Prediction:
        """Returns the prediction for the next utterance, which is one of those that `Predictor.predict` takes.

        An utterance that is refused leaves the dialogue as it was. `strict` is that of `Predictor.predict`.
        """
        with self._predictor._working():
            given = utterance_of(self._count, utterance)
            number = self._speakers.get(given.speaker, len(self._speakers))
            prediction = self._predictor._next(
                self._before,
                given,
                lambda features: self._answer(features, number),
                strict=strict,
                provisional=self._provisional,
            )
            self._count += 1
            self._speakers[given.speaker] = number
            self._before.append(Utterance(id=given.id, speaker=given.speaker, text=given.text))
            return prediction


def _attending(predictions: list[Prediction], weights: np.ndarray | None) -> list[Prediction]:
    """Returns the predictions of a dialogue with the attention `[U, U]` of its utterances; None leaves them alone."""
    if weights is None:
        return predictions
    ids = [p.utterance_id for p in predictions]
    return [
        replace(p, attention=dict(zip(ids, map(float, row), strict=True)))
        for p, row in zip(predictions, weights, strict=True)
    ]


def _raw(dialogue: Dialogue, modality: str) -> list[int]:
    """Returns the numbers of the utterances that give a modality as text or clip."""
    return [
        i
        for i, u in enumerate(dialogue.utterances)
        if modality not in u.features and (u.text.strip() if modality == "text" else u.clip)
    ]
