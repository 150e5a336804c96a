"""Kill processes and fill disks in a run; a checker that reads only the index compares with an undisturbed one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from bos_core.api import Bos, connect
from bos_core.objects.task import TaskState
from flows.request import STEP_ORDER

pytestmark = pytest.mark.timeout(1800)

RTS_GMLC = Path(__file__).parents[3] / "shared" / "yardsticks" / "rts_gmlc"
HOURS = 48
REQUEST = {
    "scenario": "rts",
    "horizon": {"start_hour": 24 * 181, "hours": HOURS},
    "base_kv_min": 200.0,
    "chunk_hours": 12,
}


def start(bos: Bos, trace_id: str, *more: str) -> subprocess.Popen[bytes]:
    """Start a run in a session of its own."""
    command = [sys.executable, "-m", "bos_core.cli", "run", "planning-chain", "--trace-id", trace_id, *more]
    log = (bos.workspace.settings.home / "chaos.txt").open("ab")
    env = {**os.environ, **bos.workspace.settings.environment()}
    return subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)


def digests(bos: Bos, trace_id: str) -> dict[tuple[str, str, str], str]:
    """Return the content digest of every output."""
    tasks = {task.id: task for task in bos.workspace.ledger.tasks(trace_id)}
    return {
        (tasks[o.task_id].step, o.chunk, o.name): o.content_digest for o in bos.workspace.ledger.outputs(trace_id)
    }


def wait_until_executing(bos: Bos, trace_id: str, step: str, process: subprocess.Popen[bytes]) -> str:
    """Return the holder of a task of the step, as soon as one executes, or has done so before anyone saw it."""
    for _ in range(12_000):
        for state in (TaskState.EXECUTING, TaskState.SUCCESS):
            for task in bos.workspace.ledger.tasks(trace_id, step, [state]):
                return task.holder
        assert process.poll() is None, f"the run ended before step {step}"
        time.sleep(0.02)
    raise AssertionError(f"step {step} never started")


@pytest.fixture(scope="module")
def bos(tmp_path_factory: pytest.TempPathFactory) -> Bos:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job and its children ignore it
    opened = connect(home=tmp_path_factory.mktemp("home"), user="operator", project="chaos")
    opened.scenarios.import_(RTS_GMLC, name="rts")
    return opened


@pytest.fixture(scope="module")
def undisturbed(bos: Bos) -> dict[tuple[str, str, str], str]:
    trace_id = str(uuid.uuid4())
    assert start(bos, trace_id, "--request", json.dumps(REQUEST)).wait(900) == 0
    return digests(bos, trace_id)


def test_a_killed_worker_in_every_step_changes_nothing(
    bos: Bos, undisturbed: dict[tuple[str, str, str], str]
) -> None:
    trace_id = str(uuid.uuid4())
    process = start(bos, trace_id, "--request", json.dumps(REQUEST))
    for step in STEP_ORDER:
        holder = wait_until_executing(bos, trace_id, step, process)
        os.kill(int(holder.split("/")[1]), signal.SIGKILL)
    assert process.wait(900) == 0
    assert digests(bos, trace_id) == undisturbed
    assert executed_twice(bos, trace_id) == 0


def test_a_killed_flow_resumes_to_the_same_result(bos: Bos, undisturbed: dict[tuple[str, str, str], str]) -> None:
    trace_id = str(uuid.uuid4())
    process = start(bos, trace_id, "--request", json.dumps(REQUEST))
    for step in STEP_ORDER:
        wait_until_executing(bos, trace_id, step, process)
        kill_tree(process.pid)
        process.wait(60)
        process = start(bos, trace_id, "--resume", trace_id)
    assert process.wait(900) == 0
    assert digests(bos, trace_id) == undisturbed
    assert executed_twice(bos, trace_id) == 0


def kill_tree(pid: int) -> None:
    """Kill -9 the run and everything that it started, the parent first."""
    parent = psutil.Process(pid)
    children = parent.children(recursive=True)
    for process in [parent, *children]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def executed_twice(bos: Bos, trace_id: str) -> int:
    """Count tasks that were executed again after they had succeeded: two manifests with outputs."""
    store = bos.workspace.store
    manifests: dict[str, int] = {}
    for address, _ in store.walk(f"attempts/{trace_id}"):
        if address.endswith("manifest.json"):
            manifests[address.split("/")[2]] = manifests.get(address.split("/")[2], 0) + 1
    return sum(count > 1 for count in manifests.values())


FEW_STEPS = {**REQUEST, "to_step": "equivalence"}


def test_ctrl_c_stops_at_once_and_the_run_goes_on(bos: Bos) -> None:
    """The terminal sends SIGINT to the whole process group, Prefect's server and the workers included."""
    trace_id = str(uuid.uuid4())
    process = start(bos, trace_id, "--request", json.dumps(FEW_STEPS))
    wait_until_executing(bos, trace_id, "snapshot", process)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    text = (bos.workspace.settings.home / "chaos.txt").read_text()
    assert f"Go on with: bos run --resume {trace_id[:8]}" in text
    assert "Traceback" not in text
    record = bos.workspace.ledger.task_set(trace_id)
    assert (record.state, record.message) == (TaskState.FAILED, "interrupted")
    done = {t.id: t.attempt for t in bos.workspace.ledger.tasks(trace_id, states=[TaskState.SUCCESS])}
    assert start(bos, trace_id, "--resume", "last").wait(300) == 0
    again = {t.id: t.attempt for t in bos.workspace.ledger.tasks(trace_id) if t.id in done}
    assert again == done


def test_a_store_that_cannot_be_written_is_told_and_the_run_goes_on(bos: Bos) -> None:
    """A file in the place of a folder stands for a full or forbidden disk: root is refused by it, too."""
    trace_id = str(uuid.uuid4())
    obstacle = Path(bos.workspace.settings.store) / "attempts" / trace_id
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    obstacle.touch()
    log = bos.workspace.settings.home / "chaos.txt"
    before = len(log.read_text()) if log.exists() else 0
    assert start(bos, trace_id, "--request", json.dumps(FEW_STEPS)).wait(300) == 7
    text = log.read_text()[before:].replace("\n", "")
    assert "Traceback" not in text
    assert trace_id in text
    assert "store" in text
    counts = bos.workspace.ledger.counts(trace_id)
    assert (counts[TaskState.FAILED], counts[TaskState.EXECUTING]) == (1, 0)
    obstacle.unlink()
    assert start(bos, trace_id, "--resume", trace_id).wait(300) == 0
    assert bos.workspace.ledger.task_set(trace_id).state is TaskState.SUCCESS


FULL_DISK = """
mkdir "$BOS_HOME" && mount -t tmpfs -o size=96m disk "$BOS_HOME" || exit 1
bos() { "$PYTHON" -m bos_core.cli "$@" >> "$OUT/log.txt" 2>&1; echo $? >> "$OUT/codes.txt"; }
bos import "$GRID" --name rts
cat /dev/zero 2>/dev/null > "$BOS_HOME/filler"; truncate -s "-$FREE" "$BOS_HOME/filler"
bos run planning-chain --request "$REQUEST"
rm "$BOS_HOME/filler"
bos run planning-chain --resume last
cp -a "$BOS_HOME" "$OUT/home"
"""


@pytest.mark.parametrize(("free", "code"), [("9M", 7), ("16M", 5)], ids=["in a task", "in a write-back"])
def test_a_full_disk_is_told_and_the_run_goes_on(
    tmp_path: Path, undisturbed: dict[tuple[str, str, str], str], free: str, code: int
) -> None:
    """A small disk of its own, mounted where nobody else sees it, has so much left when the run starts."""
    request = {**REQUEST, "to_step": "annual_states"}
    own = {"BOS_HOME": str(tmp_path / "disk"), "OUT": str(tmp_path), "GRID": str(RTS_GMLC), "FREE": free}
    more = {"PYTHON": sys.executable, "REQUEST": json.dumps(request), "BOS_USER": "operator", "BOS_WORKERS": "1"}
    alone = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    subprocess.run([*alone, "bash", "-c", FULL_DISK], env={**os.environ, **own, **more}, check=True, timeout=600)
    text = (tmp_path / "log.txt").read_text()
    assert (tmp_path / "codes.txt").read_text().split() == ["0", str(code), "0"]
    assert "Traceback" not in text
    assert "the disk is full; free some space" in text.replace("\n", " ")
    run = connect(home=tmp_path / "home")
    trace_id = run.workspace.ledger.task_sets(1)[0].trace_id
    made = digests(run, trace_id)
    assert made == {key: digest for key, digest in undisturbed.items() if key in made}
    assert {step for step, _, _ in made} == {"system_model", "snapshot", "equivalence", "annual_states"}
    assert executed_twice(run, trace_id) == 0


FULL_WHEN_READY = """
mkdir "$BOS_HOME" && mount -t tmpfs -o size=96m disk "$BOS_HOME" || exit 1
bos() { echo "--- $1"; "$PYTHON" -m bos_core.cli "$@" 2>&1; echo "code $?"; }
bos run power-flow --grid pandapower:case6ww
rm -r "$BOS_HOME/reports"; cat /dev/zero 2>/dev/null > "$BOS_HOME/filler"
bos report
bos scenario branch pandapower:case6ww other
bos import pandapower:case9 --name nine
"""


def test_a_full_disk_is_named_by_report_index_and_store(tmp_path: Path) -> None:
    home = tmp_path / "disk"
    own = {"BOS_HOME": str(home), "PYTHON": sys.executable, "BOS_WORKERS": "1"}
    alone = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    command = [*alone, "bash", "-c", FULL_WHEN_READY]
    done = subprocess.run(command, env={**os.environ, **own}, check=True, timeout=600, capture_output=True)
    text = done.stdout.decode()
    assert "Traceback" not in text
    well, *full = text.split("--- ")[1:]
    assert well.endswith("code 0\n"), well
    said = {part.split()[0]: "".join(part.split()) for part in full}  # lines are broken anywhere
    for command_name, place, words in (
        ("report", f"report{home}/reports/", "Nospaceleftondevice;freespaceorchooseanotherdirectory"),
        ("scenario", f"indexsqlite:///{home}/index.sqlite", "thediskisfull;freesomespace"),
        ("import", f"store{home}/store", "thediskisfull;freesomespace"),
    ):
        assert place in said[command_name]
        assert words in said[command_name]
        assert said[command_name].endswith("code5")
