"""Corpora of unusual shapes give defined results, or a line that says why not: `benchmarks/faults/shapes.py`."""

import pytest

from benchmarks.faults import shapes

pytestmark = pytest.mark.usefixtures("unchecked", "optax_promotion")

CHOSEN = (
    "dialogues of 0 utterances among others",
    "a train split without any modality",
    "a dialogue without any modality",
)


def test_a_short_form_of_some_rows():
    cases = [case for case in shapes.CASES if case.name in CHOSEN]
    rows = shapes.rows(cases=cases, options={"encoder": "none", "graph": "none"})
    assert len(rows) == len(CHOSEN)
    assert all(row.held for row in rows), [row for row in rows if not row.held]
