"""The same extraction as an Apache Beam pipeline: workers fill the cache, on one machine or many.

Features go to the cache, by content, whichever worker computes them. The pipeline therefore needs no shuffle and no
output: each worker extracts its dialogues into the cache, and the ordinary run that follows finds all features there.
That run packs the same bytes as it would have packed alone. All workers must see the cache's folder and the clips under
the same paths, and have the same releases of the libraries that decide features.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jmer.base.errors import UserError
from jmer.base.types import Corpus
from jmer.features import engine
from jmer.features.cache import Cache
from jmer.features.extractor import Extractor

_UTTERANCES = 256  # the least of an element of the pipeline, unless a split has fewer; it fills the encoders' batches


def fill_cache(
    corpus: Corpus,
    extractors: Mapping[str, Extractor],
    *,
    views: Sequence[Mapping[str, Extractor]] = (),
    digests: Mapping[Path, str],
    cache: Cache,
    options: str,
) -> None:
    """Runs the pipeline and waits for its end.

    Args:
      extractors, views, digests: as in `jmer.features.engine.extract`.
      options: Beam's own options, such as `--runner=FlinkRunner --flink_master=HOST:PORT`.

    Raises:
      UserError: Beam is not installed, or the pipeline failed.
    """
    try:
        import apache_beam as beam  # pyright: ignore[reportMissingImports] (an extra)
        from apache_beam.options.pipeline_options import PipelineOptions  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError("config.beam needs Apache Beam: pip install 'jmer[beam]', on the workers too") from error

    class Extract(beam.DoFn):
        """Extracts an element of the pipeline and yields the number of its utterances."""

        def process(self, element: tuple[Corpus, dict[Path, str]]) -> Iterator[int]:
            part, its_digests = element
            done = engine.extract(part, extractors, views=views, digests=its_digests, cache=cache, workers=0)
            yield sum(len(extraction.results) for extraction in done)

    try:
        with beam.Pipeline(options=PipelineOptions(shlex.split(options))) as pipeline:
            elements = pipeline | beam.Create(list(_parts(corpus, digests)), reshuffle=True)
            _ = elements | beam.ParDo(Extract()) | beam.CombineGlobally(sum)
    except Exception as error:  # a runner may raise any exception
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise UserError(f"the Beam pipeline failed: {lines[-1].strip()}; options were: {options}") from error


def _parts(corpus: Corpus, digests: Mapping[Path, str]) -> Iterator[tuple[Corpus, dict[Path, str]]]:
    """Yields the corpus in parts of whole dialogues, each with the digests of its clips."""
    for split, dialogues in corpus.splits.items():
        part, size = [], 0
        for dialogue in dialogues:
            part.append(dialogue)
            size += len(dialogue.utterances)
            if size >= _UTTERANCES or dialogue is dialogues[-1]:
                clips = {u.clip for d in part for u in d.utterances if u.clip}
                yield (
                    Corpus(name=corpus.name, labels=corpus.labels, splits={split: tuple(part)}),
                    {clip: digests[clip] for clip in clips & digests.keys()},
                )
                part, size = [], 0
