"""Random inputs give a valid result or the documented error: `benchmarks/faults/fuzz.py` tries 10,000 of each kind."""

import pytest

from benchmarks.faults import fuzz
from benchmarks.faults.fuzz_properties import PROPERTIES

pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.mark.parametrize("name", PROPERTIES)
def test_some_random_inputs(name: str):
    row = fuzz.attempt(name, count=50, seed=0)
    assert row.held, row.outcome
