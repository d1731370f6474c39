"""How many cores and how much memory this process may use, by its container's limits too."""

import os
from pathlib import Path

import joblib


def cores() -> int:
    """Returns the number of cores, by affinity and by the quota of the container."""
    return joblib.cpu_count()


def memory(*, cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Returns the bytes of memory: those of the machine, or of the tightest control group that this process is in.

    Args:
      cgroups: where the control groups of Linux are mounted, version 1 or 2.
      own: the file that names those of this process.
    """
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *(_limits(cgroups, own.read_text()) if own.is_file() else ())])


def _limits(cgroups: Path, memberships: str) -> list[int]:
    """Returns every limit on the way from the groups of a process up to the root; a container sees its own as root."""
    limits = []
    for line in memberships.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, name = (cgroups / "memory", "memory.limit_in_bytes") if controllers else (cgroups, "memory.max")
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(top) and (folder / name).is_file():
                text = (folder / name).read_text().strip()
                limits += [int(text)] if text.isdecimal() else []  # `max` is no limit
    return limits
