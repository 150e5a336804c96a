"""Tags on Prefect runs: how a run is found by its trace id, its scenario or its step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect import tags
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext


@contextmanager
def tagged(*names: str) -> Iterator[None]:
    """Tag the flow run that is going on and everything that it starts inside the block.

    Prefect's own `tags` reaches only what starts inside; the run itself exists before its trace id does.
    """
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None:
        with get_client(sync_client=True) as client:
            known = client.read_flow_run(context.flow_run.id).tags
            client.update_flow_run(context.flow_run.id, tags=sorted({*known, *names}))
    with tags(*names):
        yield
