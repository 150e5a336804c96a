"""Runs that a dead service left behind: Prefect would call them running for ever."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Crashed

MESSAGE = "The service ended while this run was going on. Resume it with its trace id: what is finished stays."

_GOING_ON = FlowRunFilterState(
    type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING, StateType.CANCELLING])
)


def mark_abandoned(pool: str) -> int:
    """Mark the pool's unfinished runs and their subflows as crashed; return how many.

    Call it while no worker serves the pool: then nothing of it can be running.
    """
    with get_client(sync_client=True) as client:
        runs = list(_unfinished(client, pool))
        for run in runs:
            client.set_flow_run_state(run.id, Crashed(message=MESSAGE), force=True)
    return len(runs)


def _unfinished(client: SyncPrefectClient, pool: str) -> Iterator[FlowRun]:
    level: Sequence[FlowRun] = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=_GOING_ON),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
    )
    while level:
        yield from level
        parents = FlowRunFilterParentFlowRunId(any_=[run.id for run in level])
        level = client.read_flow_runs(flow_run_filter=FlowRunFilter(state=_GOING_ON, parent_flow_run_id=parents))
