"""The timeline: opened in a real browser, played, and used by mouse and by keyboard."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from media_files import GREEN, RED, write_clip
from selenium.webdriver.common.keys import Keys

from jmer.base.errors import UserError
from jmer.base.types import Prediction
from jmer.pages import timeline as pages
from jmer.pages.colours import colours_of
from jmer.pages.timeline import Shown, beside, embedded, timeline

LABELS = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
SCRIPT = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"


def prediction(number: int, *, start: float | None, text: str = "Hello.", **fields) -> Prediction:
    probs = np.roll([0.7, 0.1, 0.1, 0.05, 0.05, 0, 0], number).tolist()
    return Prediction(
        utterance_id=f"u{number}",
        label=LABELS[number % 7],
        probs=dict(zip(LABELS, probs, strict=True)),
        gates={"text": 0.75, "audio": 0.25},
        modalities=("text", "audio"),
        speaker=("Ana", "Ben <b>")[number % 2],
        text=text,
        start=start,
        end=None if start is None else start + 1,
        **fields,
    )


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    said = [prediction(i, start=1.5 * i) for i in range(4)]
    said[1] = replace(said[1], text=SCRIPT, attention={"u0": 0.6, "u1": 0.3, "u3": 0.1})
    said[2] = replace(said[2], status="degraded", reason="no face found")
    said[3] = replace(said[3], label="", probs={}, gates={}, modalities=(), status="failed", reason="nothing to go on")
    clip = write_clip(tmp_path / "my film #1 <b>.mp4", colours=[RED, GREEN] * 40, fps=10)
    return Shown(title=f"talk {SCRIPT}", predictions=said, clips=[clip] * 4)


@pytest.fixture(params=["beside", "embedded"])
def page(shown: Shown, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    (tmp_path / "pages").mkdir()
    file = tmp_path / "pages/talk.html"
    source = embedded(filter(None, shown.clips)) if request.param == "embedded" else beside(file.parent)
    text = timeline([shown], title="talk", source=source)
    file.write_text(text, encoding="utf-8")
    return file


def test_a_reader_clicks_and_plays(browser, page, shown):
    browser.open(page)
    browser.until("document.querySelector('.player').readyState >= 1")
    cues = browser.all(".cue")
    assert [cue.text for cue in cues] == ["neutral", "fear", "surprise", "–"]  # a lane for each speaker
    assert [name.text for name in browser.all(".lane > span")] == ["Ana", "Ben <b>"]
    browser.one('.cue[data-number="2"]').click()
    browser.until("document.querySelector('.player').currentTime > 3.05")  # it plays from 3 s on
    assert browser.run("return document.querySelector('.player').currentTime") < 4.5
    assert browser.all("[aria-current]")[0].get_attribute("data-number") == "2"
    assert "no face found" in browser.one(".detail").text
    assert "70.0 %" in browser.one(".detail").text
    browser.run("const p = document.querySelector('.player'); p.pause(); p.currentTime = 1.6")
    browser.until("document.querySelector('.cue[aria-current]')?.dataset.number === '1'")
    browser.run("document.querySelector('.player').currentTime = 1.2")  # between two utterances
    browser.one('tr[data-number="0"] button').click()
    browser.until("document.querySelector('.cue[aria-current]')?.dataset.number === '0'")
    browser.run("document.querySelector('.player').pause()")
    assert browser.run("return window.hacked") is None
    assert all(url.startswith("file://") for url in browser.requests())
    assert browser.errors() == []


def test_a_reader_without_a_mouse(browser, page):
    browser.open(page)
    first = browser.one(".cue")
    browser.run("arguments[0].focus()", first)
    for key, number in (
        (Keys.ARROW_RIGHT, 1),
        (Keys.ARROW_RIGHT, 2),
        (Keys.END, 3),
        (Keys.HOME, 0),
        (Keys.ARROW_LEFT, 0),
    ):
        browser.driver.switch_to.active_element.send_keys(key)
        assert browser.run("return document.activeElement.dataset.number") == str(number)
    browser.driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    # Of what the utterance looks at, itself is left out, and the rest is told with its shares.
    assert "Looked at, beside itself\n1. Ana\n60.0 %\n4. Ben <b>\n10.0 %" in browser.one(".detail").text
    assert len(browser.all(".arcs path.near")) == 2
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    browser.until("document.querySelector('.player').currentTime >= 1.5")
    browser.run("document.querySelector('.player').pause()")
    for element in browser.all("button, video"):
        assert element.accessible_name or element.tag_name == "video"
    names = [cue.accessible_name for cue in browser.all(".cue")]
    assert names[0].startswith("neutral, Ana, 0:00.0 to 0:01.0: Hello.")
    assert browser.errors() == []


def test_texts_alone_and_a_clip_that_cannot_be_played(browser, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    texts = Shown(title="texts", predictions=[prediction(i, start=None) for i in range(30)])
    clips = Shown(title="clips", predictions=[prediction(0, start=None)], clips=[broken])
    gone = Shown(title="gone", predictions=[prediction(0, start=None)], clips=[tmp_path / "gone.mp4"])
    file = tmp_path / "page.html"
    file.write_text(timeline([texts, clips, gone], title="several", source=beside(tmp_path)), encoding="utf-8")
    browser.open(file)
    assert len(browser.all("section")) == 3
    assert len(browser.all(".player")) == 1
    browser.until("document.querySelector('.player-note').textContent === 'broken.mp4 cannot be played here.'")
    browser.all("section:nth-of-type(1) .cue")[20].click()
    assert browser.one("section:nth-of-type(1) .cue[aria-current]").get_attribute("data-number") is not None
    # On a narrow screen, only the lanes are scrolled, and never the page.
    assert browser.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_what_lies_in_the_page(shown, tmp_path, monkeypatch):
    text = timeline([shown], title="talk", source=beside(tmp_path / "pages"))
    assert 'src="../my%20film%20%231%20%3Cb%3E.mp4"' in text
    assert SCRIPT not in text
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', text)
    assert json.loads(data)["cues"][1]["text"] == SCRIPT
    assert not re.findall(r"https?://", text)
    monkeypatch.setattr(pages, "_MOST_EMBEDDED", 1000)
    with pytest.raises(UserError, match="may embed 0 MiB; leave out --embed"):
        embedded(filter(None, shown.clips))


def test_colours_differ_and_can_be_read():
    names = [*LABELS, "calm", *"abcdefgh"]
    colours = colours_of(names)
    assert len({(c.fill, c.striped) for c in colours.values()}) == 16
    assert colours["neutral"].fill == "#999999"
    assert colours["sadness"].text == "#FFFFFF"
    assert colours["joy"].text == "#000000"
