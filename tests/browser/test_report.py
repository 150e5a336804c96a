"""The report in a real Chromium: it opens fast, asks nothing of the network, and its selectors work."""

import dataclasses
import time
from pathlib import Path

import pytest
from playwright import sync_api
from pyarrow import csv

from bos_core.report.page import write

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
SECTIONS = [
    *("summary", "table6", "network", "schedule", "contingency", "dispatch", "costs", "use", "commitment"),
    *("security", "adjustment", "method", "annual", "provenance"),
]


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def week(example, tmp_path_factory):
    return write(example.make(168), tmp_path_factory.mktemp("report") / "week.html")


class Opened:
    """A page with everything it said and asked for."""

    def __init__(self, browser, path, wait_for="html[data-complete=yes]", **options):
        self.context = browser.new_context(viewport={"width": 1440, "height": 900}, **options)
        self.page = self.context.new_page()
        self.said, self.asked = [], []
        self.page.on("console", lambda m: self.said.append(f"{m.type}: {m.text}"))
        self.page.on("pageerror", lambda e: self.said.append(f"error: {e}"))
        self.page.on("request", lambda r: self.asked.append(r.url))
        started = time.monotonic()
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready=yes]")
        self.open_s = time.monotonic() - started
        self.page.wait_for_selector(wait_for, state="attached", timeout=120_000)

    def trace(self, chart, which=0):
        """First numbers of a drawn trace's y."""
        script = "([id, i]) => Array.from(document.querySelector(`#${id} .js-plotly-plot`).data[i].y).slice(0, 48)"
        return self.page.evaluate(script, [chart, which])


@pytest.fixture(scope="module")
def opened(browser, week):
    opened = Opened(browser, week)
    yield opened
    opened.context.close()


def test_opens_in_less_than_ten_seconds(opened):
    assert opened.open_s < 10


def test_asks_nothing_of_the_network(opened, week):
    assert [url for url in opened.asked if not url.startswith(("blob:", "data:"))] == [week.as_uri()]


def test_says_nothing_on_the_console(opened):
    assert opened.said == []


def test_all_sections_are_there_and_every_figure_is_drawn(opened):
    for name in SECTIONS:
        assert opened.page.locator(f"#{name}").count() == 1
    figures = opened.page.locator("figure.chart").count()
    assert figures > 25
    drawn = opened.page.evaluate(
        "[...document.querySelectorAll('figure.chart')]"
        ".filter(f => f.querySelector('.js-plotly-plot .main-svg')).length"
    )
    assert drawn == figures
    assert opened.page.locator(".failed").count() == 0


def test_table_6_has_its_stages(opened):
    text = opened.page.locator("#table6 table").inner_text()
    for stage in ("Unit commitment", "N-1 verification", "State adjustment", "Total"):
        assert stage in text


def test_another_contingency_changes_the_plot_and_its_summary(opened):
    figure = opened.page.locator("#contingency figure")
    before, said = opened.trace("contingency-0"), figure.locator(".summary-line").inner_text()
    figure.locator("select").select_option(index=7)
    opened.page.wait_for_function(
        "text => document.querySelector('#contingency .summary-line').textContent !== text", arg=said
    )
    opened.page.wait_for_timeout(300)
    assert opened.trace("contingency-0") != before


def test_the_next_button_steps_to_the_next_contingency(opened):
    select = opened.page.locator("#contingency select")
    select.select_option(index=2)
    opened.page.locator("#contingency button[title=Next]").click()
    assert select.input_value() == "3"


def test_contingency_values_are_the_given_ones(opened, example):
    c = example.make(168).contingencies
    opened.page.locator("#contingency select").select_option(index=4)
    name = opened.page.locator("#contingency select option").nth(4).inner_text().split(". ", 1)[1]
    opened.page.wait_for_function(
        "name => document.querySelector('#contingency .summary-line').textContent.startsWith(name + ' out')",
        arg=name,
    )
    opened.page.wait_for_timeout(300)
    column = list(c.name).index(name)
    assert opened.trace("contingency-0") == pytest.approx(100 * c.loading_max[:48, column], abs=0.03)
    assert opened.trace("contingency-0", 1) == pytest.approx(c.vm_min_pu[:48, column], abs=6e-5)


def test_another_unit_changes_its_curve(opened, example):
    s = example.make(168).schedule
    figure = opened.page.locator("#schedule-1")
    name = figure.locator("select option").nth(40).inner_text()
    figure.locator("select").select_option(index=40)
    opened.page.wait_for_function(
        "name => document.querySelector('#schedule-1 .summary-line').textContent.includes(name)", arg=name
    )
    opened.page.wait_for_timeout(300)
    column = list(s.unit_name).index(name)
    assert opened.trace("schedule-1") == pytest.approx(s.unit_p_mw[:48, column], abs=0.03)


def test_another_snapshot_changes_the_map(opened):
    count = "document.querySelector('#network .js-plotly-plot').data.length"
    opened.page.locator("#network select").select_option(label="Voltage levels")
    opened.page.wait_for_function(f"{count} < 9")
    opened.page.locator("#network select").select_option(index=0)
    opened.page.wait_for_function(f"{count} > 9")


def test_violations_unfold_and_download(opened, example):
    page = opened.page
    details = page.locator("#security details").last
    assert not details.locator("table").is_visible()
    details.locator("summary").click()
    assert details.locator("table").is_visible()
    with page.expect_download() as waiting:
        page.locator("#security .download button").click()
    rows = csv.read_csv(waiting.value.path())
    assert waiting.value.suggested_filename == "violations.csv"
    assert rows.num_rows == example.make(168).security.remaining.num_rows


def test_values_tell_the_command_that_traces_them(opened, example):
    """Rows of the worst pairs, a point of a unit's curve, and one of a contingency's."""
    page, head = opened.page, example.make(168).head
    shown = page.locator("aside.trace code")
    page.locator("#security tr[data-trace]").first.click()
    row = page.locator("#security tr[data-trace]").first.get_attribute("data-trace")
    assert shown.inner_text() == f"bos trace '{row}'"
    assert row.startswith(f"{head.trace_id[:8]}/")
    for chart, place in (("#schedule-1", f"{head.scenario_version}/unit.p_mw["), ("#contingency-0", "pairs[")):
        area = page.locator(f"{chart} .nsewdrag").first
        area.scroll_into_view_if_needed()
        box = area.bounding_box()
        middle = box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"]
        page.mouse.move(*middle)
        page.wait_for_selector(f"{chart} .hoverlayer .legend, {chart} .hoverlayer .hovertext")
        page.mouse.click(*middle)
        page.wait_for_function("text => document.querySelector('aside.trace').innerText.includes(text)", arg=place)
        hour = int(shown.inner_text().split("hour=")[1].split(",")[0])
        assert abs(hour - head.first_hour - 84) <= 1
    page.locator("aside.trace .close").click()
    assert not shown.is_visible()


def test_dark_and_light(opened):
    colour = "getComputedStyle(document.body).backgroundColor"
    light = opened.page.evaluate(colour)
    opened.page.locator("#theme").click()
    assert opened.page.evaluate(colour) != light
    opened.page.locator("#theme").click()
    assert opened.page.evaluate(colour) == light


def test_prints_every_figure(opened):
    assert len(opened.page.pdf(prefer_css_page_size=True)) > 200_000


def test_a_page_no_wider_than_a_tablet_does_not_scroll_sideways(browser, week):
    opened = Opened(browser, week, wait_for="#network-0 .main-svg")
    opened.page.set_viewport_size({"width": 760, "height": 1000})
    opened.page.wait_for_function("document.documentElement.scrollWidth <= 760")
    opened.context.close()


def test_a_partial_run_opens_without_errors(browser, example, tmp_path):
    data = example.make(24, 30, 50, 20, coordinates=False)
    partial = dataclasses.replace(data, schedule=None, contingencies=None, adjustment=None, annual=None)
    opened = Opened(browser, write(partial, tmp_path / "partial.html"), color_scheme="dark")
    assert opened.said == []
    assert "not available" in opened.page.locator("#schedule").inner_text()
    opened.context.close()


def test_a_year_stays_small_and_opens_fast(browser, example, tmp_path):
    path = write(example.make(8760), tmp_path / "year.html")
    assert path.stat().st_size < 10 * 2**20
    opened = Opened(browser, path, wait_for="#schedule-1 .js-plotly-plot .main-svg")
    assert opened.open_s < 10
    assert opened.said == []
    assert len(opened.trace("schedule-1")) == 48
    opened.context.close()
