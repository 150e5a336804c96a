"""The local Dask cluster with real processes."""

from __future__ import annotations

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
