"""What trained models lose when words are misheard, speakers unknown, speech is noisy, or faces are missing.

    python benchmarks/robustness.py --meld=data/MELD.Raw --text-run=runs/meld-graph \\
        --ravdess=data/RAVDESS --speech-run=runs/ravdess-speech --face-run=runs/ravdess-both

The models are trained on data as they are, and scored on damaged data: MELD's dev split, and the folds of RAVDESS.

    words      a tenth of the words is wrong, as a recogniser of speech gets them wrong: of these words, 60 % are
               replaced by another word of the split, 25 % are left out, and 15 % have such a word put before them
    names      nobody knows who speaks: all utterances are of one speaker
    past       an utterance is read before the next ones are said, so that the models see the dialogue up to it
    noise      white noise, its power 10 or 0 dB below the mean power of the clip
    faces      half of the faces are hidden, drawn at random; scored on the clips that have a face

The rows of the runs that are given are printed and take the place of their rows in benchmarks/results/robustness.md.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from held_out import cell, fold_runs, scores

from jmer.base.types import SAMPLE_RATE, UNNAMED, Dialogue, Features
from jmer.corpora import meld, ravdess
from jmer.features import engine, perturb, registry
from jmer.media import decoding
from jmer.runs import directory
from jmer.runs.directory import Run
from jmer.runs.scoring import dataset_of

TABLE = Path(__file__).parent / "results/robustness.md"
WRONG = 0.1  # share of the words


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meld", type=Path, help="folder of MELD's CSV files")
    parser.add_argument("--ravdess", type=Path, help="folder of RAVDESS's speech")
    parser.add_argument("--text-run", type=Path, help="run on the text of MELD")
    parser.add_argument("--speech-run", type=Path, help="cross-validated run on the speech of RAVDESS")
    parser.add_argument("--face-run", type=Path, help="cross-validated run on its speech and faces")
    args = parser.parse_args(argv)
    lines = TABLE.read_text().splitlines()
    for row in _rows(args):
        place = [line.split("|")[1:3] for line in lines].index([f" {cell} " for cell in row[:2]])
        lines[place] = f"| {' | '.join(row)} |"
        print(lines[place], flush=True)
    TABLE.write_text("\n".join([*lines, ""]))
    return 0


def _rows(args: argparse.Namespace) -> Iterator[list[str]]:
    if args.text_run:
        run = directory.load(args.text_run)
        dialogues = meld.load(args.meld).splits["dev"]
        yield _row("MELD, text", "as it is", [run], [_extracted(run, "text", dialogues)])
        yield _row("MELD, text", "10 % of the words wrong", [run], [_extracted(run, "text", misheard(dialogues))])
        yield _row("MELD, text", "names off", [run], [_extracted(run, "text", nameless(dialogues))])
        begun = _extracted(run, "text", beginnings(dialogues))
        last = [np.arange(len(d)) == len(d) - 1 for d in begun]
        yield _row("MELD, text", "past only", [run], [begun], [last])
    if args.speech_run:
        runs = fold_runs(args.speech_run)
        tested = [dataset_of(run, None).split("test") for run in runs]
        by_actor = len(tested[0][0]) > 1
        names = [[dialogue.dialogue_id for dialogue in dialogues] for dialogues in tested]
        corpus = {d.id: d for d in ravdess.load(args.ravdess, by_actor=by_actor).splits["train"]}
        yield _row("RAVDESS, speech", "as it is", runs, tested)
        for decibels in (10, 0):
            with tempfile.TemporaryDirectory() as folder:
                heard = noisy(corpus.values(), decibels, Path(folder))
                found = {f.dialogue_id: f for f in _extracted(runs[0], "audio", heard)}
            each = [[found[name] for name in fold] for fold in names]
            yield _row("RAVDESS, speech", f"noise at {decibels} dB", runs, each)
    if args.face_run:
        runs = fold_runs(args.face_run)
        tested = [dataset_of(run, None).split("test") for run in runs]
        seen = [[d.present["video"] for d in dialogues] for dialogues in tested]
        yield _row("RAVDESS, speech and face", "as it is", runs, tested, seen)
        yield _row("RAVDESS, speech and face", "half of the faces missing", runs, hidden(tested), seen)


def misheard(dialogues: Iterable[Dialogue]) -> list[Dialogue]:
    """Returns dialogues with a tenth of their words replaced, left out or preceded by another word."""
    rng, dialogues = np.random.default_rng(0), list(dialogues)
    words = [word for d in dialogues for u in d.utterances for word in u.text.split()]

    def changed(text: str) -> str:
        kept = []
        for word in text.split():
            draw = rng.random() / WRONG  # below 1 for a wrong word
            other = words[rng.integers(len(words))]
            kept += [other] if draw < 0.6 else [] if draw < 0.85 else [other, word] if draw < 1 else [word]
        return " ".join(kept)

    return [replace(d, utterances=tuple(replace(u, text=changed(u.text)) for u in d.utterances)) for d in dialogues]


def nameless(dialogues: Iterable[Dialogue]) -> list[Dialogue]:
    """Returns dialogues all of whose utterances are of one speaker."""
    return [replace(d, utterances=tuple(replace(u, speaker=UNNAMED) for u in d.utterances)) for d in dialogues]


def beginnings(dialogues: Iterable[Dialogue]) -> Iterator[Dialogue]:
    """Yields each dialogue up to its first utterance, up to its second, and so on."""
    for d in dialogues:
        for stop in range(1, len(d.utterances) + 1):
            yield replace(d, utterances=d.utterances[:stop])


def noisy(dialogues: Iterable[Dialogue], decibels: float, folder: Path) -> Iterator[Dialogue]:
    """Yields dialogues whose clips are copies with white noise, written to a folder."""
    rng = np.random.default_rng(0)
    for dialogue in dialogues:
        utterances = []
        for u in dialogue.utterances:
            file = folder / f"{u.id}.wav"
            wave = decoding.decode(u.clip, frames=0).wave if u.clip else None
            if wave is None:
                raise ValueError(f"{u.id} has no sound")
            wave = perturb.add_noise(wave, rng, snr_db=decibels)
            soundfile.write(file, wave / max(1, np.abs(wave).max()), SAMPLE_RATE, subtype="FLOAT")
            utterances.append(replace(u, clip=file))
        yield replace(dialogue, utterances=tuple(utterances))


def hidden(folds: Sequence[Sequence[Features]]) -> list[list[Features]]:
    """Returns dialogues half of whose faces are marked absent."""
    rng = np.random.default_rng(0)

    def without(d: Features) -> Features:
        return replace(d, present={**d.present, "video": d.present["video"] & (rng.random(len(d)) < 0.5)})

    return [[without(d) for d in dialogues] for dialogues in folds]


def _extracted(run: Run, modality: str, dialogues: Iterable[Dialogue]) -> list[Features]:
    """Returns the features of dialogues, as the extractor of a run reads them."""
    extractor = registry.build(run.inputs.modalities[modality].extractor)
    return [engine.extract_dialogue(d, {modality: extractor}, labels=run.inputs.labels) for d in dialogues]


def _row(
    model: str,
    data: str,
    runs: Sequence[Run],
    tested: Sequence[Sequence[Features]],
    scored: Sequence[Sequence[np.ndarray]] | None = None,
) -> list[str]:
    """Returns the cells of a row: the scores of all runs' dialogues together, mean and deviation over the seeds.

    Args:
      tested: for each run, the dialogues that it is given.
      scored: for each of these, which utterances count; all by default.
    """
    every = [[np.ones(len(d), np.bool_) for d in dialogues] for dialogues in tested]
    chosen = np.concatenate([mask for masks in scored or every for mask in masks])
    return [model, data, str(chosen.sum()), *map(cell, scores(runs, tested, chosen))]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
