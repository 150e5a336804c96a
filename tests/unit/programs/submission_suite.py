"""What becomes of programs that experts give, on whatever index `workspace` has; shared with tests/integration."""

from __future__ import annotations

import subprocess
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from bos_core.access.workspace import Workspace
from bos_core.index.ledger import Claim
from bos_core.index.programs import Action, ProgramIndex
from bos_core.objects.errors import NotFoundError, OptionError, ProgramError, StorageError
from bos_core.objects.task import Task, TaskInput, TaskSetContext, TaskState
from bos_core.programs import submission
from bos_core.programs.catalogue import CUSTOM, OFFICIAL, Catalogue
from bos_core.programs.repository import Repository

SLOT = "power_flow"
PROGRAM = '''
"""Power flow at a tolerance of one's own."""

from pydantic import Field

from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from slots.power_flow import newton
from slots.power_flow.contract import Inputs, Outputs


class Parameters(ProgramParameters):
    """What a planner may set."""

    tolerance_pu: float = Field({tolerance}, gt=0, le=1e-4)
    """Largest mismatch."""


MANIFEST = ProgramManifest(
    name="{name}",
    slot="power_flow",
    version="{version}",
    title="Quick power flow",
    description="The default program at a tolerance of one's own choice.",
    parameters=Parameters,
    references=("Tinney & Hart 1967",),
)


def run(inputs: Inputs, parameters: Parameters) -> Outputs:
    """Solve."""
    return newton.run(inputs, newton.Parameters())
'''

Write = Callable[..., Path]


@pytest.fixture
def catalogue(workspace: Workspace) -> Catalogue:
    return Catalogue(workspace)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a program file."""

    def written(name: str = "quick", version: str = "1.0.0", tolerance: str = "1e-6") -> Path:
        path = tmp_path / "given" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(PROGRAM.format(name=name, version=version, tolerance=tolerance))
        return path

    return written


def git(catalogue: Catalogue, repository: str, *arguments: str) -> str:
    path = catalogue.repositories[repository].path
    command = ["git", f"--git-dir={path}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def finish(catalogue: Catalogue, name: str, state: TaskState = TaskState.SUCCESS) -> str:
    """Put a task that this program has carried out into the ledger; return its id."""
    ledger, program = catalogue.workspace.ledger, catalogue.resolve(SLOT, name)
    context = TaskSetContext(str(uuid.uuid4()), "ada", "grid", "base", "power-flow")
    ledger.open_task_set(context, {})
    task = Task(context.trace_id, "power_flow", TaskInput("v1", "in", "hours=0000-0023", {}), program.ref)
    ledger.register([task])
    claim = ledger.claim(task.id, "test/1/1.0", 60.0)
    assert isinstance(claim, Claim)
    ledger.finish(task.id, claim.attempt, state)
    return task.id


def test_a_file_becomes_a_commit_and_a_program(catalogue: Catalogue, write: Write) -> None:
    path = write()
    added = submission.add(catalogue, path, SLOT, "a first try")
    change = added.change
    assert added.is_new
    assert (change.repository, change.action, change.version) == (CUSTOM, Action.ADDED, "1.0.0")
    assert git(catalogue, CUSTOM, "rev-parse", "main") == change.commit
    assert git(catalogue, CUSTOM, "log", "--format=%an|%s", "main") == f"{change.author}|a first try"
    assert catalogue.source(change.address) == path.read_bytes()
    program = catalogue.resolve(SLOT, "quick")
    assert program.storage_address == change.address == f"custom:power_flow/quick.py@{change.commit}"
    assert program.parameters({}).model_dump() == {"tolerance_pu": 1e-6}
    assert "quick" in catalogue.names(SLOT)
    record = catalogue.index.get(SLOT, "quick", program.digest)
    assert (record.type, record.storage_address, list(record.references)) == (
        "algorithm",
        change.address,
        ["Tinney & Hart 1967"],
    )
    assert record.parameters["properties"]["tolerance_pu"]["description"] == "Largest mismatch."
    entry = catalogue.entry("quick")
    assert (entry.state, entry.digest, entry.problem) == ("trial", program.digest, "")
    assert not submission.add(catalogue, path).is_new
    assert len(catalogue.history("quick")) == 1
    assert catalogue.check() == []


def test_earlier_code_is_at_hand_by_its_digest(catalogue: Catalogue, write: Write) -> None:
    submission.add(catalogue, write())
    first = catalogue.resolve(SLOT, "quick")
    submission.add(catalogue, write(version="1.1.0", tolerance="1e-5"))
    second = catalogue.resolve(SLOT, "quick")
    assert (second.manifest.version, second.digest != first.digest) == ("1.1.0", True)
    again = catalogue.resolve(SLOT, "quick", first.digest)
    assert (again.manifest.version, again.storage_address) == ("1.0.0", first.storage_address)
    submission.remove(catalogue, "quick")
    assert catalogue.resolve(SLOT, "quick", first.digest).manifest.version == "1.0.0"
    with pytest.raises(ProgramError, match="there is none of this name now; install the code with digest 000000"):
        catalogue.resolve(SLOT, "quick", "0" * 64)
    with pytest.raises(OptionError, match="program of slot power_flow quick: does not exist"):
        catalogue.resolve(SLOT, "quick")


def test_what_has_proved_itself_becomes_official(catalogue: Catalogue, write: Write) -> None:
    submission.add(catalogue, write())
    with pytest.raises(OptionError, match=r"finished no task yet; run it first: .* --program power_flow=quick"):
        submission.promote(catalogue, "quick")
    catalogue.record([catalogue.resolve(SLOT, "quick")])
    finish(catalogue, "quick")
    promoted = submission.promote(catalogue, "power_flow/quick", "reviewed")
    assert git(catalogue, OFFICIAL, "rev-parse", "main") == promoted.commit
    assert git(catalogue, CUSTOM, "ls-tree", "-r", "--name-only", "main") == ""
    program = catalogue.resolve(SLOT, "quick")
    assert program.storage_address == f"official:power_flow/quick.py@{promoted.commit}"
    assert catalogue.entry("quick").state == "official"
    assert catalogue.index.get(SLOT, "quick", program.digest).storage_address == promoted.address
    assert [c.action for c in catalogue.history("quick")] == [Action.PROMOTED, Action.MOVED, Action.ADDED]
    with pytest.raises(OptionError, match="is official already"):
        submission.promote(catalogue, "quick")
    with pytest.raises(OptionError, match=r"version 1\.0\.0 is official with other code; raise the version"):
        submission.add(catalogue, write(tolerance="1e-5"))
    submission.add(catalogue, write(version="2.0.0"))
    assert catalogue.entry("quick").state == "trial"
    removed = submission.remove(catalogue, "quick")
    assert {c.repository for c in removed} == {CUSTOM, OFFICIAL}
    assert git(catalogue, OFFICIAL, "ls-tree", "-r", "--name-only", "main") == ""
    assert catalogue.check() == []


def test_code_that_has_failed_a_task_stays_on_trial(catalogue: Catalogue, write: Write) -> None:
    submission.add(catalogue, write())
    finish(catalogue, "quick")
    finish(catalogue, "quick", TaskState.FAILED)
    with pytest.raises(OptionError, match="1 tasks of its present code have failed"):
        submission.promote(catalogue, "quick")


def test_what_comes_with_bos_stays(catalogue: Catalogue, write: Write) -> None:
    for name in ("newton", "contract"):
        with pytest.raises(OptionError, match="comes with BOS in slot power_flow"):
            submission.add(catalogue, write(name))
    for step in (submission.remove, submission.promote):
        with pytest.raises(OptionError, match="comes with BOS"):
            step(catalogue, "newton")
    with pytest.raises(NotFoundError, match="did you mean 'newton'"):
        submission.remove(catalogue, "newtom")
    with pytest.raises(NotFoundError, match="was ever added"):
        catalogue.history("newton")


def test_a_bad_file_is_refused_with_everything_that_is_wrong(catalogue: Catalogue, tmp_path: Path) -> None:
    path = tmp_path / "Bad.py"
    path.write_text(
        "from bos_core.index import tables\nfrom . import contract\nimport prefect\nTITLE = 'x'\n"
        "MANIFEST = ProgramManifest(name='x; DROP TABLE', slot='power_flaw', version='one', title=TITLE,\n"
        "                           colour=1, description=' ', elements='unit')\n"
        "def run(inputs): ...\n"
    )
    with pytest.raises(OptionError) as caught:
        submission.add(catalogue, path, SLOT)
    said = str(caught.value)
    for word in (
        "line 1 imports bos_core.index.tables",
        "line 2 imports from its own folder",
        "line 3 imports prefect",
        "title Bad: is no literal",
        "MANIFEST has colour",
        "is no name of a program",
        "MANIFEST says name='x; DROP TABLE'",
        "MANIFEST says slot='power_flaw', asked for is 'power_flow'",
        "did you mean 'power_flow'?",
        "has version 'one'; number it like 1.0.0",
        "description Bad: says nothing",
        "elements Bad: is no tuple of texts",
        "run takes inputs; write def run(inputs, parameters)",
    ):
        assert word in said, word
    assert len(caught.value.findings) == 13
    assert catalogue.index.changes() == ()
    assert not catalogue.repositories[CUSTOM].path.exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"x = (", "is no Python, line 1"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"x = 1", "has no MANIFEST"),
        (b"MANIFEST = 3", "is no call of ProgramManifest"),
        (b"(" * 5000 + b")" * 5000, "is no Python|cannot be read as Python"),
        (b"#" * 1_000_001, "more than 1,000,000"),
        (b"x = '\x00'", "is no Python|cannot be read as Python"),
    ],
)
def test_what_is_no_program_is_refused(catalogue: Catalogue, tmp_path: Path, source: bytes, message: str) -> None:
    path = tmp_path / "odd.py"
    path.write_bytes(source)
    with pytest.raises(OptionError, match=message):
        submission.add(catalogue, path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("raise RuntimeError('no licence')", "cannot be loaded: RuntimeError.*no licence"),
        ("import os; os._exit(3)", r"ended the process that loaded it \(3\)"),
        ("raise SystemExit(4)", r"ended the process that loaded it \(4\)"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("import os\nif any(n.startswith('BOS_') for n in os.environ): raise RuntimeError('sees settings')", ""),
        ("print('x' * 100_000)", ""),
    ],
)
def test_a_file_is_loaded_in_a_process_of_its_own(
    catalogue: Catalogue, write: Write, monkeypatch: pytest.MonkeyPatch, line: str, message: str
) -> None:
    monkeypatch.setenv("BOS_STORE_OPTIONS", '{"secret": "s3-secret"}')
    path = write()
    path.write_text(f"{path.read_text()}\n{line}\n")
    if message:
        with pytest.raises(OptionError, match=message):
            submission.add(catalogue, path)
        assert catalogue.index.changes() == ()
    else:
        assert submission.add(catalogue, path).is_new


def test_parameters_must_say_what_they_are(catalogue: Catalogue, write: Write) -> None:
    path = write()
    text = path.read_text().replace('    """Largest mismatch."""\n', "    rounds: int\n")
    path.write_text(text)
    with pytest.raises(OptionError) as caught:
        submission.add(catalogue, path)
    assert [(f.field, f.problem) for f in caught.value.findings] == [
        ("tolerance_pu", "has no description"),
        ("rounds", "has no description"),
        ("rounds", "has no default"),
    ]


@pytest.mark.parametrize(
    "text", ["'; DROP TABLE program_change; --", "<a>\nb\x07", "…\U0001f600", "[red]x[/]", " . "]
)
def test_hostile_names_and_messages_are_kept_as_text(catalogue: Catalogue, write: Write, text: str) -> None:
    settings = catalogue.workspace.settings.model_copy(update={"user": text})
    object.__setattr__(catalogue.workspace, "settings", settings)
    change = submission.add(catalogue, write(), message=text).change
    assert (change.author, change.message) == (text, text)
    assert catalogue.history("quick")[0].message == text
    assert git(catalogue, CUSTOM, "log", "--format=%H", "main") == change.commit
    with pytest.raises(OptionError, match="no database keeps"):
        submission.remove(catalogue, "quick", "zero \x00")


def test_adding_at_the_same_time_loses_nothing(catalogue: Catalogue, write: Write) -> None:
    paths = [write(f"quick_{k}") for k in range(4)]
    failures: list[BaseException] = []

    def add(path: Path) -> None:
        try:
            submission.add(Catalogue(catalogue.workspace), path)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=add, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert set(catalogue.names(SLOT)) == {"newton", *(path.stem for path in paths)}
    assert [c.sequence for c in catalogue.index.changes()] == [1, 2, 3, 4]
    assert git(catalogue, CUSTOM, "rev-list", "--count", "main") == "4"
    assert len(git(catalogue, CUSTOM, "ls-tree", "-r", "--name-only", "main").split()) == 4
    assert catalogue.check() == []


class Crash(BaseException):
    """The process dies here."""


@pytest.fixture
def dies(monkeypatch: pytest.MonkeyPatch) -> Callable[[type, str, bool], Callable[[], None]]:
    """Let a process die before or after a call; returns what lets the next one live."""

    def arrange(owner: type, method: str, after: bool) -> Callable[[], None]:
        real = getattr(owner, method)

        def dying(*arguments: object, **options: object) -> None:
            if after:
                real(*arguments, **options)
            raise Crash

        monkeypatch.setattr(owner, method, dying)
        return lambda: monkeypatch.setattr(owner, method, real)

    return arrange


POINTS: Mapping[str, tuple[type, str]] = {
    "commit": (Repository, "prepare"),
    "index": (ProgramIndex, "commit"),
    "branch": (Repository, "follow"),
}


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["add", "promote", "remove"])
def test_a_step_that_breaks_off_is_done_or_not(
    catalogue: Catalogue,
    write: Write,
    dies: Callable[[type, str, bool], Callable[[], None]],
    step: str,
    point: str,
    after: bool,
) -> None:
    submission.add(catalogue, write("other"))
    path = write()
    if step != "add":
        submission.add(catalogue, path)
        finish(catalogue, "quick")
    steps: Mapping[str, Callable[[], object]] = {
        "add": lambda: submission.add(catalogue, path),
        "promote": lambda: submission.promote(catalogue, "quick"),
        "remove": lambda: submission.remove(catalogue, "quick"),
    }
    revive = dies(*POINTS[point], after)
    with pytest.raises(Crash):
        steps[step]()
    revive()
    counts = point == "branch" or (point == "index" and after)
    entries = {entry.name: entry.state for entry in catalogue.entries(SLOT)}
    before, done = {"add": (None, "trial"), "promote": ("trial", "official"), "remove": ("trial", None)}[step]
    assert entries.get("quick") == (done if counts else before)
    assert entries["other"] == "trial"
    assert bool(catalogue.check()) == (counts and not (after and point == "branch" and step != "promote"))
    catalogue.follow()
    assert catalogue.check() == []
    if not counts:
        steps[step]()
    assert {e.name: e.state for e in catalogue.entries(SLOT)}.get("quick") == done
    assert catalogue.check() == []


def test_a_lost_repository_is_named(catalogue: Catalogue, write: Write) -> None:
    change = submission.add(catalogue, write()).change
    catalogue.repositories[CUSTOM].path.rename(catalogue.repositories[CUSTOM].path.with_suffix(".lost"))
    (finding,) = catalogue.check()
    assert change.commit[:12] in finding.problem
    assert [entry.name for entry in catalogue.entries(SLOT) if entry.problem] == ["quick"]
    with pytest.raises(StorageError, match=r"the custom repository .* lacks commit .* restore the folder"):
        submission.add(catalogue, write("other"))
