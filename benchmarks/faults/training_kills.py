"""`kill -9` of a training at random instants, and the same command again, until it is done.

    python benchmarks/faults/training_kills.py [--count=50] [--seed=0]

The training of each form (one seed, two seeds, features streamed from the disk) is killed a few times in a row, at
random instants of random phases: start-up, compilation, between two saves, within a save, and while it scores. Then it
runs to its end. The promise: parameters, optimiser, RNG, position, metrics.jsonl, scores and predictions equal those of
a training that nothing disturbed, bit for bit but for measured seconds, and no file is left over. Every form begins
without compiled programs, so that some kills come while those are written. Exits with 1 if a promise was not kept.
"""

import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.faults import trainings
from benchmarks.faults.outcomes import Row, parser, show

MOST = 5  # kills of one training
EPOCHS = 12


def rows(*, count: int = 50, seed: int = 0) -> list[Row]:
    """Returns a row for each form of training, over which the kills are shared out."""
    rng, found = random.Random(seed), []
    with tempfile.TemporaryDirectory(prefix="jmer-kills-") as name:
        for i, (form, options) in enumerate(trainings.FORMS.items()):
            each = count // len(trainings.FORMS) + (i < count % len(trainings.FORMS))
            subject = trainings.Subject.prepared(Path(name) / str(i), {"epochs": EPOCHS} | dict(options))
            subject.forget_programs()
            found.append(killed(form, subject, rng, count=each))
    return found


def killed(
    form: str,
    subject: trainings.Subject,
    rng: random.Random,
    *,
    count: int,
    phases: Sequence[str] = trainings.PHASES,
) -> Row:
    """Kills trainings of one form until `count` kills are done."""
    kills, endings = Counter[str](), Counter[str]()
    while kills.total() < count:
        subject.forget_run()
        for _ in range(min(rng.randint(1, MOST), count - kills.total())):
            # Each phase has its turn, in another order every time.
            phase = min(rng.sample(phases, len(phases)), key=lambda name: kills[name])
            process = subject.training.start()
            kills[phase] += subject.reach(phase, process, rng)
            process.kill()
            process.wait()
        endings[subject.ending()] += 1
    told = ", ".join(f"{n} {what}" for what, n in endings.most_common())
    places = ", ".join(f"{kills[phase]} in {phase}" for phase in phases if kills[phase])
    return Row(
        case=f"kill -9 of a training, {form} ({kills.total()}: {places})",
        promise="all that an unbroken training leaves, bit for bit",
        outcome=f"of {endings.total()} trainings, {told}",
        held=endings.keys() == {trainings.EQUAL},
    )


def main() -> int:
    args = parser(__doc__, count=50).parse_args()
    return show("kill -9 of trainings", rows(count=args.count, seed=args.seed))


if __name__ == "__main__":
    sys.exit(main())
