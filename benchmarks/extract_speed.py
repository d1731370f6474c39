"""How quick feature extraction is: jmer's extractors against Hugging Face's PyTorch, on one machine in one run.

    python benchmarks/extract_speed.py --meld=DIR_OF_CSVS --sounds=DIR --clips DIR DIR --text-model=DIR \\
        --speech-model=DIR --torch-python=PYTHON --newer-python=PYTHON

A row of encoders is run as (a) PyTorch, one utterance after the other, as feature extraction scripts do; (b) PyTorch
in batches of 32 texts, or 8 sounds or clips, as they arrive, padded to the longest; and as jmer's engine does it, from
an empty cache, its writing included. Each is run in float32 and in bfloat16: PyTorch by autocast, jmer by the option
`precision` of its extractors. All read their inputs themselves, run on the same `--threads` cores with as many
threads, and each measurement in a fresh process, by turns; the median of `--repeats` counts. `start` is what comes
before the clock starts: imports, reading the weights, and a batch of every shape, which compiles it. Memory is the sum
of the peaks of a measurement's processes. `--torch-python` is an interpreter with torch, transformers 4 and soundfile;
`--newer-python` is one with jmer and jaxlib 0.12, which needs Python 3.12, and whose rows have options of XLA.

Run it on a quiet machine: PyTorch, whose threads wait for each other, loses most by noise. The table says how much of
the machine other processes took, and what a CPU second did.

    MiniLM     `--texts` texts of MELD's train split in their order; the vectors must agree with (a)
    speech     `--count` sounds of the lengths of MELD's first utterances, made of `--sounds` one after the other, cut;
               Whisper as published, 30 s a sound, and without the silence; wav2vec2-base with random weights and
               fewer layers
    ViT        ViT-base with random weights, 8 faces a clip; the encoder alone, on faces found before
    lite       one core, in one process; video from decoding to the vector
    video      seconds of clip that are decoded in a second, and decoded and searched for faces; one core
    idle       clips through Whisper and the face network, decoded in worker processes. Idle is how much of the time in
               which the main process encodes, or could as clips for a full batch are there, it does not

The table goes to benchmarks/results, with rows that lose or miss their target.
"""

import argparse
import csv
import datetime
import importlib.util
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from safetensors.numpy import save_file
from step_worker import NEWER

from jmer.encoders import published

BENCHMARKS = Path(__file__).parent
RESULTS = BENCHMARKS / "results"
RATE = 16_000
RIVALS = ("(a)", "(b)", "(a), bfloat16", "(b), bfloat16")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meld", type=Path, required=True, help="folder with train_sent_emo.csv")
    parser.add_argument("--sounds", type=Path, required=True, help="folder of 16 kHz speech files")
    parser.add_argument("--clips", type=Path, required=True, nargs="+", help="folders of clips of a talking face")
    parser.add_argument("--text-model", type=Path, required=True)
    parser.add_argument("--speech-model", type=Path, required=True, help="a Whisper encoder")
    parser.add_argument("--torch-python", default=sys.executable if importlib.util.find_spec("torch") else "")
    parser.add_argument("--newer-python", default="")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--texts", type=int, default=1500)
    parser.add_argument("--count", type=int, default=200, help="sounds; Whisper's 30 s are run on a quarter")
    parser.add_argument("--layers", type=int, default=4, help="of wav2vec2-base's 12")
    parser.add_argument("--rows", default="", help="only rows whose name holds this; nothing is written")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        rows = make_rows(args, Path(folder))
        for repeat in range(args.repeats):
            for row in rows:
                for way, job in row.jobs.items():
                    result = measure(job, Path(folder), rival=args.torch_python if way in RIVALS else "")
                    row.results.setdefault(way, []).append(result)
                    print(f"{repeat} {row.name} {way}: {result}", file=sys.stderr, flush=True)
                row.check()
    report = table(args, rows)
    print(report)
    if not args.rows:
        (RESULTS / "extract_speed.md").write_text(report)
        kept = [{"row": row.name, "ways": row.results, "differences": row.differences} for row in rows]
        (RESULTS / "extract_speed.json").write_text(
            json.dumps({"about": about(args, rows), "rows": kept}, indent=1) + "\n"
        )
    return 0


# ---- rows: what is measured, on what ---------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Row:
    """jobs: what is run, by way. targets: which figure is to be at least how much. results: of every repeat, by way.

    against: whether it has rivals.
    """

    name: str
    count: int
    jobs: dict[str, dict[str, Any]]
    against: bool = False
    unit: str = "utterances/s"
    targets: dict[str, float] = field(default_factory=dict)
    results: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)

    def check(self) -> None:
        """Compares the vectors of the last repeat with those of (a)."""
        vectors = {way: np.load(job["out"]) for way, job in self.jobs.items() if "(a)" in self.jobs}
        for way in set(vectors) - {"(a)"}:
            self.differences[way] = float(np.abs(vectors[way] - vectors["(a)"]).max())

    def rates(self, way: str) -> list[float]:
        return [result.get("length", self.count) / result["seconds"] for result in self.results.get(way, ())]

    def figures(self) -> dict[str, float]:
        """What targets are about: the median rate, how many times those of the rivals it is, and busy encoders."""
        rate = {way: statistics.median(self.rates(way)) for way in self.results}
        figures = {f"x {way}": rate["jmer"] / rate[way] for way in rate if way != "jmer" and "jmer" in rate}
        busy = [1 - result["idle"] for result in self.results.get("jmer", ()) if "idle" in result]
        return figures | {self.unit: rate.get("jmer", 0.0)} | ({"busy": statistics.median(busy)} if busy else {})


def make_rows(args: argparse.Namespace, folder: Path) -> list[Row]:
    """The rows; their inputs are written to `folder`."""
    with (args.meld / "train_sent_emo.csv").open(encoding="utf-8-sig", newline="") as stream:
        lines = list(csv.DictReader(stream))
    texts = [line["Utterance"] for line in lines[: args.texts]]
    sounds = write_sounds(args.sounds, [seconds(line) for line in lines[: args.count]], folder)
    clips = {
        source: [str(p) for p in sorted(source.iterdir()) if p.suffix in (".mpg", ".mp4")] for source in args.clips
    }
    every = [file for files in clips.values() for file in files]
    whisper, base, vit = folder / "whisper", folder / "wav2vec2", folder / "vit"
    write_safetensors(args.speech_model, whisper)
    made, faces = bool(args.torch_python), str(folder / "faces.npz")
    if made:
        job = {"kind": "make", "folder": str(folder), "layers": args.layers, "threads": args.threads}
        measure(job, folder, rival=args.torch_python)
        job = {"kind": "faces", "inputs": every, "model": str(vit), "out": faces, "threads": args.threads}
        measure(job, folder)
    rows: list[Row] = []

    def add(name: str, *, jobs: dict[str, dict[str, Any]], inputs: Any, threads: int = 1, **kwargs: Any) -> None:
        common = {"inputs": inputs, "threads": threads}
        jobs = {way: common | {"out": str(folder / f"{len(rows)} {way}.npy")} | job for way, job in jobs.items()}
        count = len(inputs) if isinstance(inputs, list) else len(every)
        if args.rows in name:
            rows.append(Row(name=name, jobs=jobs, count=count, **kwargs))

    def against(
        name: str, kind: str, cls: str, model: Path, inputs: Any, *, batch: int, targets: Any = None, **options: Any
    ) -> None:
        jobs: dict[str, dict[str, Any]] = {}
        if made:
            for way in RIVALS:
                size = 1 if "(a)" in way else batch
                jobs[way] = {"kind": kind, "model": str(model), "batch": size, "bfloat16": "bfloat16" in way}
        if made or model not in (base, vit):
            job = {"cls": cls, "options": {"model": str(model), **options}, "workers": 0}
            jobs["jmer"] = job | {"kind": "vit" if kind == "vit" else "extract"}
            rounded = {"options": job["options"] | {"precision": "bfloat16"}}
            jobs["jmer, bfloat16"] = jobs["jmer"] | rounded
            if args.newer_python:
                newer = jobs["jmer"] | {"python": args.newer_python}
                jobs |= {f"jmer, {way}": newer | {"flags": flags} for way, flags in NEWER.items()}
                jobs["jmer, bfloat16, jaxlib 0.12"] = newer | rounded | {"flags": NEWER["jaxlib 0.12"]}
        add(name, jobs=jobs, inputs=inputs, threads=args.threads, against=True, targets=targets or {})

    def alone(name: str, cls: str, inputs: list[str], *, targets: Any = None, **options: Any) -> None:
        job = {"kind": "extract", "cls": cls, "options": options, "workers": 0}
        add(name, jobs={"jmer": job}, inputs=inputs, targets=targets or {})

    few = sounds[: args.count // 4]
    speech, mean = {"x (b)": 1.2}, f"wav2vec2-base, {args.layers} layers"
    against("MiniLM", "text", "HFText", args.text_model, texts, batch=32, targets={"x (a)": 4.0, "x (b)": 1.5})
    against(mean, "wav2vec2", "HFAudio", base, sounds, batch=8, targets=speech)
    against("Whisper tiny, 30 s a sound", "whisper", "HFAudio", whisper, few, batch=8, targets=speech, window=30)
    against("Whisper tiny, no silence", "whisper", "HFAudio", whisper, few, batch=8, targets=speech)
    against("ViT-base, 8 faces a clip", "vit", "HFVideo", vit, faces, batch=8)
    vectors = folder / "vectors.txt"
    words = sorted({word for text in texts for word in text.lower().split()})
    vectors.write_text("".join(f"{word}{' 0.25' * 300}\n" for word in words))
    for cls in ("LiteText", "Vader"):
        alone(f"text: {cls}", cls, texts)
    alone("text: word vectors of 300", "Glove", texts, model=str(vectors))
    for cls in ("LiteAudio", "MFCC", "LogMel", "Prosody"):
        alone(f"audio: {cls}", cls, sounds, targets={"utterances/s": 20.0})
    for source, files in clips.items():
        files = files * -(-4 // len(files))  # of a few clips, several times
        alone(f"video: LiteVideo, {source.name}", "LiteVideo", files)
        for frames, faces_too in itertools.product((8, 0), (False, True)):
            name = (
                f"video: {'decoding and faces' if faces_too else 'decoding'}, {frames or 'all'} frames, {source.name}"
            )
            job = {"kind": "video", "frames": frames, "faces": faces_too}
            add(
                name,
                jobs={"jmer": job},
                inputs=files,
                unit="x real time",
                targets={"x real time": 3.0} if faces_too else {},
            )
    for window in (30, 0):
        job = {"kind": "idle", "model": str(whisper), "window": window, "workers": args.threads}
        name = f"idle: Whisper {'30 s' if window else 'without silence'} and LiteVideo"
        add(
            name,
            jobs={"jmer": job},
            inputs=copies(every, folder / "clips"),
            threads=args.threads,
            targets={"busy": 0.95},
        )
    return rows


def seconds(line: Mapping[str, str]) -> float:
    """How long an utterance of MELD lasts, from 0.3 s up to 30."""
    start, end = (datetime.datetime.strptime(line[name], "%H:%M:%S,%f") for name in ("StartTime", "EndTime"))
    return min(max((end - start).total_seconds(), 0.3), 30.0)


def write_sounds(source: Path, lengths: Sequence[float], folder: Path) -> list[str]:
    """Writes sounds of so many seconds, each of as many of the source's, one after the other, as it takes."""
    files = itertools.cycle(sorted(path for path in source.iterdir() if path.suffix in (".flac", ".wav")))
    paths = []
    for i, length in enumerate(lengths):
        wave = np.zeros(0, np.float32)
        while len(wave) < length * RATE:
            wave = np.concatenate([wave, soundfile.read(next(files), dtype="float32")[0]])
        paths.append(str(folder / f"{i:05}.wav"))
        soundfile.write(paths[-1], wave[: round(length * RATE)], RATE)
    return paths


def copies(files: Sequence[str], folder: Path) -> list[str]:
    """Many clips out of few: links with names of their own."""
    folder.mkdir(exist_ok=True)
    links = [folder / f"{i}-{Path(file).name}" for i in range(8) for file in files]
    for link, file in zip(links, itertools.cycle(files)):
        if not link.is_symlink():
            link.symlink_to(Path(file).resolve())
    return list(map(str, links))


def write_safetensors(source: Path, folder: Path) -> None:
    """Writes a Whisper encoder as PyTorch reads it, whatever the format it is in."""
    folder.mkdir()
    weights = {
        name.removeprefix("encoder."): np.ascontiguousarray(read()) for name, read in published.read(source).items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for name in ("config.json", "preprocessor_config.json"):
        (folder / name).write_bytes((source / name).read_bytes())


# ---- one measurement -------------------------------------------------------------------------------------------------


def measure(job: Mapping[str, Any], folder: Path, *, rival: str = "") -> dict[str, Any]:
    """Runs a job in a process of its own; returns what it printed, and as `memory` the sum of its processes' peaks.

    `noise` is the share of the machine's cores that other processes took meanwhile.

    rival: the interpreter for PyTorch's jobs.
    """
    file = folder / "job.json"
    file.write_text(json.dumps(job))
    script = BENCHMARKS / ("torch_extract.py" if rival else "jmer_extract.py")
    cores = sorted(os.sched_getaffinity(0))[: job["threads"]]
    start, before = time.perf_counter(), (busy_seconds(), sum(os.times()[2:4]))
    process = subprocess.Popen(
        [rival or job.get("python", sys.executable), str(script), str(file)],
        env=os.environ | ({"XLA_FLAGS": job["flags"]} if "flags" in job else {}),
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    peaks: dict[int, int] = {}
    while process.poll() is None:
        peaks |= {pid: peak for pid in family(process.pid) if (peak := resident_peak(pid))}
        time.sleep(0.1)
    assert process.stdout is not None
    if process.returncode:
        raise SystemExit(f"{script.name} failed on {job['kind']}")
    said = process.stdout.read().splitlines()
    others = busy_seconds() - before[0] - (sum(os.times()[2:4]) - before[1])
    noise = others / (time.perf_counter() - start) / (os.cpu_count() or 1)
    return (json.loads(said[-1]) if said else {}) | {"memory": sum(peaks.values()), "noise": noise}


def busy_seconds() -> float:
    """CPU seconds that all processes of the machine have taken."""
    user, nice, system = map(int, Path("/proc/stat").read_text().split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(each for child in children for each in family(int(child)))]


def resident_peak(pid: int) -> int:
    """MiB; `ru_maxrss` would begin with what the process that started it held."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)


# ---- the table -------------------------------------------------------------------------------------------------------


def about(args: argparse.Namespace, rows: Sequence[Row]) -> str:
    ours = ", ".join(f"{name} {version(name)}" for name in ("jax", "flax", "transformers", "librosa", "av", "numpy"))
    theirs = next((r[0]["versions"] for row in rows for way, r in row.results.items() if way in RIVALS), None)
    cpu = next((li.split(": ")[1] for li in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in li), "")
    noise = [result["noise"] for row in rows for results in row.results.values() for result in results]
    rival = ", ".join(f"{name} {number}" for name, number in theirs.items()) if theirs else "not measured: no torch"
    return (
        f"{platform.machine()}, {cpu}, {args.threads} of {os.cpu_count()} cores and as many threads (one in the rows "
        f"of text, audio and video); other processes took {statistics.median(noise):.1%} of the machine in the median "
        f"measurement, {max(noise):.1%} in the worst. jmer: Python {platform.python_version()}, {ours}. "
        f"PyTorch: {rival}. {args.repeats} repeats, by turns."
    )


def table(args: argparse.Namespace, rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = ["# Speed of extraction", "", about(args, rows), ""]
    lines += [
        "| row | way | rate, median (least to most) | a CPU s | start, s | memory, MiB | jmer is | from (a) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    met = []
    for row in rows:
        figures = row.figures()
        for way in dict.fromkeys((*RIVALS, *row.results)):
            if way not in row.results:
                if row.against:
                    lines.append(f"| {row.name} | {way} | not measured: no torch | | | | | |")
                continue
            rates, of = row.rates(way), row.results[way]
            ratio = f"{figures[f'x {way}']:.2f} x" if f"x {way}" in figures else ""
            difference = f"{row.differences[way]:.1e}" if way in row.differences else ""
            start, memory = (statistics.median(r[key] for r in of) for key in ("start", "memory"))
            each = f"{statistics.median(r.get('length', row.count) / r['cpu'] for r in of):.3g}"
            rate = f"{statistics.median(rates):.3g} ({min(rates):.3g} to {max(rates):.3g}) {row.unit}"
            lines.append(
                f"| {row.name} | {way} | {rate} | {each} | {start:.1f} | {memory:.0f} | {ratio} | {difference} |"
            )
        for name, least in row.targets.items():
            if name in figures:
                said = "met" if figures[name] >= least else "**missed**"
                met.append(f"| {row.name} | {name} | {least:g} | {figures[name]:.3g} | {said} |")
    lines += ["", "| target: row | figure | at least | is | |", "|---|---|---|---|---|", *met]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
