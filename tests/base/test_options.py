"""Options declared as dataclass fields, and what is derived from them: configs, checks, groups and tables."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from jmer.base import options
from jmer.base.errors import UserError
from jmer.base.options import Field, option
from jmer.training.options import TrainOptions


@dataclass(frozen=True, kw_only=True)
class Push:
    """Options of the push."""

    alpha: float = option(0.2, "Share that stays.", above=0, at_most=1)


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Options that two parts share."""

    heads: int = option(4, "Heads.", at_least=1)


@dataclass(frozen=True, kw_only=True)
class Reading(Shared):
    """Reading.

    More about reading.
    """

    encoder: str = option("gru", "Encoder.", choices=("gru", "none"))
    parts: str = option("", "Parts to read.", choices=("head", "tail"), names=True)
    derived: int = field(default=7)  # no option


@dataclass(frozen=True, kw_only=True)
class Passing(Shared):
    """Passing on."""

    push: Push = option(Push(), "Options of the push.")


@dataclass(frozen=True, kw_only=True)
class Whole(Reading, Passing):
    """The whole."""

    heads: int = option(8, "Heads of the whole.", at_least=1)

    def check(self) -> None:
        if self.encoder == "none" and self.heads > 8:
            raise UserError("config.heads above 8 need an encoder")


def refusal(**given: Any) -> str:
    with pytest.raises(UserError) as error:
        options.from_config(Whole, given)
    return str(error.value)


def test_config_and_options_lead_to_each_other():
    config: Any = options.to_config(Whole())
    assert isinstance(config, ConfigDict)
    assert config.is_locked
    assert config.to_dict() == {"heads": 8, "encoder": "gru", "parts": "", "push": {"alpha": 0.2}}
    config.update({"push": {"alpha": 1.0}, "parts": "tail, head"})
    assert options.from_config(Whole, config) == Whole(push=Push(alpha=1.0), parts="tail, head")
    assert options.from_config(Whole, {}) == Whole()
    assert options.from_config(Whole, {"push": {"alpha": 1}}).push.alpha == 1.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"encodr": "gru"}, "config has no field 'encodr'; did you mean 'encoder'?"),
        ({"zzz": 1}, "config has no field 'zzz' (fields: encoder, heads, parts, push)"),
        ({"push": {"alhpa": 1.0}}, "config has no field 'push.alhpa'; did you mean 'alpha'?"),
        ({"push": 3}, "config.push is 3; expected a group with the fields push.alpha"),
        ({"derived": 8}, "config has no field 'derived'"),
        ({"heads": "4"}, "config.heads is '4'; expected int, such as 8"),
        ({"heads": True}, "config.heads is True; expected int, such as 8"),
        ({"heads": 0}, "config.heads is 0; expected at least 1"),
        ({"push": {"alpha": 0.0}}, "config.push.alpha is 0.0; expected above 0 and at most 1"),
        ({"push": {"alpha": float("nan")}}, "config.push.alpha is nan; expected above 0 and at most 1"),
        ({"encoder": "lstm"}, "config.encoder is lstm; expected one of gru, none"),
        ({"parts": "head,arm"}, "config.parts is head,arm; expected some of head, tail, comma-separated"),
        ({"encoder": "none", "heads": 9}, "config.heads above 8 need an encoder"),
    ],
)
def test_what_a_config_cannot_be_is_refused(given: dict[str, Any], message: str):
    assert message in refusal(**given)


def test_numbers_without_bounds_are_finite():
    assert Field(help="A number.").complaint(float("inf")) == "a finite number"
    assert Field(help="A number.").complaint(float("nan")) == "a finite number"
    assert Field(help="A number.").complaint(-1e30) == ""


def test_fits_has_the_last_word():
    even = Field(help="An even number.", at_least=2, fits=lambda n: n % 2 == 0, expected="an even number")
    assert even.complaint(3) == "an even number"
    assert even.complaint(0) == "at least 2"
    assert even.complaint(4) == ""


def test_help_names_the_choices():
    described = {name: field.describe() for name, _, field in options.fields(Whole())}
    assert described["encoder"] == "Encoder. One of gru, none."
    assert described["parts"] == "Parts to read. Some of head, tail."
    assert described["push.alpha"] == "Share that stays."


def test_groups_follow_the_classes_and_list_an_option_once():
    found = [(heading, [name for name, _, _ in listed]) for heading, listed in options.groups(Whole)]
    assert found == [
        ("The whole", ["heads"]),  # declared again, with another default
        ("Reading", ["encoder", "parts"]),
        ("Passing on", ["push.alpha"]),
    ]


def test_table_has_a_row_for_each_part():
    assert options.table(Whole).splitlines() == [
        "| part | options | choices |",
        "|---|---|---|",
        "| The whole | `heads` |  |",
        "| Reading | `encoder`, `parts` | `encoder`: `gru`, `none`; `parts`: `head`, `tail` |",
        "| Passing on | `push.alpha` |  |",
    ]


def test_every_training_option_is_in_a_group_and_has_a_sentence_of_help():
    listed = [(name, field) for _, group in options.groups(TrainOptions) for name, _, field in group]
    assert sorted(name for name, _ in listed) == sorted(name for name, _, _ in options.fields(TrainOptions()))
    for name, found in listed:
        assert re.fullmatch(r"[A-Z].*\.", found.help), f"{name}: '{found.help}' is no sentence"


def test_docs_have_the_derived_table(root: Path):
    # python -c "from jmer.base import options; from jmer.training.options import TrainOptions as T;
    # print(options.table(T))" prints the table.
    pages = [root / "README.md", *(root / "docs").glob("*.md")]
    assert any(options.table(TrainOptions) in page.read_text(encoding="utf-8") for page in pages)
