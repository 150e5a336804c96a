"""Traces, uses and rebuilding of a run: a power flow of 30 hours, without Prefect and Dask."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from bos_core.access.audit import FileState
from bos_core.access.trace import TracedContainer
from bos_core.access.workspace import check_workspace
from bos_core.api import Bos, Run, connect
from bos_core.cli import run_command
from bos_core.index.containers import ContainerIndex
from bos_core.index.database import writing
from bos_core.index.records import Output
from bos_core.index.tables import CONTAINER
from bos_core.objects.container import ENDED, Changes, Container, Server, ServerKind
from bos_core.objects.errors import NotFoundError, OptionError, ProgramError
from bos_core.programs import registry
from flows import rebuild
from flows.execution import execute
from flows.power_flow_step import plan
from flows.request import PowerFlowRequest
from flows.step import StepRun
from flows.steps import STEPS
from flows.task_set import open_task_set

RTS = Path(__file__).parents[4] / "shared" / "yardsticks" / "rts_gmlc"
HOUR = 4807


@pytest.fixture(scope="module")
def bos(tmp_path_factory: pytest.TempPathFactory) -> Bos:
    opened = connect(home=tmp_path_factory.mktemp("home"), user="planner", project="tests")
    opened.scenarios.import_(RTS, name="rts")
    return opened


def solved(bos: Bos, scenario: str = "rts", hours: int = 30) -> Run:
    horizon = {"start_hour": 4800, "hours": hours}
    request = PowerFlowRequest.model_validate({"scenario": scenario, "horizon": horizon, "chunk_hours": 24})
    context, version = open_task_set(bos.workspace, request, str(uuid.uuid4()), "power-flow")
    tasks = plan(StepRun(bos.workspace, request, context, version))
    bos.workspace.ledger.register(tasks)
    assert [execute(t.id, bos.workspace.settings, request).message for t in tasks] == [""] * len(tasks)
    return bos.open(context.trace_id)


@pytest.fixture(scope="module")
def day(bos: Bos) -> Run:
    return solved(bos)


@pytest.fixture
def damaged(bos: Bos, day: Run) -> Iterator[Output]:
    """An output of the first day whose file a test may spoil; afterwards all is as it was."""
    found = bos.workspace.ledger.outputs(day.trace_id, "power_flow", "branches")[0]
    data = bos.workspace.store.get(found.address)
    yield found
    bos.workspace.store.put(found.address, data)
    assert not day.losses()


def branch(run: Run) -> str:
    return str(run.power_flow.hours()["loading_branch"][0].as_py())


def test_a_value_leads_to_task_program_version_and_user(bos: Bos, day: Run) -> None:
    name = branch(day)
    found = day.trace("power_flow", "branches", hour=HOUR, element=name, column="loading")
    (rows,) = found.found
    flow = day.power_flow.branch(name)
    assert rows.rows[0]["loading"] == flow.filter(pc.equal(flow["hour"], HOUR))["loading"][0].as_py()
    assert (rows.total, rows.units) == (1, {"loading": "1"})
    assert [file.state for file in rows.files] == [FileState.COMMITTED]
    (task,) = found.tasks
    record = bos.workspace.ledger.task(task.id)
    assert int(record.parameters["start"]) <= HOUR < int(record.parameters["stop"])
    program = registry.resolve(record.slot, record.program)
    assert (task.program, task.program_digest) == (program.manifest.name, program.digest)
    assert "no container" in task.executor
    assert found.run is not None
    assert (found.run.trace_id, found.run.user, found.run.project) == (day.trace_id, "planner", "tests")
    assert [(v.label, v.step, v.trace_id) for v in found.versions] == [("rts@1", "import", "")]
    assert {change.kind for change in found.versions[0].changes} == {"added"}


def test_a_task_leads_to_its_container_and_image(bos: Bos, day: Run) -> None:
    task = bos.workspace.ledger.tasks(day.trace_id)[0]
    assert bos.trace(task.id).tasks[0].container is None
    host, pid, _ = task.holder.split("/")
    server = Server("s", "one", ServerKind.DOCKER)
    container = Container(
        host, "s", "worker-1", image="bos:1", image_digest="sha256:abc", state=ENDED, ended_s=9.0
    )
    index = ContainerIndex(bos.workspace.engine)
    index.apply(Changes((server,), (container,)))
    (told,) = bos.trace(task.id).tasks
    assert told.container == TracedContainer(host, "worker-1", "one", "bos:1", "sha256:abc")
    said = f"process {pid} on {host}; container worker-1 of server one, image bos:1, sha256:abc"
    assert told.executor == said
    with writing(bos.workspace.engine) as connection:
        connection.execute(sa.delete(CONTAINER))


def test_the_printed_address_of_a_value_leads_to_it_again(bos: Bos, day: Run) -> None:
    first = day.trace("power_flow", hour=HOUR, element=branch(day), column="loading")
    assert [rows.total for rows in first.found] == [1]
    again = bos.trace(first.found[0].address)
    assert again.found == first.found
    assert bos.trace(f"{day.trace_id[:8]}/power_flow", hour=HOUR, element=branch(day), column="loading") == first
    assert json.loads(json.dumps(again.as_dict()))["tasks"][0]["id"] == again.tasks[0].id


def test_files_lead_to_their_task_wherever_they_lie(bos: Bos, day: Run, damaged: Output, tmp_path: Path) -> None:
    copy = tmp_path / "copy.parquet"
    copy.write_bytes(bos.workspace.store.get(damaged.address))
    for what in (damaged.address, str(copy)):
        found = bos.trace(what)
        assert found.tasks[0].id == damaged.task_id
        assert found.found[0].total == damaged.rows
        assert not found.bad_files
    pq.write_table(pq.read_table(copy).slice(1), copy)
    assert bos.trace(str(copy)).bad_files
    chunk = bos.workspace.scenarios.chunks(bos.scenarios.get("rts").id)["table/bus"]
    found = bos.trace(bos.workspace.store.chunk_address(chunk.digest))
    assert (found.address, found.found[0].total) == ("rts@1/bus", chunk.rows)
    copy.write_bytes(b"nothing")
    with pytest.raises(NotFoundError, match="no Parquet file"):
        bos.trace(str(copy))


def test_values_of_a_version_lead_to_its_import(bos: Bos) -> None:
    reader = bos.scenarios.read("rts")
    name = str(reader.series("profile.value", slice(3, 4)).ids[5])
    found = bos.trace("rts@1/profile.value", hour=3, element=name)
    assert found.found[0].rows[0]["value"] == reader.aligned("profile.value", [name], slice(3, 4))[0, 0]
    assert [v.step for v in found.versions] == ["import"]
    bus = reader.table("bus").to_pylist()[3]
    table = bos.trace("rts@1/bus", element=bus["id"], column="base_kv")
    assert table.found[0].rows[0]["base_kv"] == bus["base_kv"]


def test_an_edited_value_leads_to_the_edit_and_its_neighbours_to_the_import(bos: Bos) -> None:
    reader = bos.scenarios.read("rts@1")
    first, second = (str(i) for i in reader.elements("profile.value")[:2])
    before = reader.aligned("profile.value", [first, second], slice(100, 101))
    writer = bos.workspace.writer("rts@1", scenario="edited")
    assert writer.edit_series("profile.value", slice(100, 101), [first], before[:, :1] + 1.0) == 1
    writer.commit("one more megawatt")
    edited = bos.trace("edited@1/profile.value", hour=100, element=first)
    assert edited.found[0].rows[0]["value"] == before[0, 0] + 1.0
    assert len(edited.found[0].files) == 2  # the month and the edit over it
    assert [(v.label, v.message) for v in edited.versions[:1]] == [("edited@1", "one more megawatt")]
    assert [(c.name, c.kind) for c in edited.versions[0].changes] == [("profile.value", "changed")]
    for hour, element in ((100, second), (101, first), (5000, first)):
        found = bos.trace("edited@1/profile.value", hour=hour, element=element)
        assert [v.label for v in found.versions] == ["rts@1"]
        value = reader.aligned("profile.value", [element], slice(hour, hour + 1))[0, 0]
        assert found.found[0].rows[0]["value"] == value


@pytest.mark.parametrize(
    ("what", "options", "words"),
    [
        ("power_flow", {"element": "Nowhere"}, "no element of rts@1 is called 'Nowhere'"),
        ("power_flow", {"element": "A"}, "similar: "),
        ("power_flow", {"hour": 7}, "it has hours 4800 to 4829"),
        ("power_flow/pairs", {}, "it has: "),
        ("power_flow/branches", {"column": "nothing"}, "they have: "),
        ("power_flow/hours[bus=3]", {}, "rows are told apart by: hour"),
        ("power_flow/branches[hour=x]", {}, "no hour of the year"),
        ("last/n1_verification", {}, "it has: power_flow"),
        ("rts@1/bus.vm_pu", {"hour": 3}, "has no table or series"),
        ("rts@1/profile.value", {}, "give hour, element or both"),
        ("rts@7", {}, "rts@7"),
        ("attempts/x/y.parquet", {}, "no committed output"),
        ("deadbeef", {}, "nothing is called 'deadbeef'; begin with a run"),
        ("power_flwo", {}, r"a step \(power_flow\)"),
        ("rts@1/profile.vale", {"hour": 3}, "it has: profile.value, profile_assignment$"),
        ("power_flow", {"element": "A2X"}, "similar: A2"),
    ],
)
def test_a_mistake_is_told_in_words(bos: Bos, day: Run, what: str, options: dict[str, object], words: str) -> None:
    with pytest.raises((NotFoundError, OptionError), match=words):
        bos.trace(what, **options)  # type: ignore[arg-type]


def test_a_changed_file_is_named_and_not_trusted(
    bos: Bos, day: Run, damaged: Output, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = bos.workspace.store.get_table(damaged.address)
    bos.workspace.store.put_table(damaged.address, table.slice(0, table.num_rows - 1))
    found = day.trace("power_flow", "branches", hour=HOUR, element=branch(day), column="loading")
    assert [file.address for file in found.bad_files] == [damaged.address]
    assert [(loss.output.address, loss.state) for loss in day.losses().outputs] == [
        (damaged.address, FileState.CHANGED)
    ]
    for name, value in bos.workspace.settings.environment().items():
        monkeypatch.setenv(name, value)
    what = f"{day.trace_id}/power_flow/branches"
    assert run_command(["trace", what, "--hour", str(HOUR), "--element", branch(day)]) != 0
    said = capsys.readouterr()
    assert damaged.address in said.err.replace("\n", "")
    assert "changed since it was committed" in said.out


def test_lost_and_changed_files_are_made_again_byte_by_byte(bos: Bos, day: Run, damaged: Output) -> None:
    store = bos.workspace.store
    outputs = bos.workspace.ledger.outputs(day.trace_id)
    before = {o.address: store.get(o.address) for o in outputs}
    other = next(o for o in outputs if o.task_id != damaged.task_id)
    manifest = damaged.address.rpartition("/")[0] + "/manifest.json"
    kept = store.get(manifest)
    store.delete([other.address, manifest])
    store.put(damaged.address, b"spoilt")
    finding = next(f for f in check_workspace(bos.workspace.settings) if f.ids == (other.address,))
    assert f"bos rebuild {day.trace_id[:8]}" in finding.remedy
    tasks = bos.workspace.ledger.tasks(day.trace_id)
    told: list[str] = []
    rebuilt = day.rebuild(told=told.append)
    assert {other.address, manifest, damaged.address} <= set(rebuilt.restored)
    assert list(rebuilt.restored) == told
    assert (rebuilt.checked, rebuilt.failures) == (len(outputs), ())
    assert {address: store.get(address) for address in before} == before
    assert store.get(manifest) == kept
    assert bos.workspace.ledger.tasks(day.trace_id) == tasks
    assert any("restored" in line.message for line in day.log() if line.task == other.task_id)
    assert day.rebuild().restored == ()


def test_only_what_is_named_is_made_again(bos: Bos, day: Run, damaged: Output) -> None:
    other = next(o for o in bos.workspace.ledger.outputs(day.trace_id) if o.name == "hours")
    data = bos.workspace.store.get(other.address)
    bos.workspace.store.delete([damaged.address, other.address])
    assert day.rebuild("power_flow", "branches").restored == (damaged.address,)
    assert not bos.workspace.store.exists(other.address)
    bos.workspace.store.put(other.address, data)


def test_a_missing_report_page_is_written_again(bos: Bos, day: Run) -> None:
    page = day.report()
    page.unlink()
    assert day.rebuild().restored == (str(page),)
    assert "power_flow" in page.read_text()


def test_other_code_is_refused_before_anything_is_computed(
    bos: Bos, day: Run, damaged: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    bos.workspace.store.delete([damaged.address])
    resolve = registry.resolve
    monkeypatch.setattr(
        "bos_core.programs.registry.resolve", lambda slot, name: replace(resolve(slot, name), digest="0" * 64)
    )
    digest = bos.workspace.ledger.task(damaged.task_id).program_digest[:12]
    with pytest.raises(
        ProgramError, match=rf"power_flow/.*digest {digest}.*has 000000000000; install .* {digest}"
    ):
        day.rebuild()
    assert not bos.workspace.store.exists(damaged.address)


def test_what_comes_out_otherwise_is_not_written(
    bos: Bos, day: Run, damaged: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    bos.workspace.store.put(damaged.address, b"spoilt")
    step = STEPS["power_flow"]

    def carry_out(job: object) -> dict[str, pa.Table]:
        return {name: table.slice(1) for name, table in step.carry_out(job).items()}  # type: ignore[arg-type]

    monkeypatch.setattr(rebuild, "STEPS", {"power_flow": replace(step, carry_out=carry_out)})
    ((address, problem),) = rebuild.rebuild(bos.workspace, day.trace_id)
    assert address == damaged.address
    assert "its content differs" in problem
    monkeypatch.setattr(rebuild, "STEPS", {"power_flow": replace(step, carry_out=lambda job: {})})
    ((_, problem),) = rebuild.rebuild(bos.workspace, day.trace_id)
    assert "no longer makes output 'branches'" in problem
    assert bos.workspace.store.get(damaged.address) == b"spoilt"


def test_lost_content_that_a_user_put_in_is_asked_for(bos: Bos, day: Run) -> None:
    chunk = bos.workspace.scenarios.chunks(bos.scenarios.get("rts").id)["table/bus"]
    address = bos.workspace.store.chunk_address(chunk.digest)
    data = bos.workspace.store.get(address)
    bos.workspace.store.delete([address])
    with pytest.raises(OptionError, match=r"content of rts@1 is lost \(1 files\); import it again"):
        day.rebuild()
    bos.workspace.store.put(address, data)


def test_what_was_made_from_a_version_a_run_a_task_and_a_program(bos: Bos, day: Run) -> None:
    task = bos.workspace.ledger.tasks(day.trace_id)[0]
    outputs = bos.workspace.ledger.outputs(day.trace_id)
    for what in ("rts", "rts@1", f"power_flow/{task.program}", task.program_digest[:16]):
        step = next(s for s in bos.uses(what).steps if s.trace_id == day.trace_id)
        assert (step.step, step.tasks, step.succeeded, step.reads, step.made) == ("power_flow", 2, 2, "rts@1", "")
        assert (step.outputs, step.rows) == (len(outputs), sum(o.rows for o in outputs))
    own = bos.uses(day.trace_id[:8])
    assert (own.runs, sum(s.tasks for s in own.steps)) == ((day.trace_id,), 2)
    assert [s.tasks for s in bos.uses(task.id).steps] == [1]
    assert bos.uses(f"{day.trace_id}/power-flow").steps == own.steps
    with pytest.raises(NotFoundError, match="nothing is called 'nowhere'"):
        bos.uses("nowhere")


def test_a_result_shows_the_network_it_was_made_from(bos: Bos) -> None:
    run = solved(bos, hours=2)
    name = branch(run)
    before, page = run.power_flow.branch(name), run.report().read_text()
    reader = bos.scenarios.read("rts")
    entities = reader.table("entity")
    renamed = pa.array([f"{n} renamed" if n == name else n for n in entities["name"].to_pylist()])
    writer = bos.workspace.writer("rts")
    writer.put_table("entity", entities.set_column(entities.column_names.index("name"), "name", renamed))
    version = bos.scenarios.get(writer.commit("renamed"))
    try:
        assert bos.scenarios.get("rts").label == version.label == "rts@2"
        assert run.power_flow.branch(name) == before
        assert f"{name} renamed" not in run.report().read_text()
        assert name in page
        assert [v.label for v in run.trace("power_flow").versions] == ["rts@1"]
        later = solved(bos, hours=2)
        assert f"{name} renamed" in later.report().read_text()
        assert later.power_flow.branch(f"{name} renamed")["loading"].to_pylist() == before["loading"].to_pylist()
        assert "rts@2" in bos.uses("rts@1").versions
        (changed, _) = bos.trace("rts@2").versions
        assert [(c.name, c.kind) for c in changed.changes] == [("entity", "changed")]
    finally:
        solved(bos, "rts@1", hours=1)
