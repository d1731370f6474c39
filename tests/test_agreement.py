"""Predictions are those of evaluation, from the text on: `benchmarks/faults/agreement.py` tries clips too."""

import pytest

from benchmarks.faults import agreement

pytestmark = pytest.mark.usefixtures("unchecked", "optax_promotion")


def test_text_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("JMER_CACHE", str(tmp_path))
    model = {"epochs": 1, "hidden": 8, "heads": 2, "encoder": "none", "graph": "none"}
    (row,) = agreement.rows(count=20, kinds={"text alone": agreement.KINDS["text alone"]}, options=model)
    assert row.held, row.outcome
