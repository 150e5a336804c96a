"""``python -m bos_core.scheduling.run_projector``: keep the SQL rows of the ontology and the graph up to date.

Takes what the outbox names into both as long as it runs. What fails is said once, tried again after a while, and
said again when it works.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from bos_core.access.projection import Projected, Projector, opened_graph
from bos_core.access.workspace import Workspace
from bos_core.objects.errors import BosError
from bos_core.objects.settings import Settings

POLL_S = 2.0
LONGEST_S = 60.0


def drain(settings: Settings) -> Projected:
    """Project what the outbox names; the graph is opened, for this long, only when there is something.

    Raises
    ------
    BosError
        When index, store or graph cannot be used; what was not projected stays in the outbox.
    """
    workspace = Workspace.open(settings)
    if not workspace.ledger.outbox(1):
        return Projected()
    with opened_graph(settings) as graph:
        return Projector(workspace, graph).drain()


def attempts(drain: Callable[[], Projected], poll_s: float = POLL_S) -> Iterator[tuple[str, float]]:
    """Drain again and again; yield what is new for the user (mostly nothing), and the seconds to wait."""
    delay_s, failure = poll_s, ""
    while True:
        try:
            done = drain()
        except Exception as error:  # one that is none of our own is said and tried again like the others
            said, before = "", failure
            failure = str(error) if isinstance(error, BosError) else repr(error)
            if failure != before:
                said = f"the graph is not brought up to date: {failure} (it is tried again)"
            yield said, delay_s
            delay_s = min(2 * delay_s, LONGEST_S)
            continue
        said = f"the graph is up to date again; versions projected: {len(done.versions)}" if failure else ""
        delay_s, failure = poll_s, ""
        yield said, delay_s


def main() -> None:
    """Serve the installation of the environment's settings until the process is ended."""
    settings = Settings.load()
    for said, delay_s in attempts(lambda: drain(settings)):
        if said:
            print(said, flush=True)
        time.sleep(delay_s)


if __name__ == "__main__":
    main()
