"""The HTML report in a real browser, Debian's Chromium: what a reader sees, points at and types."""

import re
import shutil

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

import gradquake as gq
from gradquake.analysis.shown import bracketed
from gradquake.report.charts import Chart, Series
from gradquake.report.page import TEMPLATES, Chapter, Part, page
from gradquake.report.study_page import report

POINTS = 10_000


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A report of a small sweep, its result, and a page with a chart of many points."""
    folder = tmp_path_factory.mktemp("browser")
    study = gq.run(
        "xor", hidden=[3, 5, 8], seeds=3, alpha_train=0, epochs=200, out=folder / "s.sqlite", jobs=1
    )
    rng = np.random.default_rng(0)
    value = rng.standard_normal(POINTS).cumsum()
    many = Series("real", "c0", np.arange(POINTS, dtype=float), value, value - 1, value + 1)
    part = Part("Many", lambda chart: {"charts": [chart]}, TEMPLATES / "charts.html")
    text = page("Many points", [Chapter("", {"many": part}, Chart("Many", "epoch", "D", [many]))])
    (folder / "many.html").write_text(text, encoding="utf-8")
    return report(study, jobs=1), gq.analyze(study, jobs=1), folder / "many.html"


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        yield started
        started.close()


@pytest.fixture
def opened(browser):
    """Opens a file; afterwards, nothing was requested and nothing was complained of."""
    complaints, requests, contexts = [], [], []

    def visit(path, **settings):
        context = browser.new_context(viewport={"width": 1400, "height": 900}, **settings)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.route(
            "**/*",
            lambda route: route.abort() if "file:" not in route.request.url else route.continue_(),
        )
        tab.goto(path.as_uri())
        return tab

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []
    assert len(requests) == len(contexts)


def test_curves_can_be_switched_off_and_on(opened, files):
    tab = opened(files[0])
    curve = tab.locator('figure.chart g[data-name="gaussian"] .line').first
    row = tab.locator('figure.forest g[data-name="gaussian"] circle').first
    box = tab.get_by_label("gaussian", exact=True)
    for shown in (False, True):
        box.set_checked(shown)
        assert curve.is_visible() == row.is_visible() == shown
        assert tab.locator('figure.chart g[data-name="real"] .line').first.is_visible()
    assert not tab.locator('g[data-name="gaussian"] .band').first.is_visible()
    tab.get_by_label("Intervals of nulls").check()
    assert tab.locator('g[data-name="gaussian"] .band').first.is_visible()


@pytest.mark.parametrize(
    ("switch", "value"), [("Statistic", "mean"), ("Phase", "post"), ("Channel", "area")]
)
def test_switches_leave_what_is_chosen(opened, files, switch, value):
    tab = opened(files[0])
    marked = tab.locator(f"main [data-{switch.lower()}]")
    chosen = tab.locator(f'main [data-{switch.lower()}="{value}"]')
    assert 0 < chosen.count() < marked.count()
    tab.get_by_role("combobox", name=switch).select_option(value)
    visible = tab.locator(f"main [data-{switch.lower()}]:visible")
    assert visible.count() == chosen.count()
    tab.get_by_role("button", name="Show everything").click()
    tab.wait_for_function("document.querySelectorAll('main .off:not(.cursor, .chosen)').length === 0")
    assert visible.count() == marked.count()


def test_a_chart_is_read_with_the_keyboard(opened, files):
    tab = opened(files[0])
    plots = tab.locator("figure.chart .plot")
    plots.first.focus()
    tab.keyboard.press("End")
    readout = plots.first.locator(".readout")
    found = files[1].dimension("max")
    last = {name: float(found[name][-1]) for name in ("value", "low", "high")}
    assert readout.locator("b").inner_text() == "epoch 200"
    assert readout.locator("span").first.inner_text() == f"real {bracketed(**last)}"
    assert readout.get_attribute("aria-live") == "polite"
    tab.keyboard.press("ArrowLeft")
    assert readout.locator("b").inner_text() == "epoch 190"
    # Charts with the same axis follow.
    assert plots.nth(1).locator(".readout b").inner_text() == "epoch 190"
    assert plots.nth(1).locator(".readout").get_attribute("aria-live") == "off"
    tab.keyboard.press("Escape")
    assert readout.inner_text() == ""


@pytest.mark.parametrize("place", [0, 7, 13, 20])
def test_values_at_the_pointer_are_those_of_the_result(opened, files, place):
    tab = opened(files[0])
    inner = tab.locator("figure.chart svg.inner").first
    inner.scroll_into_view_if_needed()
    box, found = inner.bounding_box(), files[1].dimension("max")
    low, high = -0.02 * 200, 1.02 * 200
    share = (float(found["epoch"][place]) - low) / (high - low)
    tab.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
    readout = tab.locator("figure.chart .readout").first
    assert readout.locator("b").inner_text() == f"epoch {int(found['epoch'][place])}"
    shown = [text.split(" ", 1) for text in readout.locator("span").all_inner_texts()]
    curves = {"real": found}
    curves |= {rung: of.curves["max"].dimension for rung, of in files[1].scrutiny.ladder.nulls.items()}
    assert dict(shown) == {
        rung: bracketed(*(float(of[name][place]) for name in ("value", "low", "high")))
        for rung, of in curves.items()
    }


def test_a_range_is_enlarged_in_all_charts_of_an_axis(opened, files):
    tab = opened(files[0])
    lines = tab.locator('figure.chart g[data-name="real"] .line')
    before = [lines.nth(k).get_attribute("d") for k in range(2)]
    inner = tab.locator("figure.chart svg.inner").first
    inner.scroll_into_view_if_needed()
    box = inner.bounding_box()
    tab.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 20)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 20, steps=4)
    tab.mouse.up()
    after = [lines.nth(k).get_attribute("d") for k in range(2)]
    assert all(one != other for one, other in zip(before, after, strict=True))
    assert tab.locator('figure.chart [data-axis="x"] text').first.text_content() == "50"
    tab.locator("figure.chart .plot").first.focus()
    tab.keyboard.press("Escape")
    # The script draws what the page came with.
    assert [lines.nth(k).get_attribute("d") for k in range(2)] == before


def test_every_chart_is_drawn_by_the_script_as_without_it(opened, files):
    tab = opened(files[0])
    shapes = "[...document.querySelectorAll('svg.inner path')].map((of) => of.getAttribute('d'))"
    before = tab.evaluate(shapes)
    tab.get_by_role("button", name="Show everything").click()
    tab.wait_for_timeout(50)
    after = tab.evaluate(shapes)
    numbers = [
        [np.array(re.findall(r"-?[0-9.]+", path), float) for path in of] for of in (before, after)
    ]
    for one, other in zip(*numbers, strict=True):
        np.testing.assert_allclose(one, other, atol=0.11)


def test_the_page_is_complete_without_a_script(opened, files):
    tab = opened(files[0], java_script_enabled=False)
    assert tab.locator("figure.chart .line").first.is_visible()
    assert tab.locator("ul.reading li").first.is_visible()
    assert not tab.locator("select").first.is_visible()
    tab.locator("summary").first.click()
    assert tab.locator("details.numbers table").first.is_visible()


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen(opened, files, width, scheme):
    tab = opened(files[0], color_scheme=scheme)
    tab.set_viewport_size({"width": width, "height": 900})
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")


def test_print_shows_folded_results_and_no_switches(opened, files):
    tab = opened(files[0])
    tab.emulate_media(media="print", color_scheme="dark")
    assert not tab.locator("select").first.is_visible()
    assert tab.locator("details.more table").first.is_visible()
    assert not tab.locator("details.numbers").first.is_visible()
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_everything_can_be_reached_with_the_keyboard(opened, files):
    tab = opened(files[0])
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(60):
        tab.keyboard.press("Tab")
        reached.add(tab.evaluate("document.activeElement.tagName + document.activeElement.className"))
    assert {"INPUT", "SELECT", "DIVplot", "SUMMARY"} <= reached


def test_names_for_screen_readers(opened, files):
    tab = opened(files[0])
    unnamed = tab.evaluate(
        """[...document.querySelectorAll("a, button, input, select, [role], [tabindex]")].filter((of) =>
        !(of.getAttribute("aria-label") || of.textContent.trim() || of.labels?.length)
        && !["status", "presentation"].includes(of.getAttribute("role"))).length"""
    )
    assert unnamed == 0
    assert tab.get_by_role("img").count() == tab.locator("figure").count()


def test_many_points_are_drawn_and_read(opened, files):
    tab = opened(files[2])
    drawn = tab.locator("figure.chart .line").get_attribute("d")
    assert drawn.count("L") == POINTS - 1
    tab.locator(".plot").focus()
    tab.keyboard.press("End")
    tab.keyboard.press("+")
    assert tab.locator("figure.chart .line").get_attribute("d") != drawn
