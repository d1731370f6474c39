"""Predicts the emotion of every utterance of a video, a sound, a transcript, a table or a text.

    python -m jmer.predict talk.mp4 --transcript=talk.srt [--out=talk.json]
    python -m jmer.predict --text="I hate you." --workdir=runs/x

An input is a video or a sound, with or without a transcript; a folder of them, where a transcript of the same name may
lie beside a clip; a transcript alone; a table with one row an utterance, for which labels and splits are not needed; or
a packed dataset with --split. --out writes the predictions to a file, whose suffix names the format: .csv, .json, .srt,
.vtt, .rttm, .TextGrid, or .html for a page with a timeline beside the video.

The model is the starter, which jmer ships, or a run of jmer.train; several --workdir vote. The starter reads texts and
sounds by two public encoders. They are fetched from the Hugging Face hub, or lie in the folder that --encoders or
$JMER_ENCODERS names.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from jmer.base import cli
from jmer.base.errors import UserError

_log = logging.getLogger("jmer.predict")


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__, prog="jmer predict", status_apart=True)
    parser.add_argument("inputs", nargs="*", type=Path, metavar="INPUT", help="what is predicted")
    parser.add_argument(
        "--workdir", type=Path, action="append", default=[], help="run directory of jmer.train; repeatable"
    )
    parser.add_argument("--model", choices=("starter",), default="starter", help="model that jmer ships")
    parser.add_argument("--encoders", type=Path, help="folder with one folder for each public encoder")
    parser.add_argument("--device", help="device of JAX, such as cpu, gpu or gpu:1 (default: the first one)")
    parser.add_argument("--transcript", type=Path, help="who says what, and when, in the one recording")
    parser.add_argument("--text", action="append", default=[], help="an utterance; repeatable, for a dialogue")
    parser.add_argument("--split", help="of a packed dataset")
    parser.add_argument("--out", type=Path, help="file for the predictions")
    parser.add_argument("--embed", action="store_true", help="copies videos and sounds into the page of --out=x.html")
    parser.add_argument("--vote", action="store_true", help="all seeds of the run vote")
    parser.add_argument("--strict", action="store_true", help="exit with 3 if anything was damaged or missing")
    args = cli.parse(parser, argv)

    # Mistakes in the arguments and in the files are reported before JAX is imported, which takes seconds.
    from jmer.dataset.manifest import MANIFEST
    from jmer.encoders import hub
    from jmer.pages.timeline import Shown
    from jmer.runs import answers, asked

    with hub.encoders_in(args.encoders):
        pass  # checks the folder
    datasets = [path for path in args.inputs if (path / MANIFEST).is_file()]
    if bool(datasets) != bool(args.split) or (datasets and (len(args.inputs) > 1 or args.text or args.transcript)):
        raise UserError(
            "a packed dataset is predicted by itself and needs --split, such as "
            "'jmer predict data/packed/my --split=test'"
        )
    found = None if datasets else asked.read(args.inputs, spoken=args.transcript, texts=args.text)
    dialogues = found.dialogues if found else ()
    for note in found.notes if found else ():
        _log.info(note)
    if args.out:
        answers.check(args.out, [u for d in dialogues for u in d.utterances])

    from jmer.runs import predictor

    models = args.workdir or [args.model]
    _log.info(f"loading {', '.join(map(str, models))}")
    vote = True if args.vote else None
    loaded = predictor.load(*models, vote=vote, device=args.device, encoders=args.encoders)
    if found is None:
        predictions = loaded.predict_split(datasets[0], args.split)
    else:
        page = args.out is not None and args.out.suffix.lower() == answers.PAGE
        _log.info(f"predicting {sum(len(d.utterances) for d in dialogues)} utterances")
        with cli.progress_bar(total=loaded.count_inputs(dialogues), desc="reading", unit=" inputs") as bar:
            predictions = loaded.predict_all(dialogues, attention=page, progress=bar.update)
    flat = [prediction for each in predictions for prediction in each]
    print(answers.table(flat))
    if args.out:
        titles = [d.id for d in dialogues] or [f"dialogue {i + 1}" for i in range(len(predictions))]
        clips = [[u.clip for u in d.utterances] for d in dialogues] or [[]] * len(predictions)
        shown = [Shown(title=t, predictions=p, clips=c) for t, p, c in zip(titles, predictions, clips, strict=True)]
        answers.write(args.out, shown, embed=args.embed)
        _log.info(f"wrote {args.out}")
    return cli.EXIT_FAILED_ROWS if args.strict and any(p.status != "ok" for p in flat) else cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
