"""What a planner sees in Prefect's UI, in a real Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.request import PlanRequest

expect.set_options(timeout=30_000)

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    if not Path(CHROMIUM).exists():
        pytest.fail("there is no Chromium; run apt-get install chromium", pytrace=False)
    profile = tmp_path_factory.mktemp("chromium")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=CHROMIUM,
            headless=True,
            args=list(FLAGS),
            viewport={"width": 1200, "height": 2400},
        )
        yield context
        context.close()


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    opened = browser.new_page()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def week(service: Any) -> str:
    """Path of the run form of ``planning-chain/week``."""
    with temporary_settings({PREFECT_API_URL: service.api}), get_client(sync_client=True) as client:
        return f"deployments/deployment/{client.read_deployment_by_name('planning-chain/week').id}/run"


@pytest.mark.parametrize("ui", ["/v2", ""], ids=["default", "older"])
def test_nothing_leaves_the_machine(service: Any, page: Page, ui: str) -> None:
    """A request beyond the server may only be one that the page's own policy stops."""
    sent: set[str] = set()
    stopped: set[str] = set()
    page.on("request", lambda request: sent.add(request.url))
    page.on("requestfailed", lambda request: stopped.add(request.url) if request.failure == "csp" else None)

    page.goto(f"{service.url}{ui}/blocks/catalog")
    expect(page.get_by_text("BOS relational index")).to_be_visible()
    outside = {url for url in sent if url.startswith("http") and not url.startswith(service.url)}
    assert outside <= stopped
    assert any(url.startswith(service.api) for url in sent - stopped)


def test_the_deployments_are_listed(service: Any, page: Page, tmp_path: Path) -> None:
    page.goto(service.url)
    page.get_by_role("link", name="Deployments").click()
    businesses = len(entry_points(group="bos.businesses"))
    expect(page.get_by_text(f"{businesses + 1} Deployments")).to_be_visible()  # the chain: a week and a year
    page.goto(f"{service.url}/v2/deployments?limit=25")
    for name in ("annual", "week", "step-1-system-model", "step-6-n1-verification", "power-flow"):
        expect(page.get_by_text(name, exact=True)).to_be_visible()
    page.screenshot(path=tmp_path / "deployments.png")


def test_the_run_form_has_titles_descriptions_and_drop_downs(
    service: Any, page: Page, week: str, tmp_path: Path
) -> None:
    page.goto(f"{service.url}/v2/{week}")
    expect(page.get_by_text("Everything that decides the result of a planning run.")).to_be_visible()
    for title in ("Scenario", "Kept voltage level (kV)", "Contingencies", "Snapshot hour", "Unit commitment"):
        expect(page.get_by_text(title).first).to_be_visible()
    for description in (
        "How many hours to plan; 8760 is the year.",
        "Dispatch active power for a day under network limits.",
        "A name means its newest version that no run made, name@number one of its versions.",
    ):
        expect(page.get_by_text(description)).to_be_visible()
    page.screenshot(path=tmp_path / "form.png")
    _choose(page, "lazy_ptdf", "glpk_dispatch", tmp_path / "programs.png")
    _choose(page, "six", "six@1", tmp_path / "scenarios.png")
    page.screenshot(path=tmp_path / "chosen.png")


def _choose(page: Page, shown: str, wanted: str, picture: Path) -> None:
    """Open the drop-down that shows one value and choose another."""
    expect(page.get_by_text(wanted, exact=True)).to_have_count(0)
    page.get_by_text(shown, exact=True).click()
    option = page.get_by_role("option", name=wanted, exact=True)
    expect(option).to_be_visible()
    page.screenshot(path=picture)
    option.click()
    expect(page.get_by_text(wanted, exact=True).first).to_be_visible()


def test_a_step_behind_the_plan_leaves_the_hours_open(service: Any, page: Page, tmp_path: Path) -> None:
    name = "step-6-n1-verification/default"
    with temporary_settings({PREFECT_API_URL: service.api}), get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(name).id
        page.goto(f"{service.url}/v2/deployments/deployment/{deployment}/run")
        expect(page.get_by_text("Empty: every hour that the scenario has planned.")).to_be_visible()
        page.screenshot(path=tmp_path / "form.png")
        page.get_by_role("button", name="Submit", exact=True).click()
        expect(page).to_have_url(re.compile(f"{deployment}[?]"))
        (run,) = client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
        )
    assert PlanRequest.model_validate(run.parameters["request"]).horizon.model_fields_set == set()


def test_the_older_ui_shows_the_same_form(service: Any, page: Page, week: str, tmp_path: Path) -> None:
    page.goto(f"{service.url}/{week}")
    for text in ("Dispatch active power for a day under network limits.", "lazy_ptdf", "six"):
        expect(page.get_by_text(text, exact=True)).to_be_visible()
    page.screenshot(path=tmp_path / "form.png")
