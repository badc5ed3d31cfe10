"""The report of a campaign: what it says, and that everyone can read it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from acbo_ref.campaign.campaign import Campaign
from acbo_ref.campaign.pictures import causes
from acbo_ref.campaign.predictions import Belief
from acbo_ref.campaign.report import report_page
from acbo_ref.campaign.style import INKS, PAPERS, STYLE
from acbo_ref.campaign.svg import Chart, labels, rounded, spanned, ticks

LONG = "the temperature of the second reactor's jacket near its outlet [K]"


@pytest.fixture
def busy(tmp_path, policy):
    """A campaign in which everything occurs: told, corrected, abandoned and pending experiments,
    one nobody asked for that set two variables, notes, missing values, and names to stumble over.
    """
    variables = {"a<b>&": (0.0, 10.0), LONG: (273.0, 373.0), "tiny": (1e-6, 3e-6), "c": None, "y": None}
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((12, 5)) * [2, 10, 3e-7, 1, 1] + [5, 320, 2e-6, 0, 1003]
    rows[3, 0] = np.nan
    campaign = Campaign.create(tmp_path / "c", variables, "y", "maximize", rows, budget=9, policy=policy)
    for n in range(6):
        proposal = campaign.ask()
        if n == 3:
            campaign.abandon(proposal.id)
        else:
            campaign.tell(proposal.id, {"y": 1003 + rng.standard_normal()}, by="Ada")
    campaign.correct("e2", {"y": 1004.0})
    campaign.tell_external({"a<b>&": 9.0, LONG: 300.0}, {"y": 1005.5})
    campaign.note("e1", '<script>alert("valve")</script>')
    campaign.ask()
    return campaign


class Page(HTMLParser):
    """The elements of a page in their order: (tag, attributes, the text inside)."""

    VOID = ("meta", "br")

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"<{tag}> has an attribute twice"
        self.elements.append([tag, dict(attrs), ""])
        if tag not in self.VOID:
            self.open.append((tag, len(self.elements) - 1))

    def handle_startendtag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        assert self.open and self.open.pop()[0] == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        for _, at in self.open:
            self.elements[at][2] += data

    def all(self, *tags):
        return [(attrs, text) for tag, attrs, text in self.elements if tag in tags]


def test_it_needs_nothing_and_runs_nothing(busy):
    text = busy.report().read_text()
    page = Page(text)
    assert text.startswith("<!doctype html>") and page.all("html")[0][0]["lang"] == "en"
    for tag, attrs, _ in page.elements:
        assert tag not in ("script", "link", "img", "iframe", "object", "base", "form"), tag
        assert not {name for name in attrs if name.startswith("on") or name in ("src", "href", "style")}, attrs
    assert "://" not in text and not re.search(r"url\((?!#)|@import", text)
    assert any("default-src 'none'" in attrs.get("content", "") for attrs, _ in page.all("meta"))
    assert not re.search(r"\b(nan|NaN|None|inf)\b", text)
    assert text == busy.report().read_text()  # the same campaign, the same page


def test_every_picture_says_what_it_shows(busy):
    page = Page(busy.report().read_text())
    ids = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    pictures = [attrs for attrs, _ in page.all("svg") if attrs.get("aria-hidden") != "true"]
    assert len(pictures) == 3 + 2 + 1  # levers, experiments, beliefs
    said = {attrs["id"]: text for attrs, text in page.all("title", "desc") if "id" in attrs}
    for attrs in pictures:
        title, description = attrs["aria-labelledby"].split()
        assert attrs["role"] == "img" and said[title].strip() and len(said[description]) > 30
    whole = " ".join(said.values())
    for words in (
        "Expected:",
        "The best outcome so far",
        "6 experiments in order",
        "outcomes within",
        "Most promising:",
    ):
        assert words in whole, words


def test_tables_have_captions_and_every_header_a_scope(busy):
    page = Page(busy.report().read_text())
    assert len(page.all("table")) == len(page.all("caption")) == 2
    scopes = [attrs.get("scope") for attrs, _ in page.all("th")]
    assert set(scopes) == {"col", "row"} and scopes.count("row") == 4 + 8


def test_it_tells_everything_that_was_done(busy):
    text = busy.report().read_text()
    page = Page(text)
    history = page.all("table")[-1][1]
    for words in (
        "abandoned",
        "corrected",
        "pending",
        "nobody asked for it",
        "Ada",
        "a<b>& = 9",
        '<script>alert("valve")',
    ):
        assert words in history, words
    assert "<script>" not in text and "a&lt;b&gt;&amp;" in text
    card = page.all("section")[0][1]
    assert "Do e7: set" in card and "acbo campaign tell c e7" in card and "3 of 9 experiments left" in card
    assert busy.recommend().verdict[1:] in card
    levers = page.all("section")[1][1]
    assert all(name in levers for name in ("a<b>&", LONG, "tiny", "doing nothing"))


VERDICTS = [
    ("improvement likely (probability 0.97)", "Set tiny to", "should then be"),
    (
        "no improvement likely (probability of an improvement 0.30)",
        "Leave it as it is",
        "No setting is likely to be better than doing nothing",
    ),
    (
        "improvement not established (probability 0.80)",
        "Not known yet whether",
        "The most promising is tiny =",
    ),
]


@pytest.mark.parametrize(("verdict", "headline", "words"), VERDICTS)
def test_the_verdict_stands_on_top_in_plain_words(busy, monkeypatch, verdict, headline, words):
    from dataclasses import replace

    found = []
    monkeypatch.setattr("acbo_ref.campaign.view.report_page", lambda given: found.append(given) or "")
    busy.report(busy.path / "x.html")
    best = replace(found[0].best, variable="tiny", value=2e-6, verdict=verdict)
    card = Page(report_page(replace(found[0], best=best))).all("section")[0]
    assert headline in card[1] and words in card[1]
    assert ("good" in card[0]["class"]) == verdict.startswith("improvement likely")


def test_a_campaign_that_has_only_begun_and_one_without_past_rows(campaign, tmp_path, policy):
    page = Page(campaign.report(tmp_path / "begun.html").read_text())
    assert "No experiments yet" in page.all("section")[-1][1] and len(page.all("figure")) == 2 + 1
    with pytest.warns(UserWarning, match="0 past rows"):
        bare = Campaign.create(tmp_path / "bare", {"x": (0, 1), "y": None}, "y", policy=policy)
    assert "what doing nothing gives is not known" in Page(bare.report().read_text()).all("section")[0][1]
    bare.tell(bare.ask().id, {"y": 3.0})
    assert "1 of 1 outcome within" in bare.report().read_text() or "0 of 1 outcome within" in bare.report().read_text()


def test_many_past_rows_and_experiments_make_no_huge_page(tmp_path, policy):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((5000, 3))
    campaign = Campaign.create(
        tmp_path / "c", {"a": (-1, 1), "b": (-1, 1), "y": None}, "y", observations=rows, policy=policy
    )
    for _ in range(60):
        campaign.tell_external({"a": 0.5}, {"y": rng.standard_normal()})
    text = campaign.report().read_text()
    assert "Of the past rows 300 are shown" in text and len(text) < 200_000
    ids = re.findall(r">(x\d+)</text>", text)
    assert 4 < len(ids) < 20  # as many as have room


@pytest.mark.filterwarnings("ignore:no experiment is hoped to be better")
def test_too_few_outcomes_within_their_intervals_are_said(campaign):
    for _ in range(4):
        proposal = campaign.ask()
        campaign.tell(proposal.id, {"y": proposal.high + 30})
    text = campaign.report().read_text()
    assert "0 of 4 outcomes within" in text and "Take care" in text
    assert text.count("he model does not describe this system: 4 of 4 outcomes lay outside") == 2


# ------------------------------------------------------------------------------------------ colours


def palettes():
    """{variable: colour} of the light and the dark scheme."""
    light, dark = re.findall(r":root \{ (.*?) \}", STYLE)
    return [dict(re.findall(r"--(\w+): (#\w{6});", text)) for text in (light, dark)]


def luminance(colour):
    """WCAG 2.1, relative luminance."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_every_ink_can_be_read_on_every_paper():
    light, dark = palettes()
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert light.keys() == dark.keys() and set(INKS) | set(PAPERS) <= light.keys()
    assert "@media screen and (prefers-color-scheme: dark)" in STYLE and "@media print" in STYLE
    for scheme in (light, dark):
        for ink in INKS:
            for paper in PAPERS:
                assert contrast(scheme[ink], scheme[paper]) >= 4.5, (ink, paper)
        assert contrast(scheme["ink"], scheme["band"]) >= 3  # words over a band have a halo besides
    assert luminance(light["paper"]) > 0.8 and luminance(dark["paper"]) < 0.05


def test_every_class_of_the_page_has_a_style(busy):
    """And no mark has a colour of its own."""
    page = Page(busy.report().read_text())
    plain = {"told", "corrected", "pending"}
    used = {css for _, attrs, _ in page.elements for css in attrs.get("class", "").split()} - plain
    assert {css for css in used if f".{css}" not in STYLE} == set()
    for tag, attrs, _ in page.elements:
        assert not {"fill", "stroke", "color"} & attrs.keys(), (tag, attrs)


# ---------------------------------------------------------------------------------------- a browser

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Shows a page in frames as wide as a phone and as a screen, and writes down what it measures: what
# is too wide, cut off or small, pictures without words, and the lowest contrast of a text with what
# is behind it.
MEASURE = """<!doctype html><body><script>
const page = PAGE, found = [];
const rgb = text => text.match(/[\\d.]+/g).map(Number);
const linear = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const luminance = c => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
function contrast(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}
function behind(w, element) {
  for (let e = element; e; e = e.parentElement) {
    const colour = rgb(w.getComputedStyle(e).backgroundColor);
    if (colour.length < 4 || colour[3] === 1) return colour;
  }
}
function look(width) {
  const frame = document.createElement("iframe");
  frame.style.cssText = "border:0;height:3000px;width:" + width + "px";
  frame.srcdoc = page;
  frame.onload = () => {
    const d = frame.contentDocument, w = frame.contentWindow, cut = [], small = [], silent = [], wide = [];
    let lowest = 21, texts = 0;
    for (const text of d.querySelectorAll("svg text")) {
      const box = text.getBBox(), all = text.ownerSVGElement.viewBox.baseVal;
      if (box.x < -0.5 || box.y < -0.5 || box.x + box.width > all.width + 0.5 || box.y + box.height > all.height + 0.5)
        cut.push(text.textContent);
      if (parseFloat(w.getComputedStyle(text).fontSize) * text.getScreenCTM().a < 10.5) small.push(text.textContent);
    }
    for (const e of d.body.querySelectorAll("*")) {
      const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
      if (!own || ["title", "desc"].includes(e.tagName)) continue;
      const style = w.getComputedStyle(e), paper = behind(w, e.closest("svg") || e);
      lowest = Math.min(lowest, contrast(rgb(e.closest("svg") ? style.fill : style.color), paper));
      texts += 1;
      const box = e.getBoundingClientRect();
      if (!e.closest(".scroll") && box.right > width + 0.5) wide.push(e.textContent.slice(0, 60));
    }
    for (const picture of d.querySelectorAll("svg:not([aria-hidden=true]), img")) {
      const ids = (picture.getAttribute("aria-labelledby") || "").split(" ");
      if (ids.length < 2 || ids.some(id => !d.getElementById(id)?.textContent.trim()))
        silent.push(picture.outerHTML.slice(0, 80));
    }
    found.push({width, scroll: d.documentElement.scrollWidth, cut, small, silent, wide, lowest, texts,
      paper: w.getComputedStyle(d.body).backgroundColor});
    if (found.length < 2) return;
    document.body.replaceChildren(document.createElement("pre"));
    document.body.firstChild.textContent = JSON.stringify(found);
  };
  document.body.append(frame);
}
look(390); look(1280);
</script></body>"""


def measured_in_a_browser(page, folder, scheme, script=MEASURE):
    """What MEASURE writes down of a page, in a colour scheme: one dict a width."""
    (folder / "measure.html").write_text(script.replace("PAGE", json.dumps(page).replace("</", "<\\/")))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    options += [f"--blink-settings=preferredColorScheme={'01'[scheme == 'light']}"]
    options += ["--virtual-time-budget=5000", "--dump-dom"]
    done = subprocess.run(
        [BROWSER, *options, (folder / "measure.html").as_uri()], capture_output=True, text=True, timeout=120
    )
    return json.loads(html.unescape(re.search(r"<pre>(.*)</pre>", done.stdout)[1]))


SCHEMES = pytest.mark.parametrize(("scheme", "paper"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 24, 28)")])
GOLDEN_PAGE = Path(__file__).parent / "golden" / "page.html"


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
@SCHEMES
def test_in_a_browser_everyone_can_read_it(tmp_path, scheme, paper):
    """The golden page: nothing overflows or is cut off, every picture speaks, and every text has
    the contrast of WCAG 2.1 AA.
    """
    found = measured_in_a_browser(GOLDEN_PAGE.read_text(), tmp_path, scheme)
    assert sorted(frame["width"] for frame in found) == [390, 1280]
    for frame in found:
        assert frame["scroll"] <= frame["width"] and frame["paper"] == paper and frame["texts"] > 150
        assert [frame[what] for what in ("cut", "small", "silent", "wide")] == [[], [], [], []]
        assert frame["lowest"] >= 4.5


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_the_browser_would_see_what_is_wrong(tmp_path):
    """A check that cannot fail is none."""
    page = GOLDEN_PAGE.read_text()
    page = page.replace("--muted: #535b63", "--muted: #a0a8b0").replace('aria-labelledby="lever0-t lever0-d"', "")
    page = page.replace("<h2>History</h2>", '<h2>History</h2><h3 style="width:1400px">too wide</h3>')
    for frame in measured_in_a_browser(page, tmp_path, "light"):
        assert frame["lowest"] < 3 and len(frame["silent"]) == 1
        assert frame["wide"] == ["too wide"] and frame["scroll"] > frame["width"]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
@SCHEMES
def test_in_a_browser_names_to_stumble_over_cut_nothing_off(busy, tmp_path, scheme, paper):
    for frame in measured_in_a_browser(busy.report().read_text(), tmp_path, scheme):
        assert frame["scroll"] <= frame["width"] and frame["paper"] == paper and frame["lowest"] >= 4.5
        assert [frame[what] for what in ("cut", "small", "silent", "wide")] == [[], [], [], []]


def test_names_of_causes_are_whole_where_there_is_room():
    def shown(names, target):
        beliefs = [Belief(name, 0.5, None, None, None, None) for name in names]
        return re.findall('<text class="node"[^>]*>(.*?)</text>', causes(beliefs, target))

    assert shown(["baking minutes", "a"], "loaf quality") == ["baking minutes", "a", "loaf quality"]
    *names, target = shown([LONG], LONG)
    assert names[0].endswith("…") and len(names[0]) >= 13 and len(target) == 13


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_on_paper_the_history_is_not_cut_off(busy, tmp_path):
    """At the width of a page of A4 in Chromium's points, by the style of paper."""
    busy.note("e1", "the dough rose for an hour longer than it should have")
    page = (
        busy.report().read_text().replace("@media print", "@media all").replace("overflow: visible", "overflow: auto")
    )
    script = MEASURE.replace("look(390); look(1280);", "look(680); look(680);").replace(
        'if (!e.closest(".scroll") && ', "if ("
    )
    assert script.count("look(680)") == 2 and 'closest(".scroll")' not in script
    found = measured_in_a_browser(page, tmp_path, "light", script)
    assert [frame["wide"] for frame in found] == [[], []]


# ------------------------------------------------------------------------------------------- charts


@pytest.mark.parametrize(
    ("value", "noise", "text"),
    [
        (61.2345, 1.3, "61.2"), (61.2345, 9.9, "61"), (61.2345, 30.0, "60"), (1234.5, 300.0, "1200"),
        (0.01234, 0.002, "0.0123"),
        (-2.04, 0.3, "−2.0"), (-0.01, 1.0, "0.0"), (5.0, 0.0, "5"), (5.0, float("nan"), "5"),
        (None, 1.0, "–"), (float("nan"), 1.0, "–"),
        (1.5e9, 1e7, "1.5e+09"), (2e-6, 1e-8, "2e-06"), (12.0, 1e-30, "12"),
    ],
)  # fmt: skip
def test_numbers_have_the_digits_that_noise_leaves(value, noise, text):
    assert rounded(value, noise) == text


def test_ticks_are_round_numbers_within_the_range():
    for low, high in ((0, 1), (-3.7, 12.2), (1e-9, 4e-9), (1e6, 1e6 + 5), (-1e12, 2e12), (0.1, 0.1000001)):
        found = ticks((low, high), 5)
        assert 1 <= len(found) <= 6 and all(low - 1e-9 * abs(low) <= t <= high + 1e-9 * abs(high) for t in found)
        assert len(set(labels(found))) == len(found)
    assert labels(ticks((-3.7, 12.2), 5)) == ["0", "5", "10"]
    assert spanned([], []) == (0.0, 1.0) and spanned([3.0])[0] < 3.0 < spanned([3.0])[1]


def test_marks_outside_a_chart_are_left_out_or_cut_off():
    chart = Chart("n", "t", "d", (0.0, 1.0), (0.0, 1.0), "x", "y")
    chart.dots(np.array([[0.5, 0.5], [2.0, 0.5], [0.5, np.nan]]), "alone", 4)
    chart.line([-1e300, 1e300], [0.5, 1e300], "curve")
    assert chart.svg().count("<circle") == 1
    assert all(abs(float(n)) < 2000 for n in re.findall(r"-?\d+\.\d+", chart.svg()))
