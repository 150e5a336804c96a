"""``python -m bos_core.scheduling.run_monitor``: watch this machine and the Docker daemons of the settings."""

from __future__ import annotations

import sys

from bos_core.index.containers import ContainerIndex
from bos_core.index.database import connect
from bos_core.objects.errors import BosError
from bos_core.objects.settings import Settings
from bos_core.scheduling.container_monitor import watch


def main() -> None:
    """Serve the installation of the environment's settings until the process is ended."""
    settings = Settings.load()
    try:
        watch(settings, ContainerIndex(connect(settings.database)), lambda line: print(line, flush=True))
    except Exception as error:  # it is started again; users read one line of it
        sys.exit(f"containers are not watched: {error if isinstance(error, BosError) else repr(error)}")


if __name__ == "__main__":
    main()
