"""How long one waits for the emotions of texts: from the start of a process, and after that.

    python benchmarks/answer_time.py [--model=starter] [--encoders=DIR]

    import     seconds of `import jmer`
    first      seconds from the start of a process to the first answer, with compiled programs on the disk
    one text   milliseconds of `predict` on one text, for 1 to 70 words
    dialogue   milliseconds of `predict` on a dialogue of 1 to 70 utterances of about 6 words
    next       milliseconds of `predict` on the last 10 utterances of a dialogue that goes on

The first answer is the median of several processes, and a millisecond the median of several calls.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from synthetic import machine, write

import jmer

WORDS = "I you we that this never really so great awful happy sad why what oh no yes the to of me my keys".split()  # noqa: SIM905
LENGTHS = range(1, 71)
FIRST = "import jmer; jmer.load({model!r}, encoders={encoders!r}).predict('I hate you.')"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter", help="starter, or a run directory")
    parser.add_argument("--encoders", help="folder of the public encoders")
    parser.add_argument("--calls", type=int, default=7, help="calls of each length")
    args = parser.parse_args(argv)
    given = {"model": args.model, "encoders": args.encoders}
    imports = [process("import jmer") - process("pass") for _ in range(5)]
    process(FIRST.format(**given))  # compiles
    firsts = [process(FIRST.format(**given)) for _ in range(5)]
    predictor, rng = jmer.load(args.model, encoders=args.encoders), np.random.default_rng(0)

    def text(words: int) -> str:
        return " ".join(rng.choice(WORDS, words))

    def dialogue(length: int) -> list[dict[str, str]]:
        return [{"speaker": "ab"[i % 2], "text": text(int(rng.integers(3, 10)))} for i in range(length)]

    rows = {
        "one text, 1 to 70 words": [timed(predictor.predict, text(n), args.calls) for n in LENGTHS],
        "dialogue, 1 to 70 utterances": [timed(predictor.predict, dialogue(n), args.calls) for n in LENGTHS],
        "the last 10 utterances of a dialogue": [timed(predictor.predict, dialogue(10), args.calls) for _ in LENGTHS],
    }
    lines = [
        f"# Time to an answer: {args.model}",
        "",
        machine(),
        "",
        "| | median | at most |",
        "|---|---|---|",
        f"| `import jmer`, s | {statistics.median(imports):.2f} | {max(imports):.2f} |",
        f"| first answer of a process, s | {statistics.median(firsts):.1f} | {max(firsts):.1f} |",
        *(f"| {name}, ms | {np.median(found):.1f} | {max(found):.1f} |" for name, found in rows.items()),
    ]
    write("answer_time", lines, {"import": imports, "first": firsts, **rows}, keep=True)
    return 0


def process(code: str) -> float:
    """Returns the seconds of a process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - start


def timed(predict: Callable[[Any], object], given: object, calls: int) -> float:
    """Returns the median milliseconds of calls, after one that compiles."""
    predict(given)
    found = []
    for _ in range(calls):
        start = time.perf_counter()
        predict(given)
        found.append(time.perf_counter() - start)
    return 1e3 * statistics.median(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
