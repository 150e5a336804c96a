"""The power flow of a scenario's hours: what it reads, keeps and refuses; without Prefect and Dask."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from bos_core.access.given_states import GivenStates, Schedule
from bos_core.api import Bos, Run, connect
from bos_core.grid.power_flow import solve_hours
from bos_core.objects.errors import NotFoundError, OptionError
from bos_core.report.collection import collect
from bos_core.report.page import render
from bos_core.report.tables import power_flow_cells
from flows.execution import execute
from flows.power_flow_step import plan
from flows.request import PowerFlowRequest
from flows.step import StepRun
from flows.task_set import open_task_set

RTS = Path(__file__).parents[4] / "shared" / "yardsticks" / "rts_gmlc"


@pytest.fixture(scope="module")
def bos(tmp_path_factory: pytest.TempPathFactory) -> Bos:
    """An installation with a grid that has hourly profiles, and one that has only its snapshot."""
    opened = connect(home=tmp_path_factory.mktemp("home"), user="planner", project="tests")
    opened.scenarios.import_(RTS, name="rts")
    opened.scenarios.import_("pandapower:case14", name="one")
    return opened


Solve = Callable[..., tuple[Run, list[bool]]]


@pytest.fixture(scope="module")
def solve(bos: Bos) -> Solve:
    """Return a function that carries out all tasks of a request: the run, and which tasks were executed."""

    def carry_out(trace_id: str = "", **fields: object) -> tuple[Run, list[bool]]:
        request = PowerFlowRequest.model_validate(fields)
        context, version = open_task_set(bos.workspace, request, trace_id or str(uuid.uuid4()), "power-flow")
        tasks = plan(StepRun(bos.workspace, request, context, version))
        bos.workspace.ledger.register(tasks)
        receipts = [execute(task.id, bos.workspace.settings, request) for task in tasks]
        assert [receipt.message for receipt in receipts] == [""] * len(tasks)
        return bos.open(context.trace_id), [receipt.executed for receipt in receipts]

    return carry_out


@pytest.fixture(scope="module")
def day(solve: Solve) -> Run:
    horizon = {"start_hour": 4800, "hours": 30}
    return solve(scenario="rts", horizon=horizon, chunk_hours=24)[0]


def test_profiles_make_hours_in_which_the_units_meet_the_load(bos: Bos, day: Run) -> None:
    reader = bos.scenarios.read("rts")
    assert GivenStates.of(reader) == GivenStates(Schedule.BALANCED, slice(0, 8760))
    hours = day.power_flow.hours()
    assert hours["hour"].to_pylist() == list(range(4800, 4830))
    assert set(hours["schedule"].to_pylist()) == {"balanced"}
    assert hours["outcome"].to_pylist() == [0] * 30
    assert max(hours["residual_pu"].to_pylist()) <= 1e-8
    given, used = (np.array(hours[name].to_pylist()) for name in ("generation_mw", "load_mw"))
    losses = np.array(hours["losses_mw"].to_pylist())
    assert given == pytest.approx(used + losses, rel=2e-3)  # an HVDC line has losses of its own
    assert len(set(np.round(used))) > 20


def test_kept_elements_agree_with_the_hours(day: Run) -> None:
    hours = day.power_flow.hours().to_pylist()
    worst = max(hours, key=lambda row: row["loading_max"])
    flow = day.power_flow.branch(worst["loading_branch"])
    assert flow["hour"].to_pylist() == list(range(4800, 4830))
    at = flow["hour"].to_pylist().index(worst["hour"])
    assert flow["loading"][at].as_py() == pytest.approx(worst["loading_max"], rel=1e-6)
    low = min(hours, key=lambda row: row["vm_min_pu"])
    voltage = day.power_flow.bus(low["vm_min_bus"])
    assert min(voltage["vm_pu"].to_pylist()) == low["vm_min_pu"]
    with pytest.raises(NotFoundError, match="Nowhere"):
        day.power_flow.bus("Nowhere")


def test_extremes_of_elements_are_those_of_all_hours(day: Run) -> None:
    data = collect(day.workspace, day.trace_id)
    hours = day.power_flow.hours()
    assert data.power_flow is not None
    assert data.power_flow.branches[0].loading_max == max(hours["loading_max"].to_pylist())
    rows = data.power_flow.branches
    assert [b.loading_max for b in rows] == sorted((b.loading_max for b in rows), reverse=True)
    for branch in data.power_flow.branches[:3]:
        at = day.power_flow.branch(branch.name)
        assert max(at["loading"].to_pylist()) == pytest.approx(branch.loading_max, rel=1e-6)
        assert at["hour"][int(np.argmax(at["loading"].to_numpy()))].as_py() == 4800 + branch.hour


def test_the_same_request_gives_the_same_content(bos: Bos, day: Run, solve: Solve) -> None:
    again, executed = solve(scenario="rts", horizon={"start_hour": 4800, "hours": 30}, chunk_hours=24)
    assert all(executed)
    digests = [
        sorted(
            (o.chunk, o.name, o.content_digest) for o in bos.workspace.ledger.outputs(run.trace_id, "power_flow")
        )
        for run in (day, again)
    ]
    assert digests[0] == digests[1]


def test_hours_do_not_depend_on_their_block(day: Run, solve: Solve) -> None:
    other, _ = solve(scenario="rts", horizon={"start_hour": 4806, "hours": 9}, chunk_hours=5)
    expected = day.power_flow.hours().slice(6, 9)
    assert other.power_flow.hours().to_pylist() == expected.to_pylist()


def test_a_finished_task_is_not_solved_again(day: Run, solve: Solve) -> None:
    fields = day.workspace.ledger.task_set(day.trace_id).request
    _, executed = solve(day.trace_id, **fields)
    assert executed == [False, False]


def test_a_grid_without_hours_is_solved_as_its_snapshot(bos: Bos, solve: Solve) -> None:
    run, _ = solve(scenario="one")
    grid, snapshot = bos.scenarios.read("one").grid()
    alone = solve_hours(grid, snapshot.block())
    hours = run.power_flow.hours().to_pylist()
    assert [row["schedule"] for row in hours] == ["snapshot"]
    assert hours[0]["losses_mw"] == alone.losses_mw[0]
    html = render(collect(run.workspace, run.trace_id))
    assert "The snapshot converged" in html
    assert "its snapshot was solved as one hour" in html


def test_only_totals_are_kept_when_asked(solve: Solve) -> None:
    run, _ = solve(scenario="one", elements=False)
    assert run.table("power_flow", "hours").num_rows == 1
    with pytest.raises(NotFoundError, match="buses"):
        run.power_flow.bus("1")


def test_hours_that_have_no_state_are_refused(bos: Bos, solve: Solve) -> None:
    with pytest.raises(OptionError, match=r"holds no hourly states.*leave --hours and --start out"):
        solve(scenario="one", horizon={"hours": 24})


def test_more_rows_than_a_disk_may_want_are_refused(solve: Solve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.power_flow_step.ELEMENT_ROWS_MAX", 1000)
    with pytest.raises(OptionError, match="elements=false"):
        solve(scenario="rts", horizon={"hours": 24})


def test_a_request_is_checked_before_anything_runs() -> None:
    for bad in ({"programs": {"power_flow": "no_such"}}, {"horizon": {"hours": 0}}, {"programs": {"n1": "x"}}):
        with pytest.raises(ValidationError):
            PowerFlowRequest.model_validate({"scenario": "one", **bad})


def test_the_report_shows_pictures_and_a_summary(day: Run) -> None:
    data = collect(day.workspace, day.trace_id)
    html = render(data)
    for words in ("Duration of the highest loading", "Voltage band over buses", "Most loaded branches", "Losses"):
        assert words in html
    assert "no dispatch" in " ".join(data.head.warnings)
    assert data.power_flow is not None
    rows = {row[0]: row for row in power_flow_cells(data.power_flow, str).rows}
    assert rows["Hours converged"][1] == "30 of 30"
    assert rows["Highest loading"][2] == data.power_flow.branches[0].name
