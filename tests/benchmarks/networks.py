"""The networks of the benchmarks, as the product and every peer hold them.

pandapower's own cases go to the peers as they are. SimBench's go as the product's export, because one of several
external grids must become the slack; that answers agree to 1e-8 shows that the export is the same network.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandapower
import pandapower.networks
import pyarrow as pa
from frame import CACHE

from bos_core.exchange import import_grid, to_columns
from bos_core.exchange.pandapower_export import pandapower_net
from bos_core.exchange.powsybl_export import write_powsybl
from bos_core.grid.assembly import assemble
from bos_core.grid.injections import BusInjections, bus_injections
from bos_core.grid.model import Grid, Snapshot
from bos_core.grid.power_flow import dc_start

CASES = ("case9", "case118", "case300", "case1354pegase", "case2869pegase", "case9241pegase")
SIMBENCH = "1-complete_data-mixed-all-0-no_sw"
TOLERANCE_PU = 1e-8
TABLES = {"l": "line", "t": "trafo", "t3": "trafo3w"}


@dataclass(frozen=True, eq=False)
class Case:
    """A network in one state.

    Attributes
    ----------
    net : pandapower net; its bus rows begin with the buses of `grid`, in the same order.
    element : (branch,) table and row of each branch in `net`; ("", -1) where it has none.
    start : (bus,) complex start voltages: DC angles, magnitudes at the mean set point.
    """

    name: str
    tables: Mapping[str, pa.Table]
    grid: Grid
    snapshot: Snapshot
    net: Any
    element: tuple[tuple[str, int], ...]

    @property
    def n_bus(self) -> int:
        return self.grid.network.n_bus

    @cached_property
    def injections(self) -> BusInjections:
        return bus_injections(self.grid, self.snapshot)

    @cached_property
    def slack_rad(self) -> float:
        return float(self.snapshot.va_rad[self.grid.network.slack])

    @cached_property
    def start(self) -> np.ndarray:
        return dc_start(self.grid.network, self.injections, self.slack_rad)

    def voltages(self) -> np.ndarray:
        """Return pandapower's last solution, (bus,) complex; NaN where a bus has none."""
        found = self.net.res_bus.loc[self.net.bus.index[: self.n_bus]]
        return (found.vm_pu * np.exp(1j * np.deg2rad(found.va_degree))).to_numpy()

    def xiidm(self) -> Path:
        """Write the network for pypowsybl and return the file."""
        CACHE.mkdir(parents=True, exist_ok=True)
        path = CACHE / f"{self.name}.xiidm"
        write_powsybl(self.tables, path)
        return path


def builtin(name: str) -> Case:
    """Return one of pandapower's cases."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tables = import_grid(f"pandapower:{name}").tables
        grid, snapshot = assemble(to_columns(tables))
        net = getattr(pandapower.networks, name)()
    words = [str(text).split() for text in grid.network.branch_name]
    element = tuple((w[0], int(w[1])) if w[0] in ("line", "trafo") else ("", -1) for w in words)
    return Case(name, tables, grid, snapshot, net, element)


def exported(name: str, tables: Mapping[str, pa.Table]) -> Case:
    """Return a case of ontology tables, its pandapower net by export with the slack alone balancing."""
    grid, snapshot = assemble(to_columns(tables))
    net, place, _ = pandapower_net(tables)
    slack = grid.network.slack
    position = {key: row for row, key in enumerate(tables["bus"]["id"].to_pylist())}
    rows = [position[str(key)] for key in grid.network.bus_id]
    if rows != list(range(len(rows))):
        raise ValueError(f"{name}: the export orders its buses otherwise")
    set_point = bus_injections(grid, snapshot).vm_set_pu[slack]
    net.ext_grid = net.ext_grid.iloc[:0]
    net.gen["slack"] = False
    pandapower.create_ext_grid(net, slack, set_point, np.rad2deg(snapshot.va_rad[slack]))
    kinds = [place.get(str(key), ("", -1)) for key in grid.network.branch_id]
    return Case(name, tables, grid, snapshot, net, tuple((TABLES.get(kind, ""), row) for kind, row in kinds))


def simbench() -> Case:
    """Return SimBench's complete network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return exported("simbench-complete", import_grid(SIMBENCH).tables)


def angle_free(v: np.ndarray, reference: np.ndarray, slack: int) -> np.ndarray:
    """Turn voltages so that the slack's angle is that of the reference."""
    return v * np.exp(1j * (np.angle(reference[slack]) - np.angle(v[slack])))


def largest(v: np.ndarray, reference: np.ndarray) -> float:
    """Return the largest distance of two complex voltages, p.u.; infinite where one has none."""
    found = np.abs(v - reference)
    return float(found.max()) if np.isfinite(found).all() else float("inf")
