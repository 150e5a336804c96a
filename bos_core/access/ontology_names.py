"""What planners call the elements of a version, and what lies within a station, region or the system."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property

from bos_core.access.scenario_data import ScenarioReader
from bos_core.objects.errors import NotFoundError

NAMED = ("entity", "system", "region", "station", "interface", "contingency")
"""Tables with a name for each id."""

_CONTAINERS = ("system", "region", "station")
_SIMILAR_SHOWN = 5


class OntologyNames:
    """Names of the elements of some versions; read when first asked for.

    Parameters
    ----------
    readers : ScenarioReader
        Where an element has several names, the first version's counts; containers are those of the first.
    """

    def __init__(self, *readers: ScenarioReader) -> None:
        self._readers = readers

    @cached_property
    def _names(self) -> dict[str, str]:
        tables = [reader.table(name) for reader in reversed(self._readers) for name in NAMED]
        return {
            i: name for t in tables for i, name in zip(t["id"].to_pylist(), t["name"].to_pylist(), strict=True)
        }

    def name(self, element: str) -> str:
        """Return the name of an element, its id where it has none."""
        return self._names.get(element) or element

    def label(self, key: Iterable[object]) -> str:
        """Return what to call the row of a key: names instead of ids."""
        return " / ".join(self.name(str(part)) for part in key)

    def similar(self, name: str, among: Iterable[str]) -> str:
        """Return a hint of names that contain `name`, empty when there are none."""
        found = (other for other in dict.fromkeys(map(self.name, among)) if name.lower() in other.lower())
        near = [other for other, _ in zip(found, range(_SIMILAR_SHOWN), strict=False)]
        return f"similar: {', '.join(near)}" if near else ""

    def within(self, container: str) -> frozenset[str]:
        """Return the ids of everything within a system, region or station, by its id or name.

        Raises
        ------
        NotFoundError
            If none or several are called so.
        """
        known = [i for table in _CONTAINERS for i in self._readers[0].table(table)["id"].to_pylist()]
        found = [i for i in known if container in (i, self.name(i))]
        if len(found) != 1:
            problem = f"{len(found) or 'no'} station, region or system" + "s" * (len(found) > 1)
            raise NotFoundError(
                f"{problem} called {container!r}; {self.similar(container, known) or 'give its id'}"
            )
        children: dict[str, list[str]] = defaultdict(list)
        rows = self._readers[0].table("contains")
        for parent, child in zip(rows["parent"].to_pylist(), rows["child"].to_pylist(), strict=True):
            children[parent].append(child)
        inside: set[str] = set()
        front = found
        while front:
            front = [child for parent in front for child in children[parent] if child not in inside]
            inside.update(front)
        return frozenset(inside)
