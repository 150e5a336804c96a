"""The services that an installation needs: index, store and graph, and whether they can be used."""

from __future__ import annotations

from collections.abc import Callable

from bos_core.access.projection import opened_graph
from bos_core.access.store import ResultStore
from bos_core.access.workspace import broken
from bos_core.index.database import connect
from bos_core.objects.errors import BosError, Finding, InputError
from bos_core.objects.settings import Settings

_ATTEMPTS = 2
"""How often the store is asked: a check says sooner than a run that nobody answers."""


def check_services(settings: Settings, full: bool = False) -> list[Finding]:
    """Reach out to index, store and graph; return a finding for each that cannot be used, with the next step.

    An index of an older program is brought to this one's schema, a folder that is missing is made.

    Parameters
    ----------
    full : bool
        Whether each must be a server: PostgreSQL, S3, Neo4j.
    """
    checks: tuple[tuple[str, str, bool, Callable[[Settings], None]], ...] = (
        ("index", "BOS_DATABASE_URL=postgresql://...", settings.database.startswith("postgresql"), _check_index),
        (
            "store",
            "BOS_STORE_URL=s3://... and BOS_STORE_OPTIONS",
            settings.store.startswith("s3://"),
            _check_store,
        ),
        ("graph", "BOS_GRAPH_URL=bolt://... and BOS_GRAPH_PASSWORD", bool(settings.graph_url), check_graph),
    )
    findings: list[Finding] = []
    for name, setting, served, check in checks:
        if full and not served:
            remedy = f"set {setting}; infra/README.md says how to start all three"
            findings.append(Finding(name, (), "no server is named", remedy))
            continue
        try:
            check(settings)
        except InputError as error:
            findings += error.findings
        except BosError as error:
            findings.append(broken(name, error))
    return findings


def _check_index(settings: Settings) -> None:
    connect(settings.database).dispose()


def _check_store(settings: Settings) -> None:
    options = settings.store_options
    attempts = min(_ATTEMPTS, options.attempts_max)
    ResultStore(settings.store, options.model_copy(update={"attempts_max": attempts})).check()


def check_graph(settings: Settings) -> None:
    """Open the graph of a server; the embedded one may be open elsewhere, and is made when it is needed.

    Raises
    ------
    StorageError
        If it cannot be reached, or refuses the user.
    """
    if settings.graph_url:
        with opened_graph(settings):
            pass
