"""Two commands at once on the same folders, of which each could spoil the other's work.

    python benchmarks/faults/pairs.py [--count=20] [--seed=0]

A quarter of the pairs are two trainings into one run directory, a quarter two extractions into one dataset and one
cache, a quarter evaluations of a run while it is trained, and a quarter two downloads into one folder. The second
command of a pair starts at once or a random time later. The promise: the second waits, does the same work beside the
first, or is refused by one line and exit code 2; and what is left in the end is what one command leaves alone.

Here both commands run on one machine. On NFS the trainings and downloads are kept apart where the system passes
`flock` on to the server (`jmer.base.locks`). The dataset and the entries of the cache need no lock, since each appears
by one renaming, which NFS makes atomic too. This was not tried here. Exits with 1 if a promise was not kept.
"""

import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.faults import commands, trainings
from benchmarks.faults.full_disk import files_of
from benchmarks.faults.outcomes import Row, parser, show

sys.path.insert(0, str(commands.ROOT / "tests"))
import file_server  # pyright: ignore[reportMissingImports] (of the tests)
import meld_archive  # pyright: ignore[reportMissingImports] (of the tests)

PROMISE = "the second waits, works beside the first or is refused by one line; nothing is spoilt"
OPTIONS = {"seeds": 2, "epochs": 12}
SCORES = ("scores of test", "predictions of test", "files")  # to which an evaluation may write last


def rows(*, count: int = 20, seed: int = 0) -> list[Row]:
    """Returns a row for each kind of pair."""
    rng, each = random.Random(seed), count // 4
    with tempfile.TemporaryDirectory(prefix="jmer-pairs-") as name:
        folder = Path(name)
        subject = trainings.Subject.prepared(folder / "training", OPTIONS)
        whole = extraction(folder / "whole", "a")
        if whole.wait():
            raise RuntimeError(commands.told(folder / "whole/a"))
        packed = files_of(folder / "whole/out")
        return [
            row("two trainings into one run", lambda _: two_trainings(subject, rng), each),
            row(
                "two extractions into one dataset and cache",
                lambda i: two_extractions(folder / f"e{i}", packed, rng),
                each,
            ),
            row("evaluations while training writes", lambda _: evaluations(subject), each),
            row("two downloads into one folder", lambda i: two_downloads(folder / f"d{i}", rng), each),
        ]


def row(name: str, pair: Callable[[int], str], count: int) -> Row:
    """Tries a kind of pair so often. pair: returns what came of one, which begins with `broken` where it should not."""
    found = Counter(pair(i) for i in range(count))
    told = ", ".join(f"{n} {what}" for what, n in found.most_common())
    broken = any(what.startswith("broken") for what in found)
    return Row(case=f"{name} ({count})", promise=PROMISE, outcome=told, held=not broken)


def second(code: int, folder: Path, *, says: str) -> str:
    """Returns what became of the second command of a pair. says: part of the line by which it may be refused."""
    errors = (folder / "errors.txt").read_text()
    if code == 0:
        return "both ended well"
    if code == 2 and len(errors.splitlines()) == 1 and errors.startswith("error: ") and says in errors:
        return "refused"
    return f"broken: exit code {code}, {errors[-300:]}"


def two_trainings(subject: trainings.Subject, rng: random.Random) -> str:
    subject.forget_run()
    first = subject.training
    other = trainings.Training(run=first.run, folder=first.folder / "second", dataset=first.dataset,
                               cache=first.cache, options=first.options)  # fmt: skip
    processes = [first.start()]
    time.sleep(rng.choice((0.0, rng.uniform(0, 8))))
    processes.append(other.start())
    codes = [process.wait() for process in processes]
    if codes[0] == 2 and codes[1] == 0:  # the one that was started later was quicker
        codes, first, other = [0, 2], other, first
    if codes[0]:
        return f"broken: exit codes {codes}, {commands.told(first.folder)}"
    ended = second(codes[1], other.folder, says="another process trains into")
    ending = subject.ending()
    return ended if ending == trainings.EQUAL else f"broken: {ending}"


def extraction(folder: Path, name: str) -> subprocess.Popen[bytes]:
    """Starts an extraction of the texts of the sample. name: of the folder for what it prints."""
    fields = {"source": "sample", "root": commands.ROOT / "data/sample", "audio.model": "none",
              "video.model": "none", "out": folder / "out", "cache": folder / "cache"}  # fmt: skip
    arguments = [f"--config.{field}={value}" for field, value in fields.items()]
    program = ["-m", "jmer.extract", "--quiet", f"--config={commands.ROOT / 'configs/extract/lite.py'}", *arguments]
    return commands.start(program, folder / name, environment={})


def two_extractions(folder: Path, expected: dict[str, str], rng: random.Random) -> str:
    processes = [extraction(folder, "a")]
    time.sleep(rng.choice((0.0, rng.uniform(0, 2))))
    processes.append(extraction(folder, "b"))
    codes = [process.wait() for process in processes]
    if codes != [0, 0]:
        return f"broken: exit codes {codes}, {commands.told(folder / 'ab'[codes[0] == 0])}"
    if files_of(folder / "out") != expected:
        return "broken: another dataset"
    left = {path.name for path in folder.iterdir()} - {"a", "b", "out", "cache"}
    return f"broken: {left} is left" if left else "both ended well"


def evaluations(subject: trainings.Subject) -> str:
    """Evaluates a run again and again while it is trained and scored."""
    subject.forget_run()
    training, count = subject.training, 0
    process = training.start()
    training.wait_for("saved", process)
    program = ["-m", "jmer.evaluate", "--quiet", f"--workdir={training.run}"]
    while process.poll() is None or not count:
        folder = training.folder / "evaluation"
        if code := commands.start(program, folder, environment={"JMER_CACHE": training.cache}).wait():
            process.wait()
            return f"broken: evaluation ends with {code}, {(folder / 'errors.txt').read_text()[-300:]}"
        if fault := unlike(training.run / "eval/test"):
            process.wait()
            return f"broken: {fault}"
        count += 1
    if code := process.wait():
        return f"broken: training ends with {code}, {commands.told(training.folder)}"
    found = trainings.content(training.run)
    differing = [name for name, hashed in subject.expected.items() if found[name] != hashed and name not in SCORES]
    return f"broken: other {differing}" if differing else "all ended well"


def unlike(scores: Path) -> str:
    """Returns how the files of an evaluation differ from each other; empty if they are of the same evaluation."""
    with (scores / "predictions.csv").open(newline="") as file:
        labelled = [line for line in csv.DictReader(file) if line["label"]]
    right = sum(line["label"] == line["prediction"] for line in labelled)
    metrics = json.loads((scores / "metrics.json").read_text())
    told = metrics["accuracy"]["values"][0] * metrics["n"]
    return "" if abs(told - right) < 1e-6 else f"{right} right answers in predictions.csv, {told} in metrics.json"


def two_downloads(folder: Path, rng: random.Random) -> str:
    folder.mkdir()
    clips = meld_archive.damaged_clips()
    archive = meld_archive.write_meld_archive(folder / "x.tar.gz", clips=clips)
    with file_server.running() as server:
        server.data = archive.read_bytes()
        server.alter = lambda answer: time.sleep(1)
        program = ["-m", "jmer.download", "meld", f"--root={folder / 'root'}", f"--url={server.url}/MELD.Raw.tar.gz"]
        places = [folder / "a", folder / "b"]
        environment = {"no_proxy": "*"}
        processes = [commands.start(program, places[0], environment=environment)]
        time.sleep(rng.choice((0.0, rng.uniform(0, 3))))
        processes.append(commands.start(program, places[1], environment=environment))
        codes = [process.wait() for process in processes]
    if codes[0] == 2 and codes[1] == 0:
        codes, places = [0, 2], places[::-1]
    if codes[0]:
        return f"broken: exit codes {codes}, {commands.told(places[0])}"
    if meld_archive.read_tree(folder / "root/MELD.Raw") != meld_archive.expected_tree(clips):
        return "broken: another tree"
    return second(codes[1], places[1], says="another process downloads meld into")


def main() -> int:
    args = parser(__doc__, count=20).parse_args()
    return show("pairs of commands", rows(count=args.count, seed=args.seed))


if __name__ == "__main__":
    sys.exit(main())
