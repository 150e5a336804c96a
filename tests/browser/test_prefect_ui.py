"""What a planner sees in Prefect's UI, in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

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
WAIT_MS = 30_000


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
        context.set_default_timeout(WAIT_MS)
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


def test_the_deployments_are_listed(service: Any, page: Page, tmp_path: Path) -> None:
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.goto(f"{service.url}/v2/deployments?limit=100")
    expect(page.get_by_text("11 Deployments")).to_be_visible(timeout=WAIT_MS)
    for name in ("annual", "week"):
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()
    for flow in ("step-1-system-model", "step-6-n1-verification", "step-7-state-adjustment"):
        expect(page.get_by_text(flow)).to_be_visible()
    page.screenshot(path=tmp_path / "deployments.png")
    assert hosts == {f"127.0.0.1:{service.port}"}


def test_the_run_form_has_titles_descriptions_and_drop_downs(
    service: Any, page: Page, week: str, tmp_path: Path
) -> None:
    page.goto(f"{service.url}/v2/{week}")
    expect(page.get_by_text("Everything that decides the result of a planning run.")).to_be_visible(
        timeout=WAIT_MS
    )
    for title in ("Scenario", "Kept voltage level (kV)", "Contingencies", "Snapshot hour", "Unit commitment"):
        expect(page.get_by_text(title, exact=False).first).to_be_visible()
    for description in (
        "How many hours to plan; 8760 is the year.",
        "Dispatch active power for a day under network limits.",
        "A name means its newest version, name@number one of its versions.",
    ):
        expect(page.get_by_text(description)).to_be_visible()
    page.screenshot(path=tmp_path / "form.png")
    chosen = page.get_by_role("combobox").filter(has_text="lazy_ptdf")
    expect(chosen).to_be_visible()
    chosen.click()
    expect(page.get_by_role("option", name="glpk_dispatch")).to_be_visible()
    page.screenshot(path=tmp_path / "programs.png")
    page.keyboard.press("Escape")
    page.get_by_role("combobox").filter(has_text="six").click()
    expect(page.get_by_role("option", name="six@1")).to_be_visible()
    page.screenshot(path=tmp_path / "scenarios.png")


def test_the_older_ui_shows_the_same_form(service: Any, page: Page, week: str, tmp_path: Path) -> None:
    page.goto(f"{service.url}/{week}")
    expect(page.get_by_text("Dispatch active power for a day under network limits.")).to_be_visible(
        timeout=WAIT_MS
    )
    expect(page.get_by_text("lazy_ptdf", exact=True)).to_be_visible()
    page.screenshot(path=tmp_path / "older.png")
