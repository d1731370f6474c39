"""Every figure of accuracy in README and docs, with its command, its seeds and its seconds.

    python benchmarks/accuracy.py --work=runs/accuracy [--meld=DIR] [--ravdess=DIR] [--faces=CSV] [--text-model=DIR] \\
        [--speech-model=DIR] [--only=PART_OF_A_NAME] [--print]

A row is what one command leaves. The commands are those of docs/accuracy.md; the arguments name other places of data
and encoders. A command that is done is not run again, and a row whose data are not there is left out and named. The
table of all rows goes to benchmarks/results. Ablations have scripts of their own (ablation.py, robustness.py).
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from held_out import cell
from synthetic import machine, write

from jmer.base import files

TEXT = "sentence-transformers/all-MiniLM-L6-v2"
SPEECH = "openai/whisper-tiny.en"


@dataclass(frozen=True)
class Row:
    """A figure.

    name: data, then the model.
    commands: one after another, with `WORK/` before what they write.
    scores: the folder of scores that the last command leaves, below `WORK`.
    """

    name: str
    commands: tuple[str, ...]
    scores: str


def extract(source: str, out: str, *options: str) -> str:
    words = ["jmer.extract", "--config", "configs/extract/hf.py", f"--config.source={source}", *options]
    return " ".join([*words, f"--config.out=WORK/{out}"])


def train(config: str, dataset: str, run: str, *options: str) -> str:
    words = ["jmer.train", "--config", f"configs/{config}.py", f"--config.dataset=WORK/{dataset}", *options]
    return " ".join([*words, f"--workdir=WORK/{run}"])


def finetune(config: str, run: str, *options: str) -> str:
    words = ["jmer.finetune", "--config", f"configs/{config}.py", "--config.root=MELD", *options]
    return " ".join([*words, f"--workdir=WORK/{run}"])


TEXT_ALONE = ("--config.audio.model=none", "--config.video.model=none")
STATES = ("--config.text.layers=all", "--config.text.pooling=mean,std")
SPEECH_ALONE = (
    "--config.root=RAVDESS",
    "--config.text.model=none",
    "--config.audio.model=SPEECH",
    "--config.audio.layers=all",
    "--config.audio.pooling=mean,std",
)
LAST = extract("meld", "meld-minilm", "--config.root=MELD", "--config.text.model=TEXT", *TEXT_ALONE)
FROZEN = (
    extract("meld", "meld-frozen", "--config.root=MELD", "--config.text.model=TEXT", *STATES, *TEXT_ALONE),
    train("meld/graph", "meld-frozen", "frozen"),
)
TUNED = finetune("meld/tuned", "tuned")
GRAPH = (
    TUNED,
    extract("meld", "meld-tuned", "--config.root=MELD", "--config.text.model=WORK/tuned/model", *STATES, *TEXT_ALONE),
    train("meld/graph", "meld-tuned", "meld-graph"),
)
ACTORS = extract("ravdess_actors", "ravdess", *SPEECH_ALONE, "--config.video.model=FACES")
CLIPS = extract("ravdess", "ravdess-clips", *SPEECH_ALONE, "--config.video.model=none")
CONFIGS = (
    "gat_fusion", "bigru", "contrastive", "gfpush", "grnn", "hybrid", "rgcn_fusion", "specialist", "text_only",
    "transformer",
)  # fmt: skip
BRIEF = ("--config.seeds=5", "--config.epochs=20", "--config.patience=20")
ROWS = (
    Row("MELD: frozen", FROZEN, "frozen/eval/dev"),
    Row("MELD: frozen, vote", FROZEN, "frozen/eval/dev-vote"),
    Row("MELD: fine-tuned", (TUNED,), "tuned/eval/dev"),
    Row("MELD: fine-tuned, then graph", GRAPH, "meld-graph/eval/dev"),
    Row("MELD: fine-tuned, then graph, vote", GRAPH, "meld-graph/eval/dev-vote"),
    Row(
        "RAVDESS: speech, other clips unknown",
        (CLIPS, train("ravdess/speech", "ravdess-clips", "speech-clips")),
        "speech-clips/eval/cv",
    ),
    Row(
        "RAVDESS: speech",
        (ACTORS, train("ravdess/speech", "ravdess", "speech")),
        "speech/eval/cv",
    ),
    Row(
        "RAVDESS: speech and face, all clips",
        (ACTORS, train("ravdess/speech_face", "ravdess", "both")),
        "both/eval/cv",
    ),
    *(
        Row(f"MELD: config {name}", (LAST, train(name, "meld-minilm", name, *BRIEF)), f"{name}/eval/dev")
        for name in CONFIGS
    ),
    Row(
        "MELD: config ensemble, vote",
        (LAST, train("ensemble", "meld-minilm", "ensemble", *BRIEF)),
        "ensemble/eval/dev-vote",
    ),
)
DATA = ("MELD", "RAVDESS", "FACES")  # what commands read besides encoders
SCORES = ("weighted_f1", "macro_f1", "ece")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/accuracy"), help="where datasets and runs lie")
    parser.add_argument("--meld", default="data/MELD.Raw", help="folder of MELD's CSV files")
    parser.add_argument("--ravdess", default="data/RAVDESS", help="folder of RAVDESS's speech")
    parser.add_argument("--faces", default="faces.csv", help="ready face features of RAVDESS")
    parser.add_argument("--text-model", default=TEXT, help="encoder of text, as a directory or an id on the hub")
    parser.add_argument("--speech-model", default=SPEECH, help="encoder of speech, likewise")
    parser.add_argument("--only", default="", help="only rows whose name holds this; no table is written")
    parser.add_argument("--print", action="store_true", help="prints the commands and runs nothing")
    args = parser.parse_args(argv)
    places = {
        "WORK": str(args.work), "MELD": args.meld, "RAVDESS": args.ravdess, "FACES": args.faces,
        "TEXT": args.text_model, "SPEECH": args.speech_model,
    }  # fmt: skip
    chosen = [row for row in ROWS if args.only in row.name]
    if args.print:
        for command in dict.fromkeys(command for row in chosen for command in row.commands):
            print(f"python -m {placed(command, places)}")
        return 0
    args.work.mkdir(parents=True, exist_ok=True)
    found = []
    for row in chosen:
        lacking = [name for name in DATA if name in " ".join(row.commands) and not Path(places[name]).exists()]
        if lacking:
            print(f"{row.name}: left out, since --{lacking[0].lower()} names nothing that is there")
            continue
        seconds = [run(command, args.work, places) for command in row.commands]
        scores = json.loads((args.work / row.scores / "metrics.json").read_text())
        found.append({
            "row": row.name, "commands": row.commands, "seeds": len(scores["weighted_f1"]["values"]), "n": scores["n"],
            "seconds": seconds[-1], **{name: scores[name]["values"] for name in SCORES if name in scores},
        })  # fmt: skip
        print(" | ".join(cells(found[-1])), flush=True)
    if not args.only:
        write("accuracy", report(found), {"machine": machine(), "rows": found}, keep=True)
    return 0


def run(command: str, work: Path, places: Mapping[str, str]) -> float:
    """Runs a command, unless it is done; returns the seconds that it took when it was run."""
    file = work / "seconds.json"
    done = json.loads(file.read_text()) if file.is_file() else {}
    if command not in done:
        given = placed(command, places)
        start = time.perf_counter()
        with (work / "log.txt").open("a") as log:
            print(f"\n$ python -m {given}", file=log, flush=True)
            subprocess.run([sys.executable, "-m", *shlex.split(given)], check=True, stdout=log, stderr=log)
        done[command] = time.perf_counter() - start
        files.save_json(file, done)
    return done[command]


def placed(command: str, places: Mapping[str, str]) -> str:
    """Returns a command with the places that its names in capitals stand for."""
    return re.sub("|".join(places), lambda name: shlex.quote(places[name[0]]), command)


def cells(row: Mapping[str, Any]) -> list[str]:
    """Returns the cells of a row of the table."""
    each = [cell(row[name]) if name in row else "" for name in SCORES]
    return [row["row"], str(row["n"]), str(row["seeds"]), *each, f"{row['seconds']:.0f}"]


def report(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the lines of the table and of the commands, in Markdown."""
    head = ["row", "utterances", "seeds", "weighted F1", "macro-F1", "calibration error", "seconds"]
    table = [head, ["---"] * len(head), *map(cells, found)]
    lines = ["# Accuracy", "", machine(), "", *(f"| {' | '.join(each)} |" for each in table), ""]
    lines += ["The seconds are those of the row's last command.", "", "```bash"]
    commands = dict.fromkeys(command for row in found for command in row["commands"])
    return [*lines, *(f"python -m {command}" for command in commands), "```"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
