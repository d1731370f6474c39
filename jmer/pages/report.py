"""The page of an evaluation, and that of a comparison of two runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jmer.pages.render import render


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line of a chart: the value of a figure after each epoch, as the mean over the seeds."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the page of an evaluation shows.

    about: dataset, number of utterances and protocol; the title of every picture ends with it.
    result: the content of `metrics.json`.
    first: which prediction is shown where only one can be: that of a seed, or the vote.
    calibration: `ece_unscaled` and `ece`, as in `result` -> the bins of `first`, of `jmer.runs.breakdown`.
    parts: property -> scores of the utterances by its values, of `jmer.runs.breakdown`.
    missing: modality -> weighted F1 of each seed where it is hidden.
    curves: figure -> its lines, over the epochs.
    errors: of `jmer.runs.breakdown`.
    settings, environment, hashes: name -> value.
    """

    title: str
    about: str
    result: Mapping[str, Any]
    first: str
    calibration: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)
    missing: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, Sequence[Curve]] = field(default_factory=dict)
    errors: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)


def report(content: Report) -> str:
    """Returns the page of an evaluation."""
    return render("report", **vars(content))


def comparison(content: Mapping[str, Any]) -> str:
    """Returns the page of a comparison; `content` is that of `jmer.runs.comparison.compare`."""
    return render("comparison", title=f"{content['names'][0]} against {content['names'][1]}", **content)
