"""`python -m jmer.train` that notes what it is about, and saves every epoch. It is started by `trainings.py`.

The file that JMER_FAULTS_MARKS names gets a line for each beginning of a phase: its name, and the time. Epochs of
milliseconds are saved only now and then; here all are, so that there is much to be cut off.
"""

import functools
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from jmer import train
from jmer.base import cli

MARKS = "JMER_FAULTS_MARKS"


def mark(phase: str) -> None:
    with open(os.environ[MARKS], "a") as file:
        file.write(f"{phase} {time.monotonic():.4f}\n")


def marked(function: Callable[..., Any], before: str, after: str = "") -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        mark(before)
        result = function(*args, **kwargs)
        if after:
            mark(after)
        return result

    return call


def main(argv: Sequence[str]) -> int:
    # These modules import JAX, which is not to delay the first lines of the command.
    from jmer.runs import scoring
    from jmer.training import checkpoint, steps

    checkpoint.PAUSE = 0
    checkpoint.Checkpoints.save = marked(checkpoint.Checkpoints.save, "saving", "saved")
    steps.make_train_epoch = marked(steps.make_train_epoch, "compilation")
    scoring.calibrate = marked(scoring.calibrate, "scoring")
    code = train.main(argv)
    mark("done")
    return code


if __name__ == "__main__":
    sys.exit(cli.run(main))
