"""Both ends of the pipe between step_time.py and the processes that it measures; imports neither jmer nor torch.

A request is a line `{"do": NAME, ...}`, an answer a line too; a command that raises answers `{"failed": why}`.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_YNN = "--xla_cpu_experimental_ynn_fusion_type="
# The rows of jaxlib 0.12 on a CPU, with their options of XLA. By default it hands products and reductions to the
# library YNN; without YNN it can hand products to oneDNN.
NEWER = {
    "jaxlib 0.12": "",
    "jaxlib 0.12 without YNN's reductions": f"{_YNN}-reduce",
    "jaxlib 0.12 without YNN": _YNN,
    "jaxlib 0.12 with oneDNN": f"{_YNN} --xla_cpu_experimental_onednn_custom_call=true",
}


class Worker:
    """A row's process.

    about: what it said when it was ready.
    start: seconds until then: interpreter, imports, the corpus and what is built of it once.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]):
        start = time.perf_counter()
        self._process = subprocess.Popen(
            command, env=os.environ | environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.about = self._answer()
        self.start = time.perf_counter() - start

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else {"failed": f"the process ended with status {self._process.wait()}"}


def serve(about: Mapping[str, Any], commands: Mapping[str, Callable[..., Mapping[str, Any]]]) -> None:
    """Answers requests until standard input ends. What else is printed goes to standard error."""
    answers, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps(about), file=answers, flush=True)
    for line in sys.stdin:
        arguments = json.loads(line)
        try:
            answer = commands[arguments.pop("do")](**arguments)
        except Exception as error:  # a row that fails must not take the others with it
            answer = {"failed": f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"}
        print(json.dumps(answer), file=answers, flush=True)


def read_corpus(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The arrays that step_time.py wrote, and the parameters of jmer's model by their paths."""
    with np.load(path) as stored:
        file = dict(stored)
    params = {key.removeprefix("param/"): file.pop(key) for key in list(file) if key.startswith("param/")}
    return file, params


def seconds(call: Callable[[], Any], *, count: int = 1) -> float:
    """Seconds that so many calls take together; each, or the last, is to return only when its work is done."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - start
