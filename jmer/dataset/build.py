"""From a corpus to a packed dataset directory: extraction, with its table of ok, degraded and failed rows."""

import hashlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jmer.base import cli
from jmer.base.errors import UserError
from jmer.base.paths import cache_root
from jmer.base.types import MODALITIES, Corpus, Features
from jmer.corpora import meld, sample, table
from jmer.dataset import store
from jmer.features import augment, beam, engine, registry, views, worker
from jmer.features.cache import Cache
from jmer.features.extractor import Extractor
from jmer.features.results import features_of, row_of

_REASONS_SHOWN = 20


def extract_dataset(config: Any) -> Path:
    """Extracts what `config` describes, unless that is already done, and returns the dataset directory.

    Raises:
      UserError: the source cannot be read, an option is wrong, or the output folder holds something else.
    """
    start = time.monotonic()

    # Source and extractors.
    corpus = load_source(config)
    defaults: Any = default_config()
    chosen = {
        modality: registry.from_config(
            modality,
            {**config[modality], "sequence_frames": config.sequence_frames},
            defaults={**defaults[modality], "sequence_frames": 0},
        )
        for modality in MODALITIES
    }
    extractors = {modality: extractor for modality, extractor in chosen.items() if extractor is not None}
    if not extractors:
        raise UserError("text.model, audio.model and video.model are all none, so there is nothing to extract")
    dims = {modality: extractor.dim for modality, extractor in extractors.items()}
    viewed = make_views(config, corpus, extractors)
    out = Path(config.out or default_out(config, corpus))
    if not store.is_replaceable(out):
        raise UserError(f"{out} exists and is not a dataset of jmer's; name another folder with --config.out")
    workers = config.workers or os.cpu_count() or 1

    # Has it been done?
    digests = _digests(corpus, workers) if {"audio", "video"} & set(extractors) else {}
    inputs = inputs_sha256(corpus, extractors, digests, views=viewed)
    if _is_current(out, inputs):
        _report(store.read_manifest(out))
        print(f"{out} already holds this dataset, from the same rows, clips and extractors")
        return out

    # Features stream to the dataset directory; what is noted about them comes after. Views are further splits.
    view_splits = [store.view_split(number + 1) for number in range(len(viewed))]
    counts = {split: sum(len(d.utterances) for d in dialogues) for split, dialogues in corpus.splits.items()}
    count = sum(counts.values())
    total = count * len(extractors) + sum(counts[views.SPLIT] * len(view) for view in viewed)
    cache = Cache(Path(config.cache) if config.cache else cache_root())
    sequence_dims = engine.sequence_dims(extractors)
    if config.beam:
        beam.fill_cache(corpus, extractors, views=viewed, digests=digests, cache=cache, options=config.beam)
    tally = _Tally()

    def examples() -> Iterator[tuple[str, Features]]:
        with cli.progress_bar(total=total, desc="extracting", unit=" features") as bar:
            for done in engine.extract(
                corpus, extractors, views=viewed, digests=digests, cache=cache, workers=workers, progress=bar.update
            ):
                tally.add(done, view_splits)
                here = [done.split, *view_splits][: 1 + len(done.views)]
                for split, results in zip(here, (done.results, *done.views), strict=True):
                    yield (
                        split,
                        features_of(
                            done.dialogue, results, dims=dims, sequence_dims=sequence_dims, labels=corpus.labels
                        ),
                    )

    store.write(
        out,
        dims=dims,
        sequence_dims=sequence_dims,
        splits=[*corpus.splits, *view_splits],
        examples=examples(),
        describe=lambda: {
            "name": corpus.name,
            "labels": list(corpus.labels),
            "modalities": {m: tally.describe(m, chosen[m], count) for m in MODALITIES},
            "rows": tally.rows,
            "notes": [*corpus.notes, *tally.notes()],
            "views": len(viewed),
            "augmentation": {m: e.spec["augmentation"] for view in viewed[:1] for m, e in view.items()},
            "inputs_sha256": inputs,
        },
    )
    _report(store.read_manifest(out))
    seconds = time.monotonic() - start
    print(f"{out}: {count} utterances in {seconds:.1f} s, {count / seconds:.1f} a second")
    return out


class _Tally:
    """What is noted of every dialogue, for the manifest."""

    def __init__(self):
        self.rows: list[dict[str, str]] = []
        self._absences: dict[str, Counter[str]] = {modality: Counter() for modality in MODALITIES}
        self._remarks: dict[str, Counter[str]] = {modality: Counter() for modality in MODALITIES}
        self._lost: Counter[tuple[str, str, str]] = Counter()  # what a view lacks though its original has it

    def add(self, done: engine.Extraction, view_splits: Sequence[str]) -> None:
        for utterance, results in zip(done.dialogue.utterances, done.results, strict=True):
            status, reason = row_of(utterance, results)
            where = {"split": done.split, "dialogue": done.dialogue.id, "utterance": utterance.id}
            self.rows.append(where | {"status": status, "reason": reason})
            for modality, result in results.items():
                if result.vector is None:
                    self._absences[modality][result.reason] += 1
                elif result.status == "ok" and result.reason:
                    self._remarks[modality][result.reason] += 1
        for split, of_view in zip(view_splits, done.views, strict=False):  # only train has any
            for original, results in zip(done.results, of_view, strict=True):
                for modality, result in results.items():
                    if result.vector is None and original[modality].vector is not None:
                        self._lost[split, modality, result.reason] += 1

    def describe(self, modality: str, extractor: Extractor | None, count: int) -> dict[str, Any]:
        """The manifest's entry of a modality; one that none of `count` utterances has is absent."""
        reason, absences = f"switched off by {modality}.model=none", self._absences[modality]
        if extractor is not None and absences.total() == count:
            common = ", ".join(f"{reason} ({n})" for reason, n in absences.most_common(3))
            extractor, reason = None, f"no utterance has it: {common}"
        if extractor is None:
            return {"dim": 0, "extractor": None, "fingerprint": "", "reason": reason}
        described = {"dim": extractor.dim, "extractor": extractor.spec, "fingerprint": extractor.fingerprint}
        return described | {"reason": "", "remarks": dict(sorted(self._remarks[modality].items()))}

    def notes(self) -> list[str]:
        return [
            f"{split}: {n} utterances, augmented, lack {modality}: {why}"
            for (split, modality, why), n in self._lost.items()
        ]


def sample_dataset() -> Path:
    """Extracts the embedded sample corpus with the `lite` extractors, unless that is already done."""
    return extract_dataset(default_config())


def default_config() -> ConfigDict:
    """Returns the fields of an extraction config, set to the `lite` extractors on the embedded sample corpus."""
    config = ConfigDict()
    config.source = "sample"  # sample, meld or table
    config.root = ""  # the folder of sample or meld, the CSV of table; empty: data/sample, data/MELD.Raw
    config.out = ""  # dataset directory; empty: data/packed/NAME, the name made of the source and the extractors
    config.columns = ConfigDict(dict.fromkeys(table.COLUMNS, ""))  # table's names; empty: the same
    config.labels = ()  # a table's label set in order; empty: those found, sorted
    # What follows a model is for encoders only: how tokens become a vector, of which layers, and what else they read.
    config.text = ConfigDict(
        {"model": "lite", "pooling": "mean", "layers": "-1", "max_tokens": 128, "context": 0, "speakers": True}
    )
    config.audio = ConfigDict({"model": "lite", "pooling": "mean", "layers": "-1", "window": 30})
    # Of a clip so many frames; in them the face, of several the speaker's, or (of some models) the whole frame.
    config.video = ConfigDict({"model": "lite", "frames": 8, "crop": "face", "pooling": "mean", "layers": "-1"})
    config.video.detector = ""  # path of a YuNet ONNX file; empty: OpenCV's Haar cascade
    config.video.detector_sha256 = ""
    # Of a network of face embeddings from an ONNX file: its hash, and what it wants of a picture.
    config.video.update({"sha256": "", "size": 112, "order": "rgb", "mean": "0", "scale": "1", "layout": "chw"})
    config.video.update({"output": "", "align": False})
    config.sequence_frames = 0  # how many frames of each utterance's tokens, sounds and faces to keep beside its vector
    config.views = 0  # augmented views of the train split, with other texts and sounds, for the trainer to draw from
    config.views_seed = 0
    config.lexicon = ""  # file of synonyms, a group a line; empty: jmer's own
    config.workers = 0  # processes that decode clips; 0: one a core
    config.beam = ""  # options of Apache Beam's, such as --runner=FlinkRunner, to extract by its workers
    config.cache = ""  # folder; empty: $JMER_CACHE, else jmer in $XDG_CACHE_HOME or ~/.cache
    return config.lock()


def load_source(config: Any) -> Corpus:
    """Returns the corpus that `config` names.

    Raises:
      UserError: there is no such source, or it cannot be read.
    """
    columns = {name: column for name, column in config.columns.items() if column}
    if config.source != "table" and (columns or config.labels):
        raise UserError("config.columns and config.labels are for --config.source=table; leave them out")
    if config.source == "sample":
        return sample.load(Path(config.root) if config.root else None)
    if config.source == "meld":
        return meld.load(Path(config.root or "data/MELD.Raw"))
    if config.source == "table":
        if not config.root:
            raise UserError("config.source=table needs the CSV: --config.root=FILE.csv")
        return table.load(Path(config.root), columns=columns, labels=config.labels)
    raise UserError(f"config field 'source' is '{config.source}'; expected sample, meld or table")


def make_views(config: Any, corpus: Corpus, extractors: Mapping[str, Extractor]) -> list[dict[str, Extractor]]:
    """Returns the extractors of the augmented views that `config` wants, by modality.

    Raises:
      UserError: there is nothing to augment, or the lexicon cannot be read.
    """
    count = config.views
    if not count:
        if config.lexicon:
            raise UserError("config.lexicon is for augmented views, and config.views is 0; leave it out or set both")
        return []
    if count < 0:
        raise UserError(f"config.views is {count}; expected 0 or how many augmented views to make")
    if not {"text", "audio"} & set(extractors):
        raise UserError(f"config.views is {count}, but only text and audio are augmented, and both are none")
    if views.SPLIT not in corpus.splits:
        raise UserError(f"config.views is {count}, but only a train split is augmented, and the source has none")
    lexicon = augment.read_lexicon(Path(config.lexicon) if config.lexicon else augment.BUNDLED)
    return views.views_of(extractors, count=count, seed=config.views_seed, lexicon=lexicon)


def default_out(config: Any, corpus: Corpus) -> Path:
    """`data/packed/NAME`, such as `meld-minilm-l6-v2-lite-lite`, or `sample-lite-lite-lite-views2`."""
    models = [Path(config[modality].model).name for modality in MODALITIES]
    extra = [f"{name}{config[name]}" for name in ("sequence_frames", "views") if config[name]]
    return Path("data/packed") / "-".join([corpus.name, *models, *extra])


def inputs_sha256(
    corpus: Corpus,
    extractors: Mapping[str, Extractor],
    digests: Mapping[Path, str],
    *,
    views: Sequence[Mapping[str, Extractor]] = (),
) -> str:
    """SHA-256 of all that decides what the dataset holds: rows, contents of clips, extractors, those of views too."""
    digest = hashlib.sha256()

    def add(*values: Any) -> None:
        digest.update(json.dumps(values).encode() + b"\n")

    add(store.SCHEMA_VERSION, corpus.name, corpus.labels, corpus.notes)
    add(*({modality: extractor.fingerprint for modality, extractor in each.items()} for each in (extractors, *views)))
    for split, dialogues in corpus.splits.items():
        for dialogue in dialogues:
            add(split, dialogue.id)
            for u in dialogue.utterances:
                ready = {modality: list(map(float, vector)) for modality, vector in sorted(u.features.items())}
                clip = digests.get(u.clip) if u.clip else None
                add(u.id, u.speaker, u.text, u.label, u.sentiment, clip, u.missing_clip, u.max_seconds, ready, u.notes)
    return digest.hexdigest()


def _digests(corpus: Corpus, workers: int) -> dict[Path, str]:
    """Hash of every clip. Hashing releases the interpreter's lock, so threads do."""
    paths = list(dict.fromkeys(u.clip for u in _utterances(corpus) if u.clip is not None))
    with ThreadPoolExecutor(workers) as threads:
        digests = threads.map(worker.digest, paths)
        return dict(zip(paths, cli.progress_bar(digests, total=len(paths), desc="hashing", unit=" clips"), strict=True))


def _utterances(corpus: Corpus) -> Iterable:
    for dialogues in corpus.splits.values():
        for dialogue in dialogues:
            yield from dialogue.utterances


def _is_current(out: Path, inputs: str) -> bool:
    if not (out / store.MANIFEST).is_file():
        return False
    try:
        return store.load(out).manifest["inputs_sha256"] == inputs
    except UserError as error:
        print(f"replacing {out}: {error}")
        return False


def _report(manifest: Mapping[str, Any]) -> None:
    """Prints what the corpus and its rows are like, and why."""
    for note in manifest["notes"]:
        print(f"note: {note}")
    for modality, described in manifest["modalities"].items():
        what = f"{described['dim']} features" if described["dim"] else f"absent: {described['reason']}"
        print(f"{modality}: {what}")
        for remark, n in sorted(described.get("remarks", {}).items(), key=lambda item: -item[1]):
            print(f"  {n} x {remark}")
    if manifest["views"]:
        print(f"views: {manifest['views']} of train, {' and '.join(manifest['augmentation'])} augmented")
    rows = manifest["rows"]
    print(f"\n{'split':8}{'ok':>8}{'degraded':>10}{'failed':>8}{'rows':>8}")
    for split in [*dict.fromkeys(row["split"] for row in rows), "all"]:
        counts = Counter(row["status"] for row in rows if split in (row["split"], "all"))
        print(f"{split:8}{counts['ok']:8}{counts['degraded']:10}{counts['failed']:8}{counts.total():8}")
    reasons: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        if row["reason"]:
            kind = re.sub(r"\d+", "0", row["reason"])  # the same but for its figures
            reasons.setdefault((row["status"], kind), []).append(row)
    for (status, _), group in sorted(reasons.items(), key=lambda item: -len(item[1]))[:_REASONS_SHOWN]:
        example = f"{group[0]['split']} {group[0]['utterance']}: {group[0]['reason']}"
        print(f"{status:>8} {len(group):5} x {'' if len(group) == 1 else 'like '}{example}")
    if len(reasons) > _REASONS_SHOWN:
        print(f"{len(reasons) - _REASONS_SHOWN} more reasons are in the rows of {store.MANIFEST}")
    print()
