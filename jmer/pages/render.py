"""Fills the templates of pages."""

import base64
import functools
import hashlib
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

_TEMPLATES = resources.files("jmer.pages") / "templates"


def render(template: str, *, script: str = "", **values: Any) -> str:
    """Returns a page.

    Args:
      template: the name of a file in `templates/`, without its suffix.
      script: the name of the one script that the page runs, likewise; empty for none.
      values: what the template shows. Strings are escaped.
    """
    code = _text(f"{script}.js") if script else ""
    return (
        _environment()
        .get_template(f"{template}.html")
        .render(style=Markup(_text("page.css")), script=Markup(code), script_source=_source(code), **values)
    )


def _source(code: str) -> str:
    """Returns the only scripts that a page with this code may run, for its content security policy (W3C, CSP 3)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'" if code else "'none'"


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["score"] = score
    environment.filters["clock"] = clock
    return environment


def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def score(value: float) -> str:
    """Returns a score as papers print it: `.584`."""
    return f"{value:.3f}".removeprefix("0") if 0 <= value < 1 else f"{value:.3f}"


def clock(seconds: float) -> str:
    """Returns a time of a recording: `1:02.5`, or `1:00:02.5`."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    begin = f"{minutes // 60}:{minutes % 60:02d}" if minutes >= 60 else f"{minutes}"
    return f"{begin}:{rest // 10:02d}.{rest % 10}"
