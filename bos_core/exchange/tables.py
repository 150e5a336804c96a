"""Collects what a reader finds and makes it ontology tables: ids, entities, terminals, stations, criteria."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from bos_core.exchange.model import ImportedGrid, Note, Series
from bos_core.exchange.technology import figures
from bos_core.grid.model import FloatArray, IntArray, StrArray
from bos_core.objects.errors import Finding
from bos_core.objects.ontology import TABLES, element_id

_ENDS = {"from": "from_bus", "to": "to_bus"}
BUS_COLUMNS: Mapping[str, Mapping[str, str]] = {
    **{kind: _ENDS for kind in ("line", "transformer", "equivalent_branch", "hvdc")},  # noqa: C420
    "transformer3": {"high": "high_bus", "medium": "medium_bus", "low": "low_bus"},
    **{table: {"bus": "bus"} for table in ("shunt", "svg", "unit", "load", "storage", "switch")},
}
"""Terminals of every kind of device and the column that holds their bus."""

COST_SEGMENTS = 3
"""Chords that replace a quadratic cost."""

BETWEEN_STATIONS = ("line", "equivalent_branch", "hvdc")

VOLTAGE_CRITERIA = (
    # base_kv from, to; base case; after a contingency. Operating ranges of Commission Regulation (EU) 2017/1485,
    # annex II: 0.90 to 1.05 of 400 kV, 0.90 to 1.118 below 300 kV; EN 50160 below 110 kV. Grids that call their
    # 400 kV level 380 kV get the same kilovolts. The base case keeps a margin where the range allows one.
    (390.0, 1200.0, 0.92, 1.05, 0.90, 1.05),
    (300.0, 389.999, 0.96, 1.10, 0.947, 1.105),
    (110.0, 299.999, 0.92, 1.10, 0.90, 1.118),
    (0.0, 109.999, 0.90, 1.10, 0.90, 1.10),
)
LOADING_CRITERIA = (("line", 1.0, 1.0), ("transformer", 1.0, 1.2))
RESERVES = (
    # product, share of load, share of wind and solar infeed, floor in MW ("3 % of load + 5 % of renewables":
    # NREL/TP-5500-47434, Western Wind and Solar Integration Study 2010)
    ("positive", 0.03, 0.05, 0.0),
    ("negative", 0.015, 0.05, 0.0),
)


@dataclass(frozen=True)
class OwnCost:
    """Costs of a unit that the source gives; what is None stays as the technology table has it.

    Attributes
    ----------
    no_load_eur_per_h : float
        Cost at zero output, extrapolated.
    segments : list of (from MW, to MW, EUR/MWh)
    starts : list of (hours off, EUR)
    shutdown_eur, co2_t_per_mwh : float
    """

    no_load_eur_per_h: float
    segments: list[tuple[float, float, float]]
    starts: list[tuple[int, float]] | None = None
    shutdown_eur: float | None = None
    co2_t_per_mwh: float | None = None


class TableBuilder:
    """Rows of all ontology tables of one grid, in the order in which they are added."""

    def __init__(self, name: str, *, base_mva: float = 100.0, frequency_hz: float = 50.0) -> None:
        self.name, self.base_mva = name, base_mva
        self.system = element_id(name, "system", name)
        self.notes: list[Note] = []
        self.findings: list[Finding] = []
        self.series: dict[str, Series] = {}
        self._rows: dict[str, list[dict[str, NDArray[Any]]]] = {}
        self._costs: dict[str, OwnCost] = {}
        self._unit_row: dict[str, int] = {}
        self.put("system", id=[self.system], name=[name], base_mva=[base_mva], frequency_hz=[frequency_hz])

    def note(self, component: str, count: int, what: str) -> None:
        """Record what was dropped or assumed; nothing happens when `count` is 0."""
        if count:
            self.notes.append(Note(component, int(count), what))

    def put_profiles(self, names: Sequence[str], values: FloatArray, year: int) -> None:
        """Set the historical profiles, (hour, profile), and the calendar year that they come from."""
        self.series["profile.value"] = Series("profile.value", tuple(names), values)
        self._rows["system"][0]["calendar_year"] = np.array([year])

    def finding(self, component: str, ids: Iterable[object], problem: str, remedy: str, field: str = "") -> None:
        """Record what makes the file unusable; nothing happens without ids."""
        names = tuple(str(i) for i in ids)
        if names:
            self.findings.append(Finding(component, names, problem, remedy, field))

    def put(self, table: str, **columns: Sequence[Any] | NDArray[Any]) -> None:
        """Add rows to a table; scalars are not spread."""
        self._rows.setdefault(table, []).append({k: np.asarray(v) for k, v in columns.items()})

    def add(self, kind: str, source: Iterable[object], names: Iterable[object], **columns: Any) -> StrArray:
        """Add devices and their entities; scalars are spread over the rows.

        Returns
        -------
        (row,) str
            The new ids.
        """
        keys = [str(s) for s in source]
        ids = np.array([element_id(self.name, kind, key) for key in keys], dtype="U36")
        if not keys:
            return ids
        n = len(keys)
        self.put("entity", id=ids, kind=[kind] * n, name=[str(x) for x in names], source_id=keys)
        self.put(kind, id=ids, **{k: np.broadcast_to(np.asarray(v), (n,)) for k, v in columns.items()})
        return ids

    def state(self, kind: str, ids: StrArray, **columns: Any) -> None:
        """Add rows of a ``*_state`` table; scalars are spread."""
        if ids.size:
            spread = {k: np.broadcast_to(np.asarray(v), ids.shape) for k, v in columns.items()}
            self.put(f"{kind}_state", id=ids, **spread)

    def add_units(
        self,
        source: Iterable[object],
        names: Iterable[object],
        *,
        technology: StrArray,
        p_mw_min: FloatArray,
        p_mw_max: FloatArray,
        given: Mapping[str, NDArray[Any]] | None = None,
        technical_minimum: bool = True,
        **columns: Any,
    ) -> StrArray:
        """Add units; what `given` lacks comes from the technology table.

        `columns` are bus, rated_mva, q_mvar_min, q_mvar_max, voltage_control. Without `technical_minimum` the
        source's `p_mw_min` holds as it is.
        """
        found = figures(technology, p_mw_min, p_mw_max, technical_minimum=technical_minimum)
        limits = {**found.limits, "energy_mwh_max": np.nan, **(given or {})}
        ids = self.add("unit", source, names, technology=technology, p_mw_max=p_mw_max, **limits, **columns)
        if ids.size:
            self.put("unit_cost", device=ids, **found.cost)
            for table, rows in (("cost_segment", found.segments), ("start_cost", found.starts)):
                rest = {k: v for k, v in rows.items() if k != "owner"}
                self.put(table, device=ids[rows["owner"]], **rest)
        return ids

    def own_cost(self, device: str, cost: OwnCost) -> None:
        """Replace what the technology table says about a unit's cost; segments must not get cheaper.

        Where they do, they are merged at their mean: the lower convex envelope, noted.
        """
        hull: list[tuple[float, float, float]] = []
        for start, stop, price in cost.segments:
            low, value = start, price
            while hull and hull[-1][2] > value:
                first, last, before = hull.pop()
                width = stop - first
                value = (before * (last - first) + value * (stop - low)) / width if width else value
                low = first
            hull.append((low, stop, value))
        self.note("unit_cost", len(hull) < len(cost.segments), "not convex: segments merged")
        self._costs[device] = replace(cost, segments=hull)

    def polynomial_cost(self, device: str, coefficients: Sequence[float], **more: Any) -> None:
        """Replace a unit's production cost by chords of a polynomial (highest power first).

        `more` are further fields of `OwnCost`.
        """
        row = self._unit_rows()[device]
        low, high = (float(self.column("unit", c)[row]) for c in ("p_mw_min", "p_mw_max"))
        low = low if bool(self.column("unit", "committable")[row]) else max(0.0, low)
        curved = any(c != 0 for c in list(coefficients)[:-2]) and high > low
        points = np.linspace(low, max(high, low), COST_SEGMENTS + 1 if curved else 2)
        value = np.polyval(list(coefficients), points)
        slope = float(np.polyval(np.polyder(list(coefficients)), low)) if len(coefficients) > 1 else 0.0
        width = np.diff(points)
        prices = np.where(width > 0, np.diff(value) / np.where(width > 0, width, 1.0), slope)
        segments = list(zip(points[:-1].tolist(), points[1:].tolist(), prices.tolist(), strict=True))
        self.own_cost(device, OwnCost(float(value[0] - prices[0] * low), segments, **more))

    def _unit_rows(self) -> dict[str, int]:
        ids = self.column("unit", "id")
        if len(self._unit_row) != ids.size:
            self._unit_row = {str(k): row for row, k in enumerate(ids.tolist())}
        return self._unit_row

    def _put_own_costs(self) -> None:
        if not self._costs:
            return
        for table in ("unit_cost", "cost_segment", "start_cost"):
            self._rows[table] = [self._with_own_costs(table, rows) for rows in self._rows.get(table, ())]
        flat = [(d, k, *s) for d, cost in self._costs.items() for k, s in enumerate(cost.segments)]
        names = ("device", "segment", "p_mw_from", "p_mw_to", "marginal_eur_per_mwh")
        self.put("cost_segment", **dict(zip(names, zip(*flat, strict=True), strict=True)))
        starts = [(d, *s) for d, cost in self._costs.items() for s in cost.starts or ()]
        if starts:
            device, off, eur = zip(*starts, strict=True)
            self.put("start_cost", device=device, off_h_min=off, cost_eur=eur)

    def _with_own_costs(self, table: str, rows: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Take the rows of devices with costs of their own out of, or write them into, the cost tables."""
        devices = [d for d, c in self._costs.items() if table != "start_cost" or c.starts is not None]
        mine = np.isin(rows["device"].astype(str), devices)
        if table != "unit_cost":
            return {k: v[~mine] for k, v in rows.items()}
        own = [self._costs[d] for d in rows["device"][mine].tolist()]
        changed = {k: v.astype(object) for k, v in rows.items()}
        changed["no_load_eur_per_h"][mine] = [c.no_load_eur_per_h for c in own]
        for name in ("shutdown_eur", "co2_t_per_mwh"):
            given = [getattr(c, name) for c in own]
            kept = changed[name][mine].tolist()
            changed[name][mine] = [k if g is None else g for g, k in zip(given, kept, strict=True)]
        for k in np.flatnonzero(mine):
            changed["source"][k] = f"source file; what it lacks: {rows['source'][k]}"
        return changed

    def column(self, table: str, name: str, missing: Any = "") -> NDArray[Any]:
        """Return a column of the rows added so far."""
        parts = [
            rows.get(name, np.full(len(next(iter(rows.values()))), missing)) for rows in self._rows.get(table, ())
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def organise(self, region: Sequence[str] | None = None, station: Sequence[str] | None = None) -> None:
        """Add regions, stations and the relationships contains and connects.

        A station is what transformers and bus couplers join. Without names from the source a region is the
        whole system and a station is called after its first bus of the highest voltage.

        Parameters
        ----------
        region, station : (bus,) str, optional
            Names in the order of the bus table; empty = unknown.
        """
        bus = self.column("bus", "id").astype(str)
        if not bus.size:
            return
        place = {b: i for i, b in enumerate(bus.tolist())}
        label = self._station_labels(place, bus.size)
        names = dict(
            zip(self.column("entity", "id").tolist(), self.column("entity", "name").tolist(), strict=True)
        )
        first = _first_of_label(label, -self.column("bus", "base_kv").astype(float))
        given = np.array(station if station is not None else [""] * bus.size, dtype=object)
        titles = [names[bus[k]] for k in first]
        for k in np.flatnonzero(given != "")[::-1]:
            titles[label[k]] = str(given[k])
        regions = np.array([r or self.name for r in region] if region is not None else [self.name] * bus.size)
        region_ids = {r: element_id(self.name, "region", r) for r in dict.fromkeys(regions.tolist())}
        station_ids = np.array([element_id(self.name, "station", str(bus[k])) for k in first])
        station_region = np.array([region_ids[regions[k]] for k in first])
        self.put("region", id=[*region_ids.values()], name=[*region_ids], system=[self.system] * len(region_ids))
        self.put(
            "station",
            id=station_ids,
            name=titles,
            region=station_region,
            longitude_deg=self.column("bus", "longitude_deg", np.nan)[first].astype(float),
            latitude_deg=self.column("bus", "latitude_deg", np.nan)[first].astype(float),
        )
        self.put("contains", parent=[self.system] * len(region_ids), child=[*region_ids.values()])
        self.put("contains", parent=station_region, child=station_ids)
        self.put("contains", parent=station_ids[label], child=bus)
        bus_region = np.array([region_ids[r] for r in regions])
        for kind, terminals in BUS_COLUMNS.items():
            self._connect(kind, terminals, place, bus_region if kind in BETWEEN_STATIONS else station_ids[label])

    def _connect(self, kind: str, terminals: Mapping[str, str], place: dict[str, int], parent: StrArray) -> None:
        ids = self.column(kind, "id").astype(str)
        if not ids.size:
            return
        for terminal, column in terminals.items():
            self.put("connects", device=ids, terminal=[terminal] * ids.size, bus=self.column(kind, column))
        home = np.array([place.get(b, -1) for b in self.column(kind, next(iter(terminals.values()))).tolist()])
        known = home >= 0
        self.put("contains", parent=parent[home[known]], child=ids[known])

    def _station_labels(self, place: dict[str, int], n: int) -> IntArray:
        pairs: list[tuple[NDArray[Any], NDArray[Any]]] = []
        for kind, left, right in (
            ("transformer", "from_bus", "to_bus"),
            ("transformer3", "high_bus", "medium_bus"),
            ("transformer3", "high_bus", "low_bus"),
            ("switch", "bus", "element"),
        ):
            pairs.append((self.column(kind, left), self.column(kind, right)))
        rows = np.array([place.get(a, -1) for left, _ in pairs for a in left.tolist()], dtype=np.int64)
        cols = np.array([place.get(b, -1) for _, right in pairs for b in right.tolist()], dtype=np.int64)
        known = (rows >= 0) & (cols >= 0)
        graph = sp.csr_matrix((np.ones(known.sum()), (rows[known], cols[known])), shape=(n, n))
        return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)

    def add_criteria(self) -> None:
        """Add the default security criteria and reserve requirements; an overlay may change them."""
        low, high, vmin, vmax, after_min, after_max = zip(*VOLTAGE_CRITERIA, strict=True)
        self.put(
            "voltage_criterion",
            id=[element_id(self.name, "voltage_criterion", str(k)) for k in low],
            base_kv_min=low,
            base_kv_max=high,
            vm_pu_min=vmin,
            vm_pu_max=vmax,
            vm_contingency_pu_min=after_min,
            vm_contingency_pu_max=after_max,
        )
        kind, base, after = zip(*LOADING_CRITERIA, strict=True)
        self.put(
            "loading_criterion",
            id=[element_id(self.name, "loading_criterion", str(k)) for k in kind],
            kind=kind,
            loading_max=base,
            loading_contingency_max=after,
        )
        if not self._rows.get("reserve_requirement"):
            product, load, renewable, floor = zip(*RESERVES, strict=True)
            self.put(
                "reserve_requirement",
                id=[element_id(self.name, "reserve_requirement", str(k)) for k in product],
                product=product,
                share_of_load=load,
                share_of_renewable=renewable,
                minimum_mw=floor,
            )
            self.note("reserve_requirement", len(product), "default: 3 % of load and 5 % of wind and solar")

    def finish(self) -> ImportedGrid:
        """Return every ontology table; the criteria are the defaults where the reader gave none."""
        self._put_own_costs()
        self.add_criteria()
        tables: dict[str, pa.Table] = {}
        for name, schema in TABLES.items():
            parts = []
            for rows in self._rows.get(name, ()):
                if not len(next(iter(rows.values()))):
                    continue
                columns = {k: _arrow(v, schema.arrow.field(k).type) for k, v in rows.items()}
                parts.append(schema.build(columns))
            tables[name] = pa.concat_tables(parts).combine_chunks() if parts else schema.empty()
        return ImportedGrid(tables, dict(self.series), tuple(self.notes))


def _first_of_label(label: IntArray, order: FloatArray) -> IntArray:
    """Return for every label its member that is smallest in `order`, the first of equals."""
    ranked = np.lexsort((np.arange(label.size), order, label))
    starts = np.flatnonzero(np.r_[True, np.diff(label[ranked]) > 0])
    return ranked[starts]


def _arrow(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """Return a column as Arrow; NaN and None become null."""
    if pa.types.is_string(kind):
        texts = [None if v is None or (isinstance(v, float) and np.isnan(v)) else str(v) for v in values.tolist()]
        return pa.array(texts, type=kind)
    if pa.types.is_integer(kind) and values.dtype.kind == "f":
        finite = np.isfinite(values)
        return pa.array(np.where(finite, values, 0).astype(np.int64), type=kind, mask=~finite)
    if pa.types.is_boolean(kind):
        return pa.array(values.astype(bool), type=kind)
    if pa.types.is_floating(kind):
        values = values.astype(np.float64)
    return pa.array(values, type=kind, from_pandas=True)
