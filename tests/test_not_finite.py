"""NaN and infinity are refused by name, and no dialogue's values reach another: `benchmarks/faults/not_finite.py`."""

import pytest

from benchmarks.faults import not_finite

pytestmark = pytest.mark.usefixtures("unchecked", "optax_promotion")

CHOICE = ("gru", "gat", "gated", "utterance", True, False)  # the full form takes every pair of choices


def test_a_short_form_of_every_row():
    rows = not_finite.rows(count=3, choices=[CHOICE])
    assert len(rows) == 10
    assert all(row.held for row in rows), [row for row in rows if not row.held]
