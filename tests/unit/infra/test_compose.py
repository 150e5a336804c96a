"""The compose file of the full profile, and the settings that fit it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bos_core.objects.settings import Settings

INFRA = Path(__file__).parents[3] / "infra"
SERVERS = {"postgresql", "neo4j", "s3"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((INFRA / "compose.yaml").read_text())


def test_every_server_is_checked_and_keeps_its_data(compose: dict[str, Any]) -> None:
    for name in SERVERS:
        service = compose["services"][name]
        assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
        assert re.fullmatch(r"[\w/]+:[\w.-]*\d[\w.-]*", service["image"]), "a version, not the latest"
        named = {volume.partition(":")[0] for volume in service["volumes"]}
        assert named <= compose["volumes"].keys()
    assert compose["services"].keys() >= SERVERS


def test_only_this_machine_reaches_them(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(ports) == len(SERVERS)
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_settings_fit_and_the_passwords_are_made_once(compose: dict[str, Any], tmp_path: Path) -> None:
    shutil.copy(INFRA / "services", tmp_path / "services")
    command = [sys.executable, str(tmp_path / "services"), "env", "compose"]
    environment = {"BOS_SERVICES_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}
    printed = [
        subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
        for _ in range(2)
    ]
    assert printed[0] == printed[1]
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    given = dict(line.split("=") for line in (tmp_path / ".env").read_text().splitlines())
    text = (INFRA / "compose.yaml").read_text()
    assert set(re.findall(r"\$\{(\w+):\?", text)) == set(given)
    assert len(set(given.values())) == len(given)
    assert all(len(value) == 32 for value in given.values())
    values = dict(pair.split("=", 1) for pair in shlex.split(printed[0]) if pair != "export")
    settings = Settings(**{name.removeprefix("BOS_").lower(): _parsed(value) for name, value in values.items()})
    services = compose["services"]
    assert settings.database.endswith(
        f"@{_published(services['postgresql'])}/{services['postgresql']['environment']['POSTGRES_DB']}"
    )
    assert settings.graph_url == f"bolt://{_published(services['neo4j'])}"
    assert settings.store_options.endpoint_url == f"http://{_published(services['s3'])}"
    assert settings.store_options.secret.get_secret_value() == given["BOS_S3_SECRET"]
    assert settings.graph_password.get_secret_value() == given["BOS_NEO4J_PASSWORD"]
    assert settings.store.startswith("s3://bos/")
    assert "/data/bos" in services["s3-bucket"]["entrypoint"]


def _parsed(value: str) -> Any:
    return json.loads(value) if value.startswith("{") else value


def _published(service: dict[str, Any]) -> str:
    return service["ports"][0].rpartition(":")[0]
