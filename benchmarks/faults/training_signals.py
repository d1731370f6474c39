"""SIGTERM and SIGINT to a running training, at random instants.

    python benchmarks/faults/training_signals.py [--count=20] [--seed=0] [--phase=compilation]

Each signal comes `count` times, shared out over the phases of a training: start-up, compilation, epochs and scoring;
in turn to the process alone and to its process group, which is what Ctrl-C in a terminal does. The promise: exit code
75 within 10 s and no process left. A signal that comes before Python has loaded jmer ends the process as it ends any
other. The next command goes on in the same folder, and whenever it gets to the end, the training has to equal an
unbroken one bit for bit. Exits with 1 if a promise was not kept.
"""

import functools
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.faults import commands, trainings
from benchmarks.faults.outcomes import Row

PHASES = ("start-up", "compilation", "epochs", "scoring")
SIGNALS = (signal.SIGTERM, signal.SIGINT)
OPTIONS = {"seeds": 2, "epochs": 12}


def rows(*, count: int = 20, seed: int = 0, phases: Sequence[str] = PHASES) -> list[Row]:
    """Sends `count` of each signal, shared out over the phases."""
    with tempfile.TemporaryDirectory(prefix="jmer-signals-") as name:
        subject = trainings.Subject.prepared(Path(name), OPTIONS)
        return signalled(subject, random.Random(seed), count=count, phases=phases)


def signalled(
    subject: trainings.Subject,
    rng: random.Random,
    *,
    count: int,
    phases: Sequence[str],
    signals: Sequence[signal.Signals] = SIGNALS,
) -> list[Row]:
    """Returns a row for each signal in each phase, and one for the trainings that came of it all."""
    found, endings = [], Counter[str]()

    def anew() -> None:
        endings[subject.ending()] += 1
        subject.forget_run()

    for i, phase in enumerate(phases):
        each = count // len(phases) + (i < count % len(phases))
        for number in signals if each else ():
            sent = functools.partial(once, phase, number, subject, rng)
            found.append(commands.interrupted(phase, number, count=each, once=sent, anew=anew))
    endings[subject.ending()] += 1
    told = ", ".join(f"{n} {what}" for what, n in endings.most_common())
    found.append(
        Row(
            case="the command once more",
            promise="all that an unbroken training leaves, bit for bit",
            outcome=f"of {endings.total()} trainings, {told}",
            held=endings.keys() == {trainings.EQUAL},
        )
    )
    if not all(row.held for row in found):
        print(commands.told(subject.training.folder), file=sys.stderr)
    return found


def once(
    phase: str, number: signal.Signals, subject: trainings.Subject, rng: random.Random, *, group: bool
) -> commands.Ended | None:
    """Starts the command, sends it one signal, and waits for its end; None if it was done before."""
    if phase == "compilation":
        subject.forget_programs()
    process = subject.training.start(marked=phase != "start-up")  # otherwise it is the command that users call
    if not subject.reach(phase, process, rng):
        process.wait()
        return None
    sent = time.monotonic()
    ended = commands.interrupt(process, number, group=group)
    done = [at for name, at in subject.training.marks() if name == "done"]
    # The work was done when the signal came, and only the interpreter was left to end.
    return None if ended.code == 0 and done and done[0] < sent else ended


def main() -> int:
    return commands.count_signals(__doc__, "signals to training", rows, phases=PHASES)


if __name__ == "__main__":
    sys.exit(main())
