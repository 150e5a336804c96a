"""The planning chain on a real reduced grid, with a real Prefect server and Dask workers, one week."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bos_core.api import Bos, Run, connect
from bos_core.objects.settings import StoreOptions
from bos_core.objects.task import TaskState
from bos_core.report.collection_schedule import schedule
from bos_core.report.collection_violations import verified
from bos_core.report.pair_survey import survey_pairs
from bos_core.report.run_sources import RunSources
from flows.request import STEP_ORDER
from slots.n1_verification.contract import DIVERGED

pytestmark = pytest.mark.timeout(1800)

RTS_GMLC = Path(__file__).parents[3] / "shared" / "yardsticks" / "rts_gmlc"
HOURS = 168


@pytest.fixture(scope="module")
def bos(tmp_path_factory: pytest.TempPathFactory) -> Bos:
    """An empty installation with the RTS-GMLC grid."""
    opened = connect(home=tmp_path_factory.mktemp("home"), user="planner", project="tests")
    opened.scenarios.import_(RTS_GMLC, name="rts")
    return opened


@pytest.fixture(scope="module")
def week(bos: Bos) -> Run:
    """One week of the year on the 230 kV part."""
    return bos.run("planning-chain", scenario="rts", hours=HOURS, start=24 * 181, base_kv_min=200.0).wait(1500)


def test_every_step_makes_a_version(bos: Bos, week: Run) -> None:
    versions = bos.workspace.scenarios.versions(trace_id=week.trace_id)
    assert {version.step for version in versions} == set(STEP_ORDER)
    assert week.task_state is TaskState.SUCCESS


def test_every_pair_of_hour_and_outage_is_verified(week: Run) -> None:
    grid, _ = week.state("n1_verification").reader.grid()
    assert week.n1.pairs(["hour"]).num_rows == int(grid.network.outage_candidate.sum()) * HOURS
    assert sum(week.n1.counts().values()) == week.n1.pairs(["hour"]).num_rows
    worst = week.n1.worst(20)
    assert worst.num_rows == 20
    assert set(worst["outcome"].to_pylist()) <= {"converged", "islanded", "diverged"}
    for column in ("loading_branch", "vm_min_bus", "vm_max_bus"):  # a pair that diverged has no worst element
        assert worst[column].is_null().to_pylist() == np.isnan(worst["loading_max"].to_numpy()).tolist()


def test_the_survey_of_pairs_agrees_with_all_of_them(bos: Bos, week: Run) -> None:
    sources = RunSources(bos.workspace, week.trace_id)
    survey, pairs = survey_pairs(sources), verified(sources, "pairs")
    assert survey is not None
    assert pairs is not None
    rows = pairs.sort_by([("hour", "ascending"), ("contingency", "ascending")]).to_pandas()
    by_hour = rows.pivot(index="hour", columns="contingency")
    assert survey.rows == len(rows)
    assert survey.outcome_pairs.tolist() == [int((rows.outcome == k).sum()) for k in range(3)]
    assert survey.diverged.shape[1] == survey.outcome_pairs[2]
    for name, values in survey.extremes.items():
        np.testing.assert_array_equal(values, by_hour[name][survey.shown].to_numpy())
    severity = rows.loading_max.fillna(np.inf).groupby(rows.contingency).max()
    np.testing.assert_array_equal(
        survey.worst["loading_max"].to_pandas().fillna(np.inf), severity.sort_values(ascending=False)
    )


def test_random_pairs_agree_with_open_load_flow(bos: Bos, week: Run) -> None:
    path = Path(__file__).parents[1] / "oracle" / "resolve_pairs.py"
    spec = importlib.util.spec_from_file_location("resolve_pairs", path)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    sys.modules["resolve_pairs"] = tool
    spec.loader.exec_module(tool)
    found = list(tool.compare(bos.workspace, week.trace_id, 300, 168, 1))
    assert [c for c in found if c.ours != c.theirs and not c.without_slack] == []
    solved = [c for c in found if c.ours != DIVERGED and not c.without_slack]
    assert [c for c in solved if not (c.vm_pu < tool.SAME_PU and c.loading < tool.SAME_LOADING)] == []
    assert len(solved) > 0.9 * len(found)


def test_the_plan_begins_without_ramps(week: Run) -> None:
    """What ran before the plan is unknown: its first hour is no worse off than the next."""
    hours = week.table("active_dispatch", "hours")
    assert hours["shed_mw"][0].as_py() == pytest.approx(0.0, abs=1e-6)
    assert hours["reserve_short_mw"][0].as_py() == pytest.approx(0.0, abs=1e-6)


def test_the_energy_of_the_final_schedule_balances(bos: Bos, week: Run) -> None:
    states = schedule(RunSources(bos.workspace, week.trace_id))
    assert states is not None
    assert states.load_mw is not None
    assert states.losses_mw is not None
    assert states.shed_mw is not None
    supply = states.unit_p_mw.sum(axis=1) + np.nansum(states.storage_p_mw, axis=1) + states.shed_mw
    lines = np.nansum(np.abs(states.hvdc_p_mw), axis=1)
    left = supply - states.load_mw - states.losses_mw
    assert (left >= -1e-3 * states.load_mw).all()
    assert (left <= 1e-3 * states.load_mw + 0.1 * lines).all()


def test_the_model_of_step_one_has_no_state(week: Run) -> None:
    reader = week.state("system_model").reader
    assert not reader.table("unit_state").num_rows
    assert not reader.series_names()


def test_power_balances_and_ac_equations_hold_in_every_hour(week: Run) -> None:
    hours = week.table("reactive_dispatch", "hours")
    assert hours.num_rows == HOURS
    assert (hours["residual_pu"].to_numpy() <= 1e-6).all()
    assert np.nanmax(hours["vm_difference_pu"].to_numpy()) < 1e-6
    assert week.table("reactive_dispatch", "boundary").num_rows == HOURS // 24 - 1


def test_states_are_reached_by_name(week: Run) -> None:
    state = week.state("reactive_dispatch")
    grid, _ = state.reader.grid()
    voltage = state.bus(str(grid.network.bus_name[0])).vm_pu
    assert voltage.shape == (HOURS,)
    assert ((voltage > 0.8) & (voltage < 1.2)).all()


def test_table6_counts_every_task(week: Run) -> None:
    rows = {row.stage: row for row in week.table6()}
    days = HOURS // 24
    assert rows["Unit commitment"].tasks == days + 1
    assert rows["Active dispatch"].tasks == days + 1
    assert rows["N-1 verification"].subtasks == week.n1.pairs(["hour"]).num_rows


def test_log_lines_of_workers_carry_the_trace_id(week: Run) -> None:
    lines = week.log()
    assert lines
    assert {line.trace_id for line in lines} == {week.trace_id}
    assert any(line.logger.startswith("slots.") or line.logger == "bos" for line in lines)


def test_the_report_is_one_offline_file(week: Run, tmp_path: Path) -> None:
    page = week.report(tmp_path / "report.html").read_text()
    assert "N-1" in page
    assert 'src="http' not in page


def test_resuming_a_finished_run_computes_nothing(bos: Bos, week: Run) -> None:
    ledger = bos.workspace.ledger
    before = {task.id: task.attempt for task in ledger.tasks(week.trace_id)}
    command = [sys.executable, "-m", "bos_core.cli", "run", "--resume", week.trace_id]
    done = subprocess.run(
        command,
        env={**os.environ, **bos.workspace.settings.environment()},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "logging to API" not in done.stderr
    assert {task.id: task.attempt for task in ledger.tasks(week.trace_id)} == before


def test_the_full_profile_holds_the_same_results(
    bos: Bos,
    tmp_path: Path,
    postgresql_url: str,
    s3_url: str,
    s3_options: StoreOptions,
    graph_settings: dict[str, str],
) -> None:
    """PostgreSQL, S3 and Neo4j in place of files: the settings say so, and nothing else changes."""
    other = connect(
        home=tmp_path / "home",
        database_url=postgresql_url,
        store_url=s3_url,
        store_options=s3_options,
        **graph_settings,
        user="planner",
        project="tests",
    )
    other.scenarios.import_(RTS_GMLC, name="rts")
    day = {"hours": 24, "start": 24 * 181, "base_kv_min": 200.0, "chunk_hours": 12}
    runs = [place.run("planning-chain", scenario="rts", **day).wait(900) for place in (bos, other)]
    local, remote = (_digests(run) for run in runs)
    assert remote == local
    assert {step for step, _, _ in local} == set(STEP_ORDER)
    assert _neighbours(other) == _neighbours(bos)
    assert not [f for f in (tmp_path / "home").iterdir() if f.name in {"store", "index.sqlite", "graph.lbug"}]


def _neighbours(bos: Bos) -> list[dict[str, object]]:
    """Ask the graph, not the tables in its place."""
    with bos.ontology("rts") as grid:
        answer = grid.near(grid.element("Abel", "bus"), "line", hops=2).select("i_max_ka").run()
    engine = "neo4j" if bos.workspace.settings.graph_url else "ladybug"
    assert {step.source for step in answer.plan.steps} == {
        engine,
        "sqlite" if engine == "ladybug" else "postgresql",
    }
    return answer.table.to_pylist()


def _digests(run: Run) -> dict[tuple[str, str, str], str]:
    ledger = run.workspace.ledger
    step_of = {task.id: task.step for task in ledger.tasks(run.trace_id)}
    return {(step_of[o.task_id], o.chunk, o.name): o.content_digest for o in ledger.outputs(run.trace_id)}
