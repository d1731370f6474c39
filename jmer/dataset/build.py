"""From a corpus to a dataset directory: the work of `python -m jmer.extract`, as functions."""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmer.base import cli, limits
from jmer.base.errors import UserError
from jmer.base.paths import cache_root
from jmer.base.types import MODALITIES, Corpus, Features, Utterance
from jmer.corpora import meld, ravdess, sample, table
from jmer.dataset import manifest, report, store
from jmer.dataset.options import ExtractOptions, SourceOptions
from jmer.features import beam, engine, libraries, perturb, registry
from jmer.features import views as augmented
from jmer.features.cache import Cache
from jmer.features.extractor import Extractor
from jmer.features.ready import with_ready
from jmer.features.results import features_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides what a dataset holds.

    extractors: by modality; a modality that is switched off has none.
    views: the extractors of each augmented view of train, by modality.
    digests: SHA-256 of each clip, empty where it cannot be read; none where no extractor reads clips.
    """

    corpus: Corpus
    extractors: Mapping[str, Extractor]
    views: Sequence[Mapping[str, Extractor]]
    digests: Mapping[Path, str]

    @property
    def sha256(self) -> str:
        """Hash of rows, contents of clips and extractors, by which an unchanged extraction is recognised."""
        digest = hashlib.sha256()

        def add(*values: Any) -> None:
            digest.update(json.dumps(values).encode() + b"\n")

        add(manifest.SCHEMA_VERSION, self.corpus.name, self.corpus.labels, self.corpus.notes)
        add(*({m: e.fingerprint for m, e in extractors.items()} for extractors in (self.extractors, *self.views)))
        for split, dialogues in self.corpus.splits.items():
            for dialogue in dialogues:
                add(split, dialogue.id)
                for u in dialogue.utterances:
                    ready = {modality: list(map(float, vector)) for modality, vector in sorted(u.features.items())}
                    clip = self.digests.get(u.clip) if u.clip else None
                    add(
                        u.id,
                        u.speaker,
                        u.text,
                        u.label,
                        u.sentiment,
                        clip,
                        u.missing_clip,
                        u.max_seconds,
                        ready,
                        u.notes,
                        *(() if u.start is None else (u.start, u.end)),
                    )
        return digest.hexdigest()


def extract_dataset(wanted: ExtractOptions) -> Path:
    """Extracts what the options describe, unless that is already done, and returns the dataset directory.

    Raises:
      UserError: the source cannot be read, an option is wrong, or the output folder holds something else.
    """
    start = time.monotonic()
    corpus = load_source(wanted)
    extractors = make_extractors(wanted)
    corpus, extractors = with_ready(corpus, extractors)
    views = make_views(wanted, corpus, extractors)
    out = Path(wanted.out or default_out(wanted, corpus))
    manifest.check_replaceable(out)
    for note in corpus.notes:  # before hours of extraction
        _log.info(f"note: {note}")
    workers = wanted.workers or limits.cores()
    digests = _digests(corpus, workers) if {"audio", "video"} & set(extractors) else {}
    recipe = Recipe(corpus=corpus, extractors=extractors, views=views, digests=digests)
    inputs_sha256 = recipe.sha256
    if _is_current(out, inputs_sha256):
        report.show(manifest.read(out), told=corpus.notes)
        _log.info(f"{out} already holds this dataset, from the same rows, clips and extractors")
        return out
    cache = Cache(Path(wanted.cache) if wanted.cache else cache_root())
    if wanted.beam:
        beam.fill_cache(corpus, extractors, views=views, digests=digests, cache=cache, options=wanted.beam)
    _write(out, recipe, inputs_sha256=inputs_sha256, cache=cache, workers=workers)
    report.show(manifest.read(out), told=corpus.notes)
    seconds, count = time.monotonic() - start, len(_utterances(corpus))
    _log.info(f"{out}: {count} utterances in {seconds:.1f} s, {count / seconds:.1f} a second")
    return out


def sample_dataset() -> Path:
    """Extracts the embedded sample corpus with the `lite` extractors, unless that is already done."""
    return extract_dataset(ExtractOptions())


def load_source(wanted: SourceOptions) -> Corpus:
    """Returns the corpus that the options name.

    Raises:
      UserError: the source cannot be read.
    """
    if wanted.source == "sample":
        return sample.load(Path(wanted.root) if wanted.root else None)
    if wanted.source == "meld":
        return meld.load(Path(wanted.root or "data/MELD.Raw"))
    if wanted.source in ("ravdess", "ravdess_actors"):
        return ravdess.load(Path(wanted.root or "data/RAVDESS"), by_actor=wanted.source == "ravdess_actors")
    return table.load(Path(wanted.root), columns=wanted.renamed_columns, labels=wanted.labels)


def make_extractors(wanted: ExtractOptions) -> dict[str, Extractor]:
    """Returns the extractors that the options name, by modality; a modality that is switched off is left out.

    Raises:
      UserError: there is no such extractor, or an option of it is wrong.
    """
    made = {
        modality: registry.from_options(modality, getattr(wanted, modality), sequence_frames=wanted.sequence_frames)
        for modality in MODALITIES
    }
    extractors = {modality: extractor for modality, extractor in made.items() if extractor is not None}
    for extractor in extractors.values():
        _ = extractor.dim, extractor.weights  # opens the weights: a wrong file is told before any clip is hashed
    return extractors


def make_views(
    wanted: ExtractOptions, corpus: Corpus, extractors: Mapping[str, Extractor]
) -> list[dict[str, Extractor]]:
    """Returns the extractors of each augmented view that the options ask for, by modality.

    Raises:
      UserError: there is no train split to augment, or the lexicon cannot be read.
    """
    if not wanted.views:
        return []
    if augmented.SPLIT not in corpus.splits:
        raise UserError(
            f"config.views is {wanted.views}, but only a train split is augmented, and the source has none; leave the "
            "views out"
        )
    lexicon = perturb.read_lexicon(Path(wanted.lexicon) if wanted.lexicon else perturb.BUNDLED)
    return augmented.views_of(extractors, count=wanted.views, seed=wanted.views_seed, lexicon=lexicon)


def default_out(wanted: ExtractOptions, corpus: Corpus) -> Path:
    """Returns `data/packed/NAME`, such as `meld-minilm-l6-v2-lite-lite`, or `sample-lite-lite-lite-views2`."""
    models = [Path(getattr(wanted, modality).model).name for modality in MODALITIES]
    extra = [f"{name}{value}" for name in ("sequence_frames", "views") if (value := getattr(wanted, name))]
    return Path("data/packed") / "-".join([corpus.name, *models, *extra])


def _write(out: Path, recipe: Recipe, *, inputs_sha256: str, cache: Cache, workers: int) -> None:
    """Streams the features of all dialogues to the dataset directory, and then what was noted about them."""
    corpus, extractors, views = recipe.corpus, recipe.extractors, recipe.views
    tally = report.Tally()
    view_splits = [store.view_split(number + 1) for number in range(len(views))]
    store.write(
        out,
        dims={modality: extractor.dim for modality, extractor in extractors.items()},
        sequence_dims=engine.sequence_dims(extractors),
        splits=[*corpus.splits, *view_splits],
        examples=_examples(recipe, view_splits, tally, cache=cache, workers=workers),
        describe=lambda: {
            "name": corpus.name,
            "labels": list(corpus.labels),
            "modalities": {m: tally.describe(m, extractors.get(m)) for m in MODALITIES},
            "rows": tally.rows,
            "notes": [*corpus.notes, *tally.notes()],
            "views": len(views),
            "augmentation": {m: e.spec["augmentation"] for view in views[:1] for m, e in view.items()},
            "libraries": _releases([extractors, *views]),
            "inputs_sha256": inputs_sha256,
        },
    )


def _examples(
    recipe: Recipe, view_splits: Sequence[str], tally: report.Tally, *, cache: Cache, workers: int
) -> Iterator[tuple[str, Features]]:
    """Yields (split, features) of every dialogue and of its views, and notes the dialogue in the tally."""
    corpus, extractors, views = recipe.corpus, recipe.extractors, recipe.views
    dims = {modality: extractor.dim for modality, extractor in extractors.items()}
    sequence_dims = engine.sequence_dims(extractors)
    augmentable = sum(len(d.utterances) for d in corpus.splits.get(augmented.SPLIT, ()))
    total = len(_utterances(corpus)) * len(extractors) + augmentable * sum(map(len, views))
    with cli.progress_bar(total=total, desc="extracting", unit=" features") as bar:
        for done in engine.extract(
            corpus,
            extractors,
            views=views,
            digests=recipe.digests,
            cache=cache,
            workers=workers,
            progress=bar.update,
        ):
            tally.add(done, view_splits)
            splits = [done.split, *view_splits][: 1 + len(done.views)]
            for split, results in zip(splits, (done.results, *done.views), strict=True):
                yield (
                    split,
                    features_of(done.dialogue, results, dims=dims, sequence_dims=sequence_dims, labels=corpus.labels),
                )


def _releases(extractors: Sequence[Mapping[str, Extractor]]) -> dict[str, str]:
    """Returns package -> release, of the libraries that decide the features of these extractors."""
    names = {name for each in extractors for extractor in each.values() for name in extractor.libraries}
    return {name: libraries.release(name) for name in sorted(names)}


def _digests(corpus: Corpus, workers: int) -> dict[Path, str]:
    """Returns the SHA-256 of every clip. Threads do it, since hashing releases the interpreter's lock."""
    paths = list(dict.fromkeys(u.clip for u in _utterances(corpus) if u.clip is not None))
    threads = ThreadPoolExecutor(workers)
    try:
        digests = threads.map(engine.worker.digest, paths)
        return dict(zip(paths, cli.progress_bar(digests, total=len(paths), desc="hashing", unit=" clips"), strict=True))
    finally:
        threads.shutdown(wait=False, cancel_futures=True)  # an interruption does not wait for the rest of the clips


def _utterances(corpus: Corpus) -> list[Utterance]:
    return [u for dialogues in corpus.splits.values() for dialogue in dialogues for u in dialogue.utterances]


def _is_current(out: Path, inputs_sha256: str) -> bool:
    """Says whether `out` holds, undamaged, the dataset of these inputs; prints why a damaged one is replaced."""
    if not (out / manifest.MANIFEST).is_file():
        return False
    try:
        return store.load(out).manifest["inputs_sha256"] == inputs_sha256
    except UserError as error:
        _log.info(f"replacing {out}: {error}")
        return False
