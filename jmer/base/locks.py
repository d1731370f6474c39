"""Locks between processes, so that one at a time writes a folder.

A lock is `flock` on a file, which stays in the folder. The lock ends with the process that holds it, however that ends.
On a network file system it holds between machines where the system passes `flock` on to the server, as NFS does since
Linux 2.6.12. NFS mounted with `local_lock=flock` or `nolock` keeps it on one machine, so that it then holds between the
processes of that machine alone. Where there are no locks at all, this is said and the work goes on without.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from jmer.base.errors import UserError

_log = logging.getLogger(__name__)


@contextmanager
def held(file: Path, *, refusal: str = "") -> Iterator[None]:
    """Holds a lock for the block.

    Args:
      file: the file of the lock, which is made where there is none; its folder too.
      refusal: what to tell the user where another process holds the lock. Without it, the call waits.

    Raises:
      UserError: another process holds the lock, and there is a refusal.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file, timeout=0 if refusal else -1)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(refusal) from error
    except NotImplementedError:
        _log.warning(f"{file}: this file system has no locks; start no second command that writes to {file.parent}")
    try:
        yield
    finally:
        lock.release()
