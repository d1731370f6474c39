"""How many cores and how much memory this process may use, by its container's limits too."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import joblib

_GROUPS, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def cores(*, cgroups: Path = _GROUPS, own: Path = _OWN) -> int:
    """Returns the number of cores: by affinity, or by the tightest quota of the control groups of this process.

    joblib asks the root of the control groups alone, which is the process's own group in a container, but not in the
    job of a cluster or the unit of a service.

    Args:
      cgroups, own: as for `memory`.
    """
    quotas = (_quota(folder) for folder in _groups(cgroups, own, "cpu"))
    return min([joblib.cpu_count(), *(max(1, math.ceil(quota)) for quota in quotas if quota)])


def memory(*, cgroups: Path = _GROUPS, own: Path = _OWN) -> int:
    """Returns the bytes of memory: those of the machine, or of the tightest control group that this process is in.

    Args:
      cgroups: where the control groups of Linux are mounted, version 1 or 2.
      own: the file that names those of this process.
    """
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    names = ("memory.limit_in_bytes", "memory.max")  # of versions 1 and 2
    texts = (_text(folder / name) for folder in _groups(cgroups, own, "memory") for name in names)
    return min([physical, *(int(text) for text in texts if text.isdecimal())])  # `max` is no limit


def _groups(cgroups: Path, own: Path, controller: str) -> Iterator[Path]:
    """Yields the groups of this process that a controller of version 1 limits, and those of version 2, up to the root.

    A container sees its own group as the root.
    """
    for line in own.read_text().splitlines() if own.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = cgroups / controller if controllers else cgroups
        group = top / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(top))


def _quota(folder: Path) -> float:
    """Returns how many cores a group may use; 0 where there is no limit."""
    numbers = _text(folder / "cpu.max").split()
    numbers = numbers or [_text(folder / f"cpu.cfs_{what}_us") for what in ("quota", "period")]
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):  # `max`, or -1 in version 1
        return 0.0
    return int(numbers[0]) / int(numbers[1])


def _text(file: Path) -> str:
    """Returns what a file of a group says; empty where there is no such file."""
    return file.read_text().strip() if file.is_file() else ""
