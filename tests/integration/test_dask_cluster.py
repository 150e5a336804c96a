"""The local Dask cluster with real processes."""

from __future__ import annotations

import json
import os
from contextlib import closing

import distributed
import psutil
import pytest

from bos_core.scheduling import dask_runner


def test_workers_that_the_cluster_has_dropped_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is not back in time loses its nanny; here no worker can be back in time."""
    monkeypatch.setenv(dask_runner.WORKERS_VARIABLE, "1")
    monkeypatch.setitem(dask_runner._DASK_SETTINGS, "distributed.deploy.lost-worker-timeout", "50ms")
    cluster = dask_runner.local_cluster()
    with (
        closing(dask_runner.WorkerKeeper(cluster, period_s=0.5)),
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        killed = set()
        for _ in range(3):
            worker = client.submit(os.getpid, pure=False).result(timeout=60)
            assert worker not in killed
            killed.add(worker)
            psutil.Process(worker).kill()


def test_workers_get_the_key_of_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"key": "owner", "secret": "s1", "worker_key": "worker", "worker_secret": "s2"}
    given = keys | {"task_key": "task", "task_secret": "s3"}
    monkeypatch.setenv("BOS_STORE_OPTIONS", json.dumps(given))
    monkeypatch.delenv("BOS_DATABASE_URL", raising=False)
    monkeypatch.setenv(dask_runner.WORKERS_VARIABLE, "1")
    with (
        dask_runner.local_cluster() as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        seen = client.submit(lambda: dict(os.environ)).result(timeout=60)
    found = {name: value for name, value in json.loads(seen["BOS_STORE_OPTIONS"]).items() if name in given}
    assert found == {**dict.fromkeys(given, ""), "key": "task", "secret": "s3"}
    assert "BOS_DATABASE_URL" not in seen
    assert json.loads(os.environ["BOS_STORE_OPTIONS"]) == given
