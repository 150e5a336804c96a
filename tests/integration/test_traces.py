"""Traces of a planned day, checked without our own readers: sqlite3, pyarrow and hashlib only.

Every link that a trace names is looked up again by plain SQL; every value is read again from its file. Then
results are deleted and made again.
"""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from bos_core.access.trace import Trace, TracedRows
from bos_core.api import Bos, Run, connect
from bos_core.objects.ontology import SERIES, TABLES, TIME_VARYING
from bos_core.objects.settings import StoreOptions
from bos_core.report.addresses import of_violation
from bos_core.report.collection import collect
from bos_core.report.data import DIVERGED
from bos_core.report.violations import BASE_CASE, DIVERGENCE
from flows.execution import execute
from flows.power_flow_step import plan
from flows.request import STEP_ORDER, PowerFlowRequest
from flows.step import StepRun
from flows.task_set import open_task_set

pytestmark = pytest.mark.timeout(1800)

RTS_GMLC = Path(__file__).parents[3] / "shared" / "yardsticks" / "rts_gmlc"
START, HOURS = 24 * 181, 24
VALUES, DELETED = 200, 20

_RESULTS_NAMED_AS_STATIC = {"loading_max", "cost_eur", "value"}
"""Quantities of results that happen to be called as a column of the static model is: highest loading found (there:
the criterion), cost of an hour (there: of construction), value of a series (there: of a parameter)."""


@pytest.fixture(scope="module")
def bos(tmp_path_factory: pytest.TempPathFactory) -> Bos:
    opened = connect(home=tmp_path_factory.mktemp("home"), user="planner", project="tests")
    opened.scenarios.import_(RTS_GMLC, name="rts")
    return opened


@pytest.fixture(scope="module")
def day(bos: Bos) -> Run:
    """One round of adjustment an hour: with more nothing is left that the report could list."""
    request: dict[str, Any] = {"hours": HOURS, "start": START, "base_kv_min": 200.0, "chunk_hours": 12}
    request["program_parameters"] = {"state_adjustment": {"rounds_max": 1}}
    return bos.run("planning-chain", scenario="rts", **request).wait(1500)


@pytest.fixture
def sql(bos: Bos, day: Run) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(bos.workspace.settings.home / "index.sqlite")
    connection.row_factory = sqlite3.Row
    yield connection
    connection.close()


def file_of(bos: Bos, address: str) -> Path:
    return bos.workspace.settings.home / "store" / address


def row(sql: sqlite3.Connection, query: str, *values: object) -> dict[str, Any]:
    (found,) = sql.execute(query, values).fetchall()
    return dict(found)


def hourly_outputs(sql: sqlite3.Connection, trace_id: str) -> list[dict[str, Any]]:
    """Outputs of the run with a column of hours."""
    query = """SELECT o.*, t.step FROM task_output o JOIN task t ON t.id = o.task
               WHERE t.task_set = ? AND t.state = 'success' AND o.rows > 0 ORDER BY o.address"""
    return [dict(r) for r in sql.execute(query, (trace_id,)) if "hour" in json.loads(r["columns"])]


def check_file(bos: Bos, rows: TracedRows, output: dict[str, Any]) -> None:
    (file,) = rows.files
    assert (file.address, file.state.value) == (output["address"], "as committed")
    assert hashlib.sha256(file_of(bos, file.address).read_bytes()).hexdigest() == file.digest == output["sha256"]


def check_task(sql: sqlite3.Connection, found: Trace, task_id: str) -> None:
    task = row(sql, "SELECT * FROM task WHERE id = ?", task_id)
    (told,) = [t for t in found.tasks if t.id == task_id]
    assert (told.step, told.chunk, told.attempt, told.state) == (
        task["step"],
        task["chunk"],
        task["attempt"],
        "success",
    )
    assert (told.program, told.program_digest) == (task["program"], task["program_digest"])
    host, process, _ = task["holder"].split("/")
    assert told.executor.startswith(f"process {process} on {host}")
    assert sorted(need.split()[-1] for need in told.needs) == sorted(needed(sql, task_id))
    run = row(sql, "SELECT * FROM task_set WHERE trace_id = ?", task["task_set"])
    assert found.run is not None
    assert (found.run.trace_id, found.run.user, found.run.business) == (
        run["trace_id"],
        run["user"],
        run["business"],
    )
    check_versions(sql, found, task["scenario_version"])


def needed(sql: sqlite3.Connection, task_id: str) -> set[str]:
    query = """WITH RECURSIVE up(id) AS (SELECT needs FROM task_dependency WHERE task = ?
               UNION SELECT d.needs FROM task_dependency d JOIN up ON up.id = d.task) SELECT id FROM up"""
    return {r["id"] for r in sql.execute(query, (task_id,))}


def check_versions(sql: sqlite3.Connection, found: Trace, first: str) -> None:
    """Walk from the version read to the import; compare what each is said to change."""
    version_id: str | None = first
    for told in found.versions:
        version = row(sql, "SELECT * FROM scenario_version WHERE id = ?", version_id)
        assert (told.id, told.digest, told.step) == (version["id"], version["digest"], version["step"])
        tasks = "SELECT count(*) AS n FROM task WHERE task_set = ? AND step = ?"
        assert told.tasks == row(sql, tasks, version["trace_id"], version["step"])["n"]
        assert {(c.name, c.kind) for c in told.changes} == changes(sql, version["parent"], version["id"])
        version_id = version["parent"]
    assert version_id is None
    assert found.versions[-1].step == "import"


def changes(sql: sqlite3.Connection, before: str | None, after: str) -> set[tuple[str, str]]:
    def contents(version: str | None) -> dict[str, set[tuple[str, str]]]:
        found: dict[str, set[tuple[str, str]]] = {}
        for chunk in sql.execute("SELECT key, digest FROM scenario_chunk WHERE version = ?", (version,)):
            found.setdefault(chunk["key"].split("/")[1], set()).add((chunk["key"], chunk["digest"]))
        return found

    old, new = contents(before), contents(after)
    kinds = {
        name: "added" if name not in old else "removed" if name not in new else "changed" for name in old | new
    }
    return {(name, kind) for name, kind in kinds.items() if old.get(name) != new.get(name)}


def test_random_values_of_results_lead_to_what_made_them(bos: Bos, day: Run, sql: sqlite3.Connection) -> None:
    chooser = random.Random(7)
    outputs = hourly_outputs(sql, day.trace_id)
    assert {output["step"] for output in outputs} >= set(STEP_ORDER[4:])
    for _ in range(VALUES):
        output = chooser.choice(outputs)
        table = pq.read_table(file_of(bos, output["address"]))
        place = chooser.randrange(table.num_rows)
        keys = [
            n
            for n in ("hour", "round", "element", "branch", "bus", "unit", "contingency")
            if n in table.column_names
        ]
        values = [n for n in table.column_names if n not in keys]
        column = chooser.choice(values)
        known = {name: table[name][place].as_py() for name in keys}
        wanted = {name: str(value) for name, value in known.items() if value is not None}
        fits = [pc.equal(table[name].cast(pa.string()), text) for name, text in wanted.items()]
        same = table.filter(np.logical_and.reduce([mask.to_numpy() for mask in fits]))
        part = row(sql, "SELECT chunk FROM task WHERE id = ?", output["task"])["chunk"]
        brackets = ",".join(f"{name}={text}" for name, text in {**wanted, "part": part}.items())
        found = bos.trace(f"{day.trace_id[:8]}/{output['step']}/{output['name']}[{brackets}].{column}")
        (rows,) = found.found
        assert rows.total == same.num_rows
        told = [r[column] for r in rows.rows]
        if column in ("loading_branch", "vm_min_bus", "vm_max_bus"):  # named, not numbered
            names = entity_names(bos, sql, output["task"])
            assert set(told) <= names | {"none"}
        else:
            assert told == same[column].to_pylist()[: len(told)]
        check_file(bos, rows, output)
        check_task(sql, found, output["task"])


def entity_names(bos: Bos, sql: sqlite3.Connection, task_id: str) -> set[str]:
    query = """SELECT c.digest FROM scenario_chunk c JOIN task t ON t.scenario_version = c.version
               WHERE t.id = ? AND c.key = 'table/entity'"""
    digest = row(sql, query, task_id)["digest"]
    return set(pq.read_table(file_of(bos, f"chunks/{digest[:2]}/{digest}.parquet"))["name"].to_pylist())


def test_random_values_of_versions_lead_to_the_task_that_committed_them(
    bos: Bos, day: Run, sql: sqlite3.Connection
) -> None:
    """Of the final version: a value comes from adjustment, from dispatch or a repaired day, whichever was last."""
    chooser = random.Random(8)
    reader = day.state("state_adjustment").reader
    series = [n for n in reader.series_names() if n != "profile.value" and reader.elements(n).size]
    steps = set()
    for _ in range(60):
        name, hour = chooser.choice(series), START + chooser.randrange(HOURS)
        element = str(chooser.choice(reader.elements(name).tolist()))
        found = bos.trace(f"{reader.version.label}/{name}", hour=hour, element=element)
        value = reader.aligned(name, [element], slice(hour, hour + 1))[0, 0]
        assert str(found.found[0].rows[0]["value"]) == str(value.item())
        (task,) = found.tasks
        steps.add(task.step)
        committed = found.found[1]
        output = row(sql, "SELECT * FROM task_output WHERE address = ?", committed.files[0].address)
        assert output["name"] in (name, f"repaired.{name}")
        check_file(bos, committed, output)
        check_task(sql, found, task.id)
        rows = pq.read_table(file_of(bos, output["address"]), filters=[("hour", "==", hour)]).to_pylist()
        (same,) = [r["value"] for r in rows if r["element"] == element]
        assert same is None or same == value
    assert {"annual_states", "reactive_dispatch", "state_adjustment"} <= steps


def test_deleted_results_are_made_again_byte_by_byte(bos: Bos, day: Run, sql: sqlite3.Connection) -> None:
    addresses = [r["address"] for r in sql.execute("SELECT address FROM task_output ORDER BY address")]
    before = {a: hashlib.sha256(file_of(bos, a).read_bytes()).hexdigest() for a in addresses}
    ledger = [tuple(r) for r in sql.execute("SELECT * FROM task ORDER BY id")]
    deleted = random.Random(9).sample(addresses, DELETED)
    for address in deleted:
        file_of(bos, address).unlink()
    rebuilt = day.rebuild()
    assert (set(rebuilt.restored), rebuilt.failures) == (set(deleted), ())
    assert {a: hashlib.sha256(file_of(bos, a).read_bytes()).hexdigest() for a in addresses} == before
    assert [tuple(r) for r in sql.execute("SELECT * FROM task ORDER BY id")] == ledger


def test_deleted_content_of_versions_is_made_again_with_the_results_behind_it(
    bos: Bos, day: Run, sql: sqlite3.Connection
) -> None:
    imported = bos.workspace.scenarios.chunks(bos.scenarios.get("rts@1").id).values()
    own = {r["digest"] for r in sql.execute("SELECT DISTINCT digest FROM scenario_chunk")}
    own -= {chunk.digest for chunk in imported}
    chooser = random.Random(10)
    chunks = [f"chunks/{d[:2]}/{d}.parquet" for d in chooser.sample(sorted(own), 12)]
    outputs = [r["address"] for r in sql.execute("SELECT address FROM task_output WHERE name = 'unit.p_mw'")]
    before = {a: file_of(bos, a).read_bytes() for a in (*chunks, *outputs)}
    for address in before:
        file_of(bos, address).unlink()
    rebuilt = day.rebuild()
    assert (set(rebuilt.restored), rebuilt.failures) == (before.keys(), ())
    assert {a: file_of(bos, a).read_bytes() for a in before} == before


def test_everything_of_the_run_was_made_from_the_import(bos: Bos, day: Run, sql: sqlite3.Connection) -> None:
    found = bos.uses("rts@1")
    count = "SELECT count(*) AS n FROM task WHERE task_set = ?"
    assert sum(s.tasks for s in found.steps) == row(sql, count, day.trace_id)["n"]
    assert {s.step for s in found.steps} == set(STEP_ORDER)
    results = "SELECT count(*) AS n, sum(rows) AS rows FROM task_output"
    counted = row(sql, results)
    assert (sum(s.outputs for s in found.steps), sum(s.rows for s in found.steps)) == (
        counted["n"],
        counted["rows"],
    )
    assert found.versions == tuple(f"rts@{k}" for k in range(2, 11))
    assert found.reports == (str(day.report()),)
    later = bos.uses("rts@8")
    assert {s.step for s in later.steps} == {"n1_verification", "state_adjustment"}


def test_the_report_says_where_its_values_come_from(bos: Bos, day: Run) -> None:
    """The address that the page tells for a violation leads to the value that the page shows."""
    data = collect(bos.workspace, day.trace_id)
    assert data.security is not None
    assert data.security.remaining is not None
    rows = data.security.remaining.to_pylist()
    kinds = {(row["kind"], row["outage"] == BASE_CASE) for row in rows}
    for kind in kinds:
        chosen = [row for row in rows if (row["kind"], row["outage"] == BASE_CASE) == kind]
        for row_ in random.Random(11).sample(chosen, min(10, len(chosen))):
            (found, *_) = bos.trace(of_violation(data, row_)).found
            (told,) = found.rows
            values = [told[name] for name in found.units]
            assert values == ([DIVERGED] if row_["kind"] == DIVERGENCE else [row_["value"]])
    assert kinds


def test_no_result_holds_a_column_of_the_static_model(bos: Bos, day: Run, sql: sqlite3.Connection) -> None:
    """Outputs named as a table of the ontology are new static content; all others only refer to elements."""
    references = {c.name for t in TABLES.values() for c in t.columns if c.references} | {"id", "element", "unit"}
    static = {c.name for t in TABLES.values() if t.data_type not in TIME_VARYING for c in t.columns} - references
    results = [r for r in sql.execute("SELECT * FROM task_output") if r["name"] not in TABLES]
    assert len(results) > 100
    assert len({r["name"] for r in results} & SERIES.keys()) > 10
    for result in results:
        schema = pq.read_schema(file_of(bos, result["address"]))
        assert set(schema.names) & static <= _RESULTS_NAMED_AS_STATIC, result["address"]


def test_results_on_postgresql_and_s3_are_traced_and_made_again(
    tmp_path: Path, postgresql_url: str, s3_url: str, s3_options: StoreOptions
) -> None:
    """The same questions where index and store are servers: one value, what came of it, one lost file."""
    other = connect(
        home=tmp_path / "home",
        database_url=postgresql_url,
        store_url=s3_url,
        store_options=s3_options,
        user="planner",
        project="tests",
    )
    other.scenarios.import_(RTS_GMLC, name="rts")
    request = PowerFlowRequest.model_validate({"scenario": "rts", "horizon": {"start_hour": START, "hours": 2}})
    context, version = open_task_set(other.workspace, request, str(uuid.uuid4()), "power-flow")
    (task,) = plan(StepRun(other.workspace, request, context, version))
    other.workspace.ledger.register([task])
    execute(task.id, other.workspace.settings, request)
    run = other.open(context.trace_id)
    name = str(run.power_flow.hours()["loading_branch"][0].as_py())
    value = run.power_flow.hours()["loading_max"][0].as_py()
    found = run.trace("power_flow", "branches", hour=START, element=name, column="loading")
    assert found.found[0].rows[0]["loading"] == pytest.approx(value, rel=1e-6)  # kept in single precision
    assert [t.id for t in found.tasks] == [task.id]
    assert [(s.step, s.tasks) for s in other.uses("rts@1").steps if s.trace_id == run.trace_id] == [
        ("power_flow", 1)
    ]
    outputs = other.workspace.ledger.task_outputs(task.id)
    before = {o.address: other.workspace.store.get(o.address) for o in outputs}
    other.workspace.store.delete([outputs[0].address])
    other.workspace.store.put(outputs[1].address, b"spoilt")
    assert set(run.rebuild().restored) >= {outputs[0].address, outputs[1].address}
    assert {a: other.workspace.store.get(a) for a in before} == before
    assert not run.losses()
    events = tmp_path / "events.jsonl"
    assert run.openlineage(events) == 3  # the run has begun, its task has begun and ended
    assert '"namespace": "s3://' in events.read_text()
