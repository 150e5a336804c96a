"""What programs add to the ontology, with the index on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from extension_suite import *  # noqa: F403

from bos_core.access.workspace import Workspace
from bos_core.objects.settings import Settings


@pytest.fixture
def workspace(tmp_path: Path, new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[Workspace]:
    with new_database() as url:
        opened = Workspace._open(Settings.load(home=tmp_path / "home", user="ada", database_url=url))
        yield opened
        opened.engine.dispose()
