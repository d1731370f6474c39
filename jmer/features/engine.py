"""Dialogues in, features out: a corpus with a cache and worker processes, or one dialogue at prediction."""

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from jmer.base.errors import UserError
from jmer.base.types import Corpus, Dialogue, Extracted, Features, Utterance
from jmer.features import inputs, worker
from jmer.features.cache import Cache
from jmer.features.extractor import Extractor, Prepared
from jmer.features.results import features_of
from jmer.features.views import SPLIT as VIEWED
from jmer.media import cutting

_Target = tuple[str, int]  # a modality and the number of a view; view 0 is the original

_AHEAD = 8  # clips that are decoded while a batch is encoded; a killed run loses them, so that they are no more
_OPEN_UTTERANCES = 4096  # utterances begun and not yet yielded, unless one dialogue has more; they hold no media


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """The features of one dialogue.

    results: of each utterance, by modality.
    views: the results of each augmented view of a train dialogue; a modality without views has the original's result.
    """

    split: str
    dialogue: Dialogue
    results: tuple[Mapping[str, Extracted], ...]
    views: tuple[tuple[Mapping[str, Extracted], ...], ...] = ()


def extract_dialogue(
    dialogue: Dialogue,
    extractors: Mapping[str, Extractor],
    *,
    labels: Sequence[str] = (),
    dims: Mapping[str, int] = MappingProxyType({}),
) -> Features:
    """Extracts one dialogue in this process, without a cache.

    Args:
      extractors: by modality.
      labels: the label set; only needed where utterances have labels.
      dims: modality -> D, of modalities that have no extractor here and come as ready features.

    Raises:
      UserError: an utterance names a clip that cannot be read, its ready features are of another width or of a modality
        that is not used, or its label is unknown.
    """
    results = results_of(dialogue, extractors, dims=dims, strict=True)
    dims = {modality: extractor.dim for modality, extractor in extractors.items()} | dict(dims)
    return features_of(dialogue, results, dims=dims, sequence_dims=sequence_dims(extractors), labels=labels)


def results_of(
    dialogue: Dialogue,
    extractors: Mapping[str, Extractor],
    *,
    dims: Mapping[str, int] = MappingProxyType({}),
    strict: bool = False,
    after: int = 0,
    progress: Callable[[int], object] = lambda done: None,
) -> list[dict[str, Extracted]]:
    """Returns what one dialogue gives in each modality, by utterance. A recording of several is decoded once.

    The arguments and the errors are those of `extract_dialogue`, except for a clip that cannot be read: it is an error
    only with `strict`, and the status `failed` otherwise. `progress` is that of `extract`. The first `after` utterances
    are there to be read around the others, and get no results.
    """
    dims = {modality: extractor.dim for modality, extractor in extractors.items()} | dict(dims)
    results: list[dict[str, Extracted]] = []
    wanted: list[dict[str, Extractor]] = []
    for number, utterance in enumerate(dialogue.utterances):
        if number < after:
            results.append({})
            wanted.append({})
            continue
        settled, todo = inputs.without_work(utterance, extractors, dims, where=dialogue.id)
        results.append(settled)
        wanted.append({modality: extractors[modality] for modality in todo})
    waiting: dict[str, list[tuple[int, Prepared]]] = {}

    def encode(modality: str) -> None:
        items = waiting.pop(modality)
        encoded = _encode(extractors[modality], [item for _, item in items], exact=False)
        for (i, _), extracted in zip(items, encoded, strict=True):
            results[i][modality] = extracted
        progress(len(items))

    for i, payloads in _prepared(dialogue, wanted):
        for modality, prepared in payloads.items():
            waiting.setdefault(modality, []).append((i, prepared))
            if len(waiting[modality]) >= extractors[modality].lookahead:
                encode(modality)
    for modality in list(waiting):
        encode(modality)
    for utterance, each in zip(dialogue.utterances, results, strict=True):
        if failed := [result.reason for result in each.values() if strict and result.status == "failed"]:
            raise UserError(
                f"{dialogue.id} {utterance.id}: clip {utterance.clip} {failed[0]}; give a video or audio "
                "file, or leave the clip out"
            )
    return results


def sequence_dims(extractors: Mapping[str, Extractor]) -> dict[str, int]:
    """Returns modality -> D', of the modalities whose sequences are kept."""
    return {modality: e.sequence_dim for modality, e in extractors.items() if e.sequence_dim}


def extract(
    corpus: Corpus,
    extractors: Mapping[str, Extractor],
    *,
    views: Sequence[Mapping[str, Extractor]] = (),
    digests: Mapping[Path, str],
    cache: Cache,
    workers: int,
    progress: Callable[[int], object] = lambda done: None,
) -> Iterator[Extraction]:
    """Yields every dialogue of the corpus, in order.

    Clips are decoded and prepared in worker processes; encoders run in this one. The number of clips and utterances in
    flight is bounded, however long the corpus is. Finished features are in the cache, so that an interrupted extraction
    continues where it stopped. A clip that crashes or hangs fails by itself, as `jmer.features.processes` says.

    Args:
      extractors: by modality; a modality that is left out is switched off.
      views: the extractors of each augmented view of the train split, by modality; a modality that is left out is not
        augmented.
      digests: SHA-256 of each clip; empty where it cannot be read. A clip without a digest is never cached, and one
        that has another digest after decoding has failed.
      workers: number of processes; with 0, this process decodes.
      progress: called with the number of features, of one utterance and extractor each, that were finished since.

    Raises:
      UserError: ready features are of another width or of a modality that is not used, the cache cannot be written, or
        no worker process can be started.
    """
    pool = worker.pool(workers)
    engine = _Engine(extractors, views=views, digests=digests, cache=cache, submit=pool.submit, progress=progress)
    try:
        yield from engine.run(corpus, in_flight=2 * workers + _AHEAD)
    except BrokenProcessPool as error:
        raise UserError(
            f"worker processes cannot be started ({error}); free memory or set --config.workers=1, and run the same "
            "command again to go on (a program of your own that calls jmer must do so under `if __name__ == "
            "'__main__':`)"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(eq=False)
class _Job:
    """An utterance in flight; it is finished when every target has a result."""

    dialogue: Dialogue
    index: int
    targets: Sequence[_Target]
    results: dict[_Target, Extracted] = field(default_factory=dict)

    @property
    def utterance(self) -> Utterance:
        return self.dialogue.utterances[self.index]

    def view(self, number: int, modalities: Iterable[str]) -> dict[str, Extracted]:
        return {m: self.results.get((m, number), self.results[m, 0]) for m in modalities}


@dataclass(eq=False)
class _Engine:
    """The state of one call of `extract`."""

    originals: Mapping[str, Extractor]
    views: Sequence[Mapping[str, Extractor]]
    digests: Mapping[Path, str]
    cache: Cache
    submit: Callable[..., Future]
    progress: Callable[[int], object]
    # The utterances of each clip in the workers; a clip is a recording of several where they have times.
    decoding: dict[Future, list[_Job]] = field(default_factory=dict)
    # Utterances of the dialogue that is being begun which are parts of a recording, by recording.
    parts: dict[Path, list[tuple[_Job, Mapping[_Target, Extractor]]]] = field(default_factory=dict)
    # Payloads that wait for a full batch of their group.
    waiting: dict[tuple[_Target, Hashable], list[tuple[_Job, Prepared]]] = field(default_factory=dict)
    begun: deque[tuple[str, Dialogue, list[_Job]]] = field(default_factory=deque)  # dialogues not yet yielded

    def __post_init__(self):
        self.dims = {modality: extractor.dim for modality, extractor in self.originals.items()}
        self.extractors: dict[_Target, Extractor] = {
            (modality, number): extractor
            for number, extractors in enumerate([self.originals, *self.views])
            for modality, extractor in extractors.items()
        }

    def run(self, corpus: Corpus, *, in_flight: int) -> Iterator[Extraction]:
        jobs, ended, opened = self._jobs(corpus), False, 0
        while not ended or self.begun:
            # The first dialogue is begun as a whole, whatever its length, since it is the next to be yielded.
            while not ended and len(self.decoding) < in_flight and (opened < _OPEN_UTTERANCES or len(self.begun) == 1):
                job = next(jobs, None)
                if job is None:
                    ended = True
                else:
                    opened += 1
                    self._begin(job)
            if (ready := self._ready()) is not None:
                self._encode(*ready)
            elif self.decoding:
                done, _ = wait(self.decoding, return_when=FIRST_COMPLETED)
                for future in done:
                    self._decoded(future)
            else:  # no further payload will come to fill the batches
                for target, group in list(self.waiting):
                    self._encode(target, group)
            while self.begun and all(len(job.results) == len(job.targets) for job in self.begun[0][2]):
                split, dialogue, done_jobs = self.begun.popleft()
                opened -= len(done_jobs)
                numbers = range(1 + (len(self.views) if split == VIEWED else 0))
                results, *views = (tuple(job.view(n, self.originals) for job in done_jobs) for n in numbers)
                yield Extraction(split=split, dialogue=dialogue, results=results, views=tuple(views))

    def _ready(self) -> tuple[_Target, Hashable] | None:
        """Returns a group that fills a batch, or the largest group of an extractor with too many waiting payloads."""
        waiting: Counter[_Target] = Counter()
        for (target, group), items in self.waiting.items():
            if len(items) >= self.extractors[target].batch(group):
                return target, group
            waiting[target] += len(items)
        for target, count in waiting.items():
            if count >= self.extractors[target].lookahead:
                return max((key for key in self.waiting if key[0] == target), key=lambda key: len(self.waiting[key]))
        return None

    def _wait(self, job: _Job, target: _Target, prepared: Prepared) -> None:
        if prepared.payload is None:
            self._settle(job, target, _without_payload(prepared))
        else:
            group = self.extractors[target].group(prepared.payload)
            self.waiting.setdefault((target, group), []).append((job, prepared))

    def _jobs(self, corpus: Corpus) -> Iterator[_Job]:
        for split, dialogues in corpus.splits.items():
            targets = [target for target in self.extractors if target[1] == 0 or split == VIEWED]
            for dialogue in dialogues:
                jobs = [_Job(dialogue, i, targets) for i in range(len(dialogue.utterances))]
                self.begun.append((split, dialogue, jobs))
                yield from jobs

    def _begin(self, job: _Job) -> None:
        """Settles the targets that need no work or are cached, and starts the others."""
        settled, _ = inputs.without_work(job.utterance, self.originals, self.dims, where=job.dialogue.id)
        todo: dict[_Target, Extractor] = {}
        for target in job.targets:
            result = settled.get(target[0]) or self._cached(job, target)
            if result is None:
                todo[target] = self.extractors[target]
            else:
                job.results[target] = result
        self.progress(len(job.results))
        tracks: dict[_Target, Extractor] = {}
        for target, extractor in todo.items():
            if extractor.modality == "text":
                self._wait(job, target, extractor.prepare(inputs.heard(job.dialogue, job.index, extractor)))
            else:
                tracks[target] = extractor
        clip, part = job.utterance.clip, cutting.part_of(job.utterance)
        if tracks:
            assert clip is not None
            if part is None:
                limit, sha256 = job.utterance.max_seconds, self.digests[clip]
                self.decoding[self.submit(worker.prepare, clip, tracks, max_seconds=limit, sha256=sha256)] = [job]
            else:
                self.parts.setdefault(clip, []).append((job, tracks))
        if job.index == len(job.dialogue.utterances) - 1:
            for recording, items in self.parts.items():
                jobs, wanted = map(list, zip(*items, strict=True))
                spans = [part for job in jobs if (part := cutting.part_of(job.utterance)) is not None]
                every = {target: extractor for each in wanted for target, extractor in each.items()}
                future = self.submit(worker.prepare_recording, recording, spans, every, sha256=self.digests[recording])
                self.decoding[future] = jobs
            self.parts.clear()

    def _decoded(self, future: Future) -> None:
        jobs = self.decoding.pop(future)
        clip = jobs[0].utterance.clip
        assert clip is not None
        try:
            done = future.result()
            found = {0: done} if cutting.part_of(jobs[0].utterance) is None else dict(done)
        except (BrokenProcessPool, UserError):
            raise
        except Exception as error:  # the clip has lost its worker
            tracks = {t: self.extractors[t] for t in jobs[0].targets if self.extractors[t].modality != "text"}
            found = dict.fromkeys(range(len(jobs)), worker.failed(error, tracks, clip=clip))
        for number, job in enumerate(jobs):
            for target, result in found[number].items():
                if target not in job.results:
                    self._wait(job, target, result)

    def _encode(self, target: _Target, group: Hashable) -> None:
        extractor, items = self.extractors[target], self.waiting.pop((target, group))
        full = extractor.batch(group)
        if items[full:]:
            self.waiting[target, group] = items[full:]
        encoded = _encode(extractor, [prepared for _, prepared in items[:full]], exact=True)
        for (job, _), extracted in zip(items[:full], encoded, strict=True):
            self._settle(job, target, extracted)

    def _settle(self, job: _Job, target: _Target, extracted: Extracted) -> None:
        key = self._key(job, target)
        if key is not None and extracted.status != "failed":  # a failed input is tried again the next time
            self.cache.put(key, self.extractors[target], extracted)
        job.results[target] = extracted
        self.progress(1)

    def _cached(self, job: _Job, target: _Target) -> Extracted | None:
        key = self._key(job, target)
        return None if key is None else self.cache.get(key, self.extractors[target])

    def _key(self, job: _Job, target: _Target) -> str | None:
        return inputs.cache_key(job.dialogue, job.index, self.extractors[target], digests=self.digests)


def _prepared(
    dialogue: Dialogue, wanted: Sequence[Mapping[str, Extractor]]
) -> Iterator[tuple[int, dict[str, Prepared]]]:
    """Runs the workers' halves of the extractors that each utterance wants in this process.

    Yields an utterance's number and payloads, once for its text and once for its clip. Utterances that are parts of one
    recording come as the recording goes on.
    """
    parts: dict[Path, list[int]] = {}
    for i, (utterance, extractors) in enumerate(zip(dialogue.utterances, wanted, strict=True)):
        tracks = {modality: extractor for modality, extractor in extractors.items() if modality != "text"}
        if "text" in extractors:
            yield i, {"text": extractors["text"].prepare(inputs.heard(dialogue, i, extractors["text"]))}
        if not tracks or utterance.clip is None:
            continue
        if cutting.part_of(utterance) is None:
            yield i, worker.prepare(utterance.clip, tracks, max_seconds=utterance.max_seconds)
        else:
            parts.setdefault(utterance.clip, []).append(i)
    for clip, members in parts.items():
        tracks = {m: extractor for i in members for m, extractor in wanted[i].items() if m != "text"}
        spans = [part for i in members if (part := cutting.part_of(dialogue.utterances[i])) is not None]
        for number, payloads in worker.prepare_parts(clip, spans, tracks):
            i = members[number]
            yield i, {modality: prepared for modality, prepared in payloads.items() if modality in wanted[i]}


def _encode(extractor: Extractor, prepared: Sequence[Prepared], *, exact: bool) -> list[Extracted]:
    """Runs the main process's half on the payloads; an input without a payload keeps its status and reason."""
    payloads = [item.payload for item in prepared if item.payload is not None]
    encoded = iter(extractor.encode(payloads, exact=exact) if payloads else ())
    results = []
    for item in prepared:
        if item.payload is None:
            results.append(_without_payload(item))
            continue
        vector, sequence = next(encoded)
        if all(np.isfinite(x).all() for x in (vector, sequence) if x is not None):
            results.append(Extracted(vector=vector, sequence=sequence, status=item.status, reason=item.reason))
        else:
            results.append(Extracted(vector=None, status="degraded", reason="the features are not finite"))
    return results


def _without_payload(prepared: Prepared) -> Extracted:
    return Extracted(vector=None, status=prepared.status, reason=prepared.reason)
