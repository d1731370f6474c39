"""What users have asked for: waiting, being read, or done. Each has a folder that is removed after a while."""

import logging
import secrets
import shutil
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from jmer.base.errors import UserError
from jmer.pages.timeline import Shown
from jmer.serve.reader import Reader, Task

_log = logging.getLogger(__name__)


class BusyError(UserError):
    """As many jobs wait as may."""


@dataclass(kw_only=True)
class Job:
    """A task of a user.

    name: random, so that nobody can guess the address of another one's job.
    folder: holds what was uploaded.
    title: for the user.
    read, total: inputs that the model has read, and that there are; 0 while this is not known.
    message: what went wrong; empty otherwise.
    ended: when it was done or failed, by `time.monotonic`.
    """

    folder: Path
    title: str
    task: Task = field(default_factory=Task)
    state: Literal["waiting", "reading", "done", "failed"] = "waiting"
    read: int = 0
    total: int = 0
    message: str = ""
    shown: list[Shown] = field(default_factory=list)
    ended: float = 0.0

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def clips(self) -> list[Path]:
        """The videos and sounds of the answer, in the order in which pages number them."""
        return list(dict.fromkeys(clip for d in self.shown for clip in d.clips if clip is not None))


class Jobs:
    """All jobs. One thread reads them, one after another."""

    def __init__(self, reader: Reader, folder: Path, *, most: int, keep: float):
        """Starts the thread.

        Args:
          folder: for the folders of jobs.
          most: how many jobs may wait.
          keep: seconds until a job that has ended is removed.
        """
        self._reader, self._folder, self._most, self._keep = reader, folder, most, keep
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
        self._thread.start()

    def new(self, title: str) -> Job:
        """Returns a job with an empty folder, which `submit` or `discard` must be called with.

        Raises:
          BusyError: too many jobs wait, counting those that are being uploaded.
        """
        with self._changed:
            self._remove_old()
            if sum(job.state == "waiting" for job in self._jobs.values()) >= self._most:
                raise BusyError("too many others are waiting; try again in a minute")
            folder = self._folder / secrets.token_urlsafe(16)
            folder.mkdir()
            job = self._jobs[folder.name] = Job(folder=folder, title=title)
        return job

    def submit(self, job: Job, task: Task) -> None:
        """Puts a job in the queue."""
        with self._changed:
            job.task = task
            self._waiting.append(job)
            self._changed.notify()

    def discard(self, job: Job) -> None:
        """Removes a job and its files."""
        self._jobs.pop(job.name, None)
        shutil.rmtree(job.folder, ignore_errors=True)

    def find(self, name: str) -> Job | None:
        with self._changed:
            self._remove_old()
            return self._jobs.get(name)

    def ahead_of(self, job: Job) -> int:
        """Returns how many jobs are read before this one."""
        with self._changed:
            return self._waiting.index(job) + 1 if job in self._waiting else 0

    def close(self) -> None:
        """Ends the thread and the reader, and removes all files of users."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._reader.close()
        self._thread.join(5)
        for job in list(self._jobs.values()):
            self.discard(job)

    def _remove_old(self) -> None:
        for job in list(self._jobs.values()):
            if job.ended and time.monotonic() - job.ended > self._keep:
                self.discard(job)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait(self._keep)
                    self._remove_old()
                if self._closed:
                    return
                job = self._waiting.popleft()
                job.state = "reading"

            def progress(read: int, total: int, job: Job = job) -> None:
                job.read, job.total = read, total

            try:
                job.shown = self._reader.read(job.task, progress=progress)
                job.state = "done"
            except UserError as error:
                job.message, job.state = str(error), "failed"
            except Exception:  # a fault of jmer's; the next job has its chance all the same
                _log.exception(f"{job.task} raised an error")
                job.message, job.state = "an error that jmer did not foresee", "failed"
            job.ended = time.monotonic()
