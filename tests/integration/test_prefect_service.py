"""`bos up` for real: server, pool, deployments, forms, runs, restarts."""

from __future__ import annotations

import importlib
import signal
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags, LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import StateType
from prefect.deployments import run_deployment
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, temporary_settings

from bos_core.access.workspace import Workspace
from bos_core.api import Scenarios
from bos_core.index.containers import ContainerIndex
from bos_core.index.scenarios import Chunk
from bos_core.objects.task import TaskState
from bos_core.scheduling.prefect_server import server_url
from flows.request import STEP_ORDER
from flows.steps import STEPS

RTS_GMLC = Path(__file__).parents[3] / "shared" / "yardsticks" / "rts_gmlc"

ALL = [
    "planning-chain/annual",
    "planning-chain/week",
    "power-flow/default",
    "step-1-system-model/default",
    "step-2-snapshot/default",
    "step-3-equivalence/default",
    "step-4-annual-states/default",
    "step-5a-unit-commitment/default",
    "step-5b-active-dispatch/default",
    "step-5c-reactive-dispatch/default",
    "step-6-n1-verification/default",
    "step-7-state-adjustment/default",
]


@pytest.fixture(scope="module")
def client(service: Any) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: service.api}), get_client(sync_client=True) as found:
        yield found


@pytest.fixture(scope="module")
def workspace(service: Any) -> Workspace:
    return Workspace.open(service.settings)


def _eventually(condition: Callable[[], bool], seconds: float = 40) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.2)
    return False


def _form(client: SyncPrefectClient, name: str) -> dict[str, Any]:
    return client.read_deployment_by_name(name).parameter_openapi_schema


def _scenarios(client: SyncPrefectClient) -> list[str]:
    schema = _form(client, "planning-chain/week")
    return schema["definitions"]["PlanRequest"]["properties"]["scenario"]["enum"]


def test_every_deployment_is_there_and_importable(client: SyncPrefectClient) -> None:
    found = {f"{client.read_flow(d.flow_id).name}/{d.name}": d for d in client.read_deployments(limit=100)}
    assert sorted(found) == ALL
    for deployment in found.values():
        module, _, name = deployment.entrypoint.rpartition(".")
        assert hasattr(importlib.import_module(module), name)
        assert not deployment.pull_steps
        assert (deployment.work_pool_name, deployment.work_queue_name) == ("bos", "normal")
        assert deployment.description
    assert client.read_work_pool("bos").type == "bos-coscheduling-process"
    assert {"urgent", "normal", "trial"} <= {q.name for q in client.read_work_queues(work_pool_name="bos")}


def test_the_nightly_schedule_is_off(client: SyncPrefectClient) -> None:
    annual = client.read_deployment_by_name("planning-chain/annual")
    assert [(s.active, s.schedule.cron) for s in annual.schedules] == [(False, "0 1 * * *")]
    assert annual.parameters["request"] == {"scenario": "six", "horizon": {"start_hour": 0, "hours": 8760}}
    week = client.read_deployment_by_name("planning-chain/week")
    assert week.schedules == []
    assert week.parameters["request"]["horizon"]["hours"] == 168


@pytest.mark.parametrize("name", ["planning-chain/week", "step-6-n1-verification/default"])
def test_forms_offer_what_exists(client: SyncPrefectClient, name: str) -> None:
    schema = _form(client, name)
    assert schema["properties"]["request"]["title"] == "Request"
    request = schema["definitions"]["PlanRequest"]["properties"]
    assert request["scenario"]["enum"][:2] == ["six", "six@1"]
    assert request["horizon"]["title"] == "Horizon"
    programs = schema["definitions"]["Programs"]["properties"]
    assert {"lazy_ptdf", "glpk_dispatch"} <= set(programs["active_dispatch"]["enum"])
    assert programs["active_dispatch"]["default"] == programs["active_dispatch"]["enum"][0]
    for entry in [
        *programs.values(),
        request["scenario"],
        request["contingencies"],
        *schema["properties"].values(),
    ]:
        assert entry["title"][0].isupper()
        assert entry["description"].endswith(".")


def test_a_new_program_appears_without_a_redeploy(
    client: SyncPrefectClient, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slots.active_dispatch
    from flows.deployments import refresh_forms

    before = client.read_deployment_by_name("planning-chain/week")
    (tmp_path / "my_dispatch.py").write_text("MANIFEST = None\n")
    monkeypatch.setattr(slots.active_dispatch, "__path__", [*slots.active_dispatch.__path__, str(tmp_path)])
    refresh_forms(workspace)
    after = client.read_deployment_by_name("planning-chain/week")
    programs = after.parameter_openapi_schema["definitions"]["Programs"]["properties"]
    assert "my_dispatch" in programs["active_dispatch"]["enum"]
    assert (after.id, after.parameters) == (before.id, before.parameters)
    monkeypatch.undo()
    refresh_forms(workspace)
    assert _form(client, "planning-chain/week") == before.parameter_openapi_schema


def test_a_new_scenario_appears_by_itself(client: SyncPrefectClient, workspace: Workspace) -> None:
    workspace.scenarios.create("other")
    workspace.scenarios.add_version("other", [Chunk("table/bus", "0" * 64, 1, 1)])
    assert _eventually(lambda: {"other", "other@1"} <= set(_scenarios(client)))
    assert client.read_deployment_by_name("planning-chain/week").parameters["request"]["scenario"] == "six"


def test_a_deployment_runs_on_the_worker(client: SyncPrefectClient, workspace: Workspace) -> None:
    run = run_deployment(
        "step-1-system-model/default",
        parameters={"request": {"scenario": "six", "horizon": {"start_hour": 0, "hours": 24}}},
        timeout=120,
        poll_interval=0.3,
    )
    run = client.read_flow_run(run.id)
    assert run.state is not None
    assert run.state.type is StateType.COMPLETED, run.state.message
    record = workspace.ledger.task_sets(1)[0]
    assert record.state is TaskState.SUCCESS
    assert record.context.user == "planner"
    assert {f"trace:{record.trace_id}", "step:system_model"} <= set(run.tags)
    assert workspace.scenarios.versions(trace_id=record.trace_id)


def test_processes_of_the_home_are_in_the_tree_and_tasks_lead_to_them(workspace: Workspace) -> None:
    index = ContainerIndex(workspace.engine)

    def instances() -> dict[str, str]:
        nodes = [n for server in index.tree().servers for n in server.containers]
        return {i.service: i.address for n in nodes for i in n.container.instances}

    assert _eventually(lambda: {"prefect-server", "prefect-worker", "projector", "monitor"} <= instances().keys())
    holders = {
        task.holder for record in workspace.ledger.task_sets(1) for task in workspace.ledger.tasks(record.trace_id)
    }
    found = index.holders(holders)
    assert found.keys() == holders
    for holder in holders:  # idle, and kept for a while in case that another run follows
        with suppress(psutil.NoSuchProcess):
            psutil.Process(int(holder.split("/")[1])).kill()
    assert _eventually(lambda: all(c.ended_s for c, _ in index.holders(holders).values()))
    before = instances()["projector"]
    psutil.Process(int(before.split("/")[1])).kill()
    assert _eventually(lambda: before not in instances().values())
    assert _eventually(lambda: "projector" in instances())


@pytest.mark.timeout(600)
def test_the_whole_chain_runs_on_the_worker(
    service: Any, client: SyncPrefectClient, workspace: Workspace, tmp_path: Path
) -> None:
    Scenarios(workspace).import_(RTS_GMLC, name="rts")
    assert _eventually(lambda: "rts" in _scenarios(client))
    request = {
        "scenario": "rts",
        "horizon": {"start_hour": 24 * 181, "hours": 24},
        "base_kv_min": 200.0,
        "chunk_hours": 12,
    }
    started = run_deployment(
        "planning-chain/week", parameters={"request": request}, timeout=500, poll_interval=0.5
    )
    run = client.read_flow_run(started.id)
    assert run.state is not None
    assert run.state.type is StateType.COMPLETED, run.state.message
    record = workspace.ledger.task_sets(1)[0]
    assert record.state is TaskState.SUCCESS
    assert f"trace:{record.trace_id}" in run.tags
    of_trace = FlowRunFilter(tags=FlowRunFilterTags(all_=[f"trace:{record.trace_id}"]))
    subflows = {flow.name for flow in client.read_flow_runs(flow_run_filter=of_trace)} - {run.name}
    assert {f"{step.title} rts 24 h" for step in map(STEPS.__getitem__, STEP_ORDER)} <= subflows
    artifacts = {str(a.key): a for a in client.read_artifacts(flow_run_filter=of_trace, limit=100)}
    for step in STEP_ORDER:
        assert artifacts[f"progress-{step.replace('_', '-')}"].data == 100.0
        assert "success" in str(artifacts[f"tasks-{step.replace('_', '-')}"].data)
    assert "N-1 verification" in str(artifacts["table-6"].data)
    assert "Still violated" in str(artifacts["violations"].description)
    link = str(artifacts["report"].data).partition("(")[2].rstrip(")")
    assert link == f"{service.url}/reports/{record.trace_id}.html"
    with urllib.request.urlopen(link, timeout=30) as page:
        assert b"<title>Planning of rts, 24 hours" in page.read()
    lines = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])))
    assert any(record.trace_id in line.message for line in lines)


@pytest.mark.timeout(400)
def test_a_power_flow_runs_on_the_worker(service: Any, client: SyncPrefectClient, workspace: Workspace) -> None:
    form = _form(client, "power-flow/default")["definitions"]["PowerFlowRequest"]["properties"]
    assert "six" in form["scenario"]["enum"]
    started = run_deployment(
        "power-flow/default", parameters={"request": {"scenario": "six"}}, timeout=300, poll_interval=0.5
    )
    run = client.read_flow_run(started.id)
    assert run.state is not None
    assert run.state.type is StateType.COMPLETED, run.state.message
    record = workspace.ledger.task_sets(1)[0]
    assert (record.business, record.state) == ("power-flow", TaskState.SUCCESS)
    with urllib.request.urlopen(f"{service.url}/reports/{record.trace_id}.html", timeout=30) as page:
        assert b"The snapshot converged" in page.read()


def test_a_run_of_the_terminal_shows_its_log_in_the_ui_and_not_on_the_screen(
    service: Any, client: SyncPrefectClient, workspace: Workspace
) -> None:
    options = ["--grid", "six", "--hours", "24", "--to-step", "system_model"]
    done = subprocess.run(
        service.command("run", "planning-chain", *options),
        env=service.environment(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "| INFO" not in done.stdout + done.stderr
    record = workspace.ledger.task_sets(1)[0]
    of_trace = FlowRunFilter(tags=FlowRunFilterTags(all_=[f"trace:{record.trace_id}"]))
    runs = [flow.id for flow in client.read_flow_runs(flow_run_filter=of_trace)]
    lines = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=runs)))
    assert any(record.trace_id in line.message for line in lines)


def test_an_unknown_program_is_refused_at_once(client: SyncPrefectClient) -> None:
    request = {"scenario": "six", "programs": {"active_dispatch": "lazy_ptfd"}}
    with pytest.raises(PrefectHTTPStatusError) as caught:
        run_deployment("planning-chain/week", parameters={"request": request}, timeout=0)
    assert "lazy_ptfd" in caught.value.response.text


def test_another_process_finds_the_server(service: Any) -> None:
    assert server_url(service.settings.home) == service.api
    again = subprocess.run(
        service.command("up"), env=service.environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert again.returncode == 0
    assert service.url in again.stdout.replace("\n", "")


def test_a_port_in_use_is_named(service: Any, tmp_path: Path) -> None:
    environment = service.environment() | {"BOS_HOME": str(tmp_path)}
    refused = subprocess.run(
        service.command("up", "--port", str(service.port)),
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    text = " ".join((refused.stdout + refused.stderr).split())
    assert refused.returncode == 2
    assert "Traceback" not in text
    assert f"option.port {service.port}: is in use" in text
    assert "choose another with --port" in text


def test_registering_again_keeps_what_users_set(client: SyncPrefectClient, workspace: Workspace) -> None:
    from flows.deployments import register

    annual = client.read_deployment_by_name("planning-chain/annual")
    client.update_deployment_schedule(annual.id, annual.schedules[0].id, active=True)
    try:
        assert register(workspace) == ALL
        found = client.read_deployment_by_name("planning-chain/annual")
        assert found.id == annual.id
        assert [(s.id, s.active) for s in found.schedules] == [(annual.schedules[0].id, True)]
    finally:
        client.update_deployment_schedule(annual.id, annual.schedules[0].id, active=False)


def test_a_killed_worker_starts_again(service: Any) -> None:
    def workers() -> list[psutil.Process]:
        return [p for p in service.processes() if p.cmdline()[1:5] == ["-m", "prefect", "worker", "start"]]

    (worker,) = workers()
    worker.send_signal(signal.SIGKILL)
    assert _eventually(lambda: "worker started again" in service.output())
    assert _eventually(lambda: [p.pid for p in workers()] not in ([], [worker.pid]))


def test_runs_that_a_dead_service_left_are_marked(client: SyncPrefectClient) -> None:
    from prefect.states import Running

    from flows.abandoned_runs import mark_abandoned

    deployment = client.read_deployment_by_name("step-2-snapshot/default")
    run = client.create_flow_run_from_deployment(
        deployment.id, parameters={"request": {"scenario": "six"}}, state=Running(), name=uuid.uuid4().hex
    )
    assert mark_abandoned("bos") == 1
    state = client.read_flow_run(run.id).state
    assert state is not None
    assert state.type is StateType.CRASHED
    assert "Resume it" in str(state.message)
    assert mark_abandoned("bos") == 0
