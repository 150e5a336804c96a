"""Settings and workspace: one way in, findings for everything that is wrong."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from ledger_suite import claimed, make_tasks, open_set

from bos_core.access.commit import commit_outputs
from bos_core.access.workspace import Workspace, check_workspace
from bos_core.objects.errors import OptionError
from bos_core.objects.settings import Settings


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("BOS_"):
            monkeypatch.delenv(name)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load(home=tmp_path / "home")


def test_defaults_lie_under_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BOS_HOME", str(tmp_path / "h"))
    settings = Settings.load()
    assert settings.database == f"sqlite:///{tmp_path}/h/index.sqlite"
    assert settings.store == f"{tmp_path}/h/store"
    assert settings.user
    assert Settings.load(home="~/x").home == Path.home() / "x"


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOS_DATABASE_URL", "postgres://u:hidden@h/d")
    monkeypatch.setenv("BOS_STORE_URL", "s3://bucket/prefix")
    monkeypatch.setenv("BOS_GRAPH_PASSWORD", "hidden")
    monkeypatch.setenv(
        "BOS_STORE_OPTIONS", '{"endpoint_url": "http://127.0.0.1:9", "key": "k", "secret": "hidden"}'
    )
    settings = Settings.load()
    assert settings.database == "postgresql://u:hidden@h/d"
    assert settings.store_options.secret.get_secret_value() == "hidden"
    assert "hidden" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_bad_values_are_findings_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOS_DATABASE_URL", "mysql://u:hidden@h/d")
    monkeypatch.setenv("BOS_STORE_URL", "ftp://x")
    monkeypatch.setenv("BOS_GRAPH_URL", "bolt://u:hidden@h")
    monkeypatch.setenv("BOS_USER", "")
    monkeypatch.setenv("BOS_STORE_OPTIONS", '{"endpoint_url": "nonsense", "colour": "red"}')
    with pytest.raises(OptionError) as error:
        Settings.load()
    assert {f.field for f in error.value.findings} == {
        "database_url", "store_url", "graph_url", "user", "store_options.endpoint_url", "store_options.colour"
    }  # fmt: skip
    assert "hidden" not in str(error.value)
    monkeypatch.setenv("BOS_STORE_OPTIONS", "{not json")
    with pytest.raises(OptionError, match="BOS_STORE_OPTIONS"):
        Settings.load()


def test_a_workspace_opens_once_and_travels_as_its_settings(settings: Settings) -> None:
    workspace = Workspace.open(settings)
    assert Workspace.open(settings) is workspace
    data = pickle.dumps(workspace)
    assert pickle.loads(data) is workspace
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).settings.home)"
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True, timeout=60)
    assert done.stdout.decode().strip() == str(settings.home)


def test_reader_and_writer(settings: Settings) -> None:
    workspace = Workspace.open(settings)
    version = workspace.writer(scenario="base").commit("empty")
    assert workspace.reader("base").id == version
    assert workspace.scenarios.get(version).label == "base@1"
    assert workspace.scenarios.scenarios()[0].owner == settings.user


def test_a_sound_workspace_has_no_findings(settings: Settings) -> None:
    assert check_workspace(settings) == []


def test_lost_files_are_found(settings: Settings) -> None:
    workspace = Workspace.open(settings)
    context = open_set(workspace.ledger)
    (task,) = make_tasks(context, 1)
    workspace.ledger.register([task])
    attempt = claimed(workspace.ledger, task.id)
    commit_outputs(workspace.store, workspace.ledger, task, attempt, {"x": pa.table({"a": [1]})}, context)
    assert check_workspace(settings) == []
    address = workspace.ledger.task_outputs(task.id)[0].address
    workspace.store.delete([address])
    (finding,) = check_workspace(settings)
    assert finding.ids == (address,)
    assert "gone" in finding.problem


def test_unusable_places_are_findings(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for values, component in (
        ({"database_url": "postgresql://u:p@127.0.0.1:1/d"}, "index"),
        ({"store_url": str(tmp_path / "file")}, "store"),
        ({"store_url": "s3://b", "store_options": {"endpoint_url": "http://127.0.0.1:1", "key": "k", "secret": "s",
                                                   "attempts_max": 1}}, "store"),
    ):  # fmt: skip
        findings = check_workspace(Settings.load(home=tmp_path / "home", **values))
        assert [f.component for f in findings] == [component]
        assert findings[0].remedy
