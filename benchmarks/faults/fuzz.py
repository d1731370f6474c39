"""Random inputs of every kind that a user or a stranger may give: a valid result or the documented error, nothing else.

    python benchmarks/faults/fuzz.py [--count=10000] [--seed=0]

`fuzz_properties.py` holds the inputs and what is read of them. `tests/test_fuzz.py` tries fewer of the same. A failure
is shown as the smallest input that hypothesis finds. Exits with 1 if there is one.
"""

import sys

import hypothesis
from hypothesis import HealthCheck, Phase, settings

import jmer
from benchmarks.faults.fuzz_properties import PROPERTIES
from benchmarks.faults.outcomes import Row, parser, show


def main() -> int:
    args = parser(__doc__, count=10_000).parse_args()
    return show(f"{args.count} random inputs of each kind", rows(count=args.count, seed=args.seed))


def rows(*, count: int = 10_000, seed: int = 0) -> list[Row]:
    return [attempt(name, count=count, seed=seed) for name in PROPERTIES]


def attempt(name: str, *, count: int, seed: int) -> Row:
    """Tries so many inputs of a kind."""
    strategy, property_of = PROPERTIES[name]
    outcomes = {"read": 0, "refused": 0}

    @hypothesis.seed(seed)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=False,
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large),
        phases=(Phase.generate, Phase.shrink),
        print_blob=False,
    )
    @hypothesis.given(strategy)
    def tried(given: object) -> None:
        try:
            property_of(given)
            outcomes["read"] += 1
        except jmer.UserError:
            outcomes["refused"] += 1

    fault = ""
    try:
        tried()
    except BaseException as error:  # hypothesis raises what the property raised, or several of it as a group
        if isinstance(error, KeyboardInterrupt):
            raise
        notes = " ".join(" ".join(note.split()) for note in getattr(error, "__notes__", ()))
        fault = f"{type(error).__name__}: {' '.join(str(error).split())[:300]} {notes[:600]}"
    told = f"{outcomes['read']} read, {outcomes['refused']} refused"
    return Row(
        case=f"{name} ({count})",
        promise="read, or UserError",
        outcome=fault or told,
        held=not fault and sum(outcomes.values()) >= count,
    )


if __name__ == "__main__":
    sys.exit(main())
