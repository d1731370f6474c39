"""The process that reads what users send. It holds the model from task to task, and can be ended at any time."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from jmer.base.errors import UserError
from jmer.features import leash
from jmer.pages.timeline import Shown

_log = logging.getLogger(__name__)

_LOADING = 300.0  # seconds until the model is loaded; meanwhile JAX is imported, and encoders may be fetched


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a user asks for: the sample, or a recording, a transcript, or a recording with its transcript."""

    recording: Path | None = None
    transcript: Path | None = None


class Reader:
    """A process that is started when it is needed, and anew after it was ended. One thread may use it.

    models: of `jmer.load`: run directories, or `starter`.
    seconds: how long a task may take.
    """

    def __init__(self, models: Sequence[str | Path], *, encoders: Path | None, seconds: float):
        self._arguments = tuple(models), encoders
        self._seconds = seconds
        self._process: Any = None
        self._pipe: Connection | None = None

    def read(self, task: Task, *, progress: Callable[[int, int], object]) -> list[Shown]:
        """Returns the dialogues of a task with their predictions.

        Args:
          progress: called with how many inputs have been read, and how many there are.

        Raises:
          UserError: the files cannot be used, or the task took too long or ended the process.
        """
        pipe = self._pipe or self._start()
        deadline = time.monotonic() + self._seconds
        try:
            pipe.send(task)
            while pipe.poll(max(deadline - time.monotonic(), 0)):
                kind, value = pipe.recv()
                if kind == "progress":
                    progress(*value)
                elif kind == "done":
                    return value
                else:
                    raise UserError(value)
        except (EOFError, OSError) as error:
            self.close()
            raise UserError("the recording ended the process that read it, so it is probably damaged") from error
        self.close()
        raise UserError(f"reading took more than {self._seconds:.0f} s and was given up; give a shorter recording")

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    def _start(self) -> Connection:
        """Starts the process and waits until it has loaded the model. Raises UserError where it cannot."""
        context = get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, *self._arguments), daemon=True)
        self._process.start()
        other.close()
        try:
            kind, value = self._pipe.recv() if self._pipe.poll(_LOADING) else ("error", "it was not loaded in time")
        except EOFError:
            kind, value = "error", "the process ended while it was loaded"
        if kind != "ready":
            self.close()
            raise UserError(f"the model cannot be used: {value}")
        return self._pipe


def _serve(pipe: Connection, models: Sequence[str | Path], encoders: Path | None) -> None:
    """Runs in the process: loads the model, then works on tasks until the pipe is closed."""
    leash.end_with_parent()
    from jmer.runs import predictor  # imports JAX

    try:
        loaded = predictor.load(*models, vote=True if len(models) > 1 else None, encoders=encoders, warmup=True)
    except UserError as error:
        pipe.send(("error", str(error)))
        return
    pipe.send(("ready", None))
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            answer = ("done", _read(loaded, task, lambda *counts: pipe.send(("progress", counts))))
        except UserError as error:
            answer = ("error", str(error))
        except Exception:  # whatever a file of a stranger makes a library raise; the log has all of it
            _log.exception(f"{task} raised an error")
            answer = ("error", "the files cannot be read")
        pipe.send(answer)


def _read(loaded: Any, task: Task, progress: Callable[[int, int], object]) -> list[Shown]:
    from jmer.corpora import sample
    from jmer.runs import asked

    if task.recording is None and task.transcript is None:
        dialogues = next(iter(sample.load().splits.values()))[:1]
    elif task.recording is None:
        assert task.transcript is not None
        dialogues = asked.read([task.transcript]).dialogues
    else:
        dialogues = asked.read([task.recording], spoken=task.transcript).dialogues
    total, done = loaded.count_inputs(dialogues), 0

    def add(more: int) -> None:
        nonlocal done
        done += more
        progress(done, total)

    add(0)
    predictions = loaded.predict_all(dialogues, attention=True, progress=add)
    return [
        Shown(title=d.id, predictions=said, clips=[u.clip for u in d.utterances])
        for d, said in zip(dialogues, predictions, strict=True)
    ]
