"""Limits of memory and cores, as containers and clusters set them.

    python benchmarks/faults/containers.py [--seed=0]

A process is bound to one core, or joins a control group of Linux that is made for it, which only root may do: one with
a quota of one core, one with 1 GiB of memory, and one with both. The promise: workers and devices are as many as the
cores that the process may use; features that take over half of the memory of a device are streamed, without a word from
the user; and the results are those of the same command without a limit. No container was started: a container is a
process in such groups with another view of the file system. Exits with 1 if a promise was not kept.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.faults import commands, trainings
from benchmarks.faults.full_disk import Unavailable, files_of
from benchmarks.faults.outcomes import Row, parser, show
from jmer.runs.directory import RunDirectory

GROUPS = Path("/sys/fs/cgroup")
MEMORY = 1 << 30
EPOCHS = 2
OPTIONS = {"epochs": EPOCHS, "modalities": "text", "seeds": 2}
WIDTH, DIALOGUES, LENGTH = 50_000, 70, 20  # 280 MB of features, half of what one of two devices then has
PROBE = """
import json, jax
from jmer.base import limits
from jmer.training import devices
devices.share_cores(4)
print(json.dumps([limits.cores(), jax.local_device_count(), limits.memory()]))
"""


@contextlib.contextmanager
def group(*, memory: int = 0, cores: float = 0) -> Iterator[list[str]]:
    """Gives the command that runs another one in new control groups with these limits.

    Raises:
      Unavailable: this process may not make control groups.
    """
    name, made = f"jmer-faults-{os.getpid()}", []
    first = (GROUPS / "memory/memory.limit_in_bytes").is_file()  # of the control groups of version 1
    tops = [GROUPS / kind for kind, asked in (("memory", memory), ("cpu", cores)) if asked] if first else [GROUPS]
    quota = str(int(cores * 100_000))
    limits = {"memory.limit_in_bytes": str(memory)} if first else {"memory.max": str(memory), "memory.swap.max": "0"}
    limits = (limits if memory else {}) | (
        {} if not cores else {"cpu.cfs_quota_us": quota} if first else {"cpu.max": f"{quota} 100000"}
    )
    try:
        for top in tops:
            (top / name).mkdir()
            made.append(top / name)
            for file, text in limits.items():
                if (top / name / file).exists():
                    (top / name / file).write_text(text)
                elif not first:
                    raise Unavailable(f"{top / name} has no {file}")
    except OSError as error:
        for folder in made:
            folder.rmdir()
        raise Unavailable(f"making control groups needs rights that this process has not ({error})") from error
    joined = " && ".join(f"echo $$ > {folder / 'cgroup.procs'}" for folder in made)
    try:
        yield ["sh", "-c", f'{joined} && exec "$@"', "sh"]
    finally:
        for folder in made:
            _remove(folder)


def _remove(folder: Path) -> None:
    """Removes a control group once its last process is gone."""
    for _ in range(100):
        with contextlib.suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.1)


def rows() -> list[Row]:
    """Returns a row for each of the four cases; those that need rights which are missing are left out, and said."""
    found = []
    with tempfile.TemporaryDirectory(prefix="jmer-containers-") as name:
        folder = Path(name)
        found.append(cores("bound to one core", commands.on_cores(1)))
        try:
            with group(cores=1) as within:
                found.append(cores("a quota of one core", within))
            with group(memory=MEMORY) as within:
                found.append(_memory(folder, within))
            with group(memory=MEMORY, cores=1) as within:
                found.append(_extraction(folder, within))
        except Unavailable as error:
            print(f"control groups are left out: {error}", file=sys.stderr)
    return found


def probed(within: Sequence[str]) -> tuple[int, int, int]:
    """Returns the cores, the devices for four seeds, and the bytes of memory that a process takes itself to have."""
    command = [*within, sys.executable, "-c", PROBE]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(command, cwd=commands.ROOT, env=environment, capture_output=True, text=True, check=True)
    count, devices, memory = json.loads(done.stdout)
    return count, devices, memory


def cores(name: str, within: Sequence[str]) -> Row:
    count, devices, _ = probed(within)
    return Row(
        case=name,
        promise="one core and one device",
        outcome=f"{count} cores, {devices} devices for four seeds",
        held=(count, devices) == (1, 1),
    )


def _memory(folder: Path, within: Sequence[str]) -> Row:
    """Trains on features that are resident without the limit, and have to be streamed within."""
    *_, memory = probed(within)
    rng = np.random.default_rng(0)
    splits = {
        split: [
            replace(d, values={**d.values, "text": rng.standard_normal((len(d), WIDTH), np.float32)})
            for d in trainings.tiny.dialogues([LENGTH] * count, seed=count)
        ]
        for split, count in (("train", DIALOGUES), ("dev", 2), ("test", 2))
    }
    modalities = {m: trainings.tiny.modality(m) for m in trainings.tiny.DIMS}
    modalities["text"] = trainings.tiny.modality("text", dim=WIDTH)
    dataset = trainings.write_dataset(folder / "wide", splits=splits, modalities=modalities)
    ended = {}
    for name, limit in (("free", ()), ("limited", within)):
        place = folder / name
        training = trainings.Training(run=place / "run", folder=place, dataset=dataset, cache=folder / "cache",
                                      options=OPTIONS)  # fmt: skip
        code = training.start(marked=False, within=limit).wait()
        run = RunDirectory(training.run)
        streamed = json.loads(run.environment.read_text())["streamed"] if run.environment.is_file() else None
        ended[name] = code, streamed, _losses(run) if code == 0 else np.full(EPOCHS, np.nan)
    (free, resident, losses), (code, streamed, limited) = ended["free"], ended["limited"]
    apart = float(np.abs(losses - limited).max())
    return Row(
        case=f"{MEMORY >> 20} MiB of memory: a training on {DIALOGUES * LENGTH * WIDTH * 4 >> 20} MiB of features",
        promise="streamed, where it is resident without the limit; losses agree within 1e-05",
        outcome=f"it takes itself to have {memory >> 20} MiB; streamed: {streamed}, without the limit: {resident}; "
        f"exit code {code}, losses differ by {apart:.1g}",
        held=(free, code) == (0, 0) and memory == MEMORY and streamed is True and resident is False
        and apart <= 1e-5,
    )  # fmt: skip


def _losses(run: RunDirectory) -> np.ndarray:
    """Returns the losses of the first seed."""
    lines = map(json.loads, run.metrics.read_text().splitlines())
    return np.array([line["train_loss"] for line in lines if line["seed"] == 0])


def _extraction(folder: Path, within: Sequence[str]) -> Row:
    """Extracts the sample, and counts the processes meanwhile."""
    most, made = {}, {}
    for name, limit in (("free", ()), ("limited", within)):
        place = folder / f"extract-{name}"
        fields = {"source": "meld", "root": commands.ROOT / "data/sample", "out": place / "out",
                  "cache": place / "cache"}  # fmt: skip
        arguments = [f"--config.{field}={value}" for field, value in fields.items()]
        program = ["-m", "jmer.extract", "--quiet", f"--config={commands.ROOT / 'configs/extract/lite.py'}"]
        process, most[name] = commands.start([*program, *arguments], place, environment={}, within=limit), 0
        while process.poll() is None:
            most[name] = max(most[name], len(_workers(process)))
            time.sleep(0.05)
        if process.returncode:
            return Row(case="1 core and 1 GiB: an extraction", promise="it ends well", held=False,
                       outcome=f"exit code {process.returncode}: {commands.told(place)[-300:]}")  # fmt: skip
        made[name] = files_of(place / "out")
    same = made["free"] == made["limited"]
    return Row(
        case=f"one core and {MEMORY >> 20} MiB: an extraction",
        promise="one worker; the same dataset",
        outcome=f"{most['limited']} workers, {most['free']} without the limit; "
        f"{'the same' if same else 'another'} dataset",
        held=same and most["limited"] == 1,
    )


def _workers(process: subprocess.Popen[bytes]) -> list[int]:
    """Returns the processes of a session that Python has spawned to work for the first one."""
    found = []
    for pid in commands.session(process):
        with contextlib.suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def main() -> int:
    parser(__doc__, count=4).parse_args()
    return show("limits of cores and memory", rows())


if __name__ == "__main__":
    sys.exit(main())
