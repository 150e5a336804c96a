"""SimBench: the grids and their 2016 time series (Meinecke et al. 2020, "SimBench", Energies 13, 3290)."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from bos_core.exchange.pandapower_net import NetReader
from bos_core.exchange.tables import TableBuilder
from bos_core.grid.model import FloatArray
from bos_core.objects.errors import Finding, FormatError
from bos_core.objects.ontology import HOURS_PER_YEAR

CODE = re.compile(r"^1-[A-Za-z_]+-[a-z0-9]+-[\w.]*-[012]-(sw|no_sw)$")

EQUIVALENT = re.compile(r"^(?P<inside>[A-Z]+[\d.]+)_(?P<outside>[A-Z]+[\d.]+)_eq$")
"""Subnet of an element that stands for a neighbouring subnet: ``HV1_MV1_eq`` = seen from HV1, subnets MV1.*."""

REGION_KV = 150.0
"""Regions are what remains connected when transformers from above to below this voltage are cut."""


def is_code(source: str) -> bool:
    """Return whether a source looks like a SimBench code, e.g. ``1-EHV-mixed--0-no_sw``."""
    return bool(CODE.match(source))


def read_simbench(code: str) -> TableBuilder:
    """Read a grid by its code from the simbench package.

    Raises
    ------
    FormatError
        Unknown code.
    """
    import simbench

    known = simbench.collect_all_simbench_codes()
    # The package reads every code with "no_sw" too but does not list all of them.
    if code.replace("-no_sw", "-sw") not in {c.replace("-no_sw", "-sw") for c in known}:
        close = [c for c in known if c.split("-")[1:3] == code.split("-")[1:3]][:5]
        hint = f"use one of {', '.join(close or known[:5])}"
        raise FormatError((Finding("grid", (code,), "is not a SimBench code", hint),))
    return read_simbench_net(simbench.get_simbench_net(code), code)


def read_simbench_net(net: Any, code: str) -> TableBuilder:
    """Read a net as `simbench.get_simbench_net` returns it (with its ``profiles``); the net is not changed."""
    net = _shallow_copy(net)
    superseded = drop_superseded(net)
    reader = _SimbenchReader(net, code)
    for element, count in superseded.items():
        reader.tables.note(element, count, "stood for a subnet that is present and connected: dropped")
    builder = reader.read()
    _assign_profiles(reader)
    return builder


def _shallow_copy(net: Any) -> Any:
    """Copy the net so that replacing a table leaves the caller's net as it was."""
    copied = type(net)(dict(net))
    for element in ("load", "sgen", "ext_grid"):
        copied[element] = net[element].copy()
    return copied


def drop_superseded(net: Any) -> dict[str, int]:
    """Drop, in place, equivalents of neighbouring subnets where the neighbour itself is present and connected.

    An element whose subnet is ``A_B_eq`` is superseded when a transformer at its bus joins subnets A and B and
    both have lines of their own. The name alone does not tell: the complete data set names the same LV subnet in
    28 MV subnets but holds it once, at one of them.

    Returns
    -------
    dict
        Number of dropped rows of ext_grid, load and sgen.
    """
    joined = _joined_subnets(net)
    dropped: dict[str, int] = {}
    nodes = _nodes(net)
    for element in ("ext_grid", "load", "sgen"):
        frame = net[element]
        found = [EQUIVALENT.match(str(s)) for s in frame.get("subnet", pd.Series("", index=frame.index))]
        gone = np.array(
            [
                m is not None and _is_joined(joined.get(nodes.get(b, -1), ()), m["inside"], m["outside"])
                for m, b in zip(found, frame["bus"].tolist(), strict=True)
            ],
            dtype=bool,
        )
        net[element] = frame[~gone]
        dropped[element] = int(gone.sum())
    return dropped


def _nodes(net: Any) -> dict[int, int]:
    """Return a common label for buses that bus couplers can join."""
    buses = net.bus.index.to_numpy()
    place = {b: k for k, b in enumerate(buses.tolist())}
    couplers = net.switch[net.switch["et"] == "b"]
    left = [place[b] for b in couplers["bus"]]
    right = [place[b] for b in couplers["element"]]
    graph = sp.csr_matrix((np.ones(len(left)), (left, right)), shape=(buses.size, buses.size))
    label = connected_components(graph, directed=False)[1]
    return dict(zip(buses.tolist(), label.tolist(), strict=True))


def _joined_subnets(net: Any) -> dict[int, set[tuple[str, str]]]:
    """Return, for each node with a transformer, the pairs of subnets that transformers join there."""
    subnet = net.bus["subnet"].astype(str).str.split("_").str[0]
    real = set(net.line["subnet"].astype(str).str.split("_").str[0])
    nodes = _nodes(net)
    joined: dict[int, set[tuple[str, str]]] = {}
    for high, low in zip(net.trafo["hv_bus"].tolist(), net.trafo["lv_bus"].tolist(), strict=True):
        pair = (str(subnet[high]), str(subnet[low]))
        if real.issuperset(pair):
            for bus in (high, low):
                joined.setdefault(nodes[bus], set()).update({pair, pair[::-1]})
    return joined


def _is_joined(pairs: set[tuple[str, str]] | tuple[()], inside: str, outside: str) -> bool:
    def means(name: str, subnet: str) -> bool:
        return subnet == name or subnet.startswith(f"{name}.")

    return any(means(inside, a) and means(outside, b) for a, b in pairs)


class _SimbenchReader(NetReader):
    """Regions are the EHV grid and each distribution grid under it, named after their top subnet."""

    def places(self) -> tuple[list[str], list[str]]:
        net, buses = self.net, self.net.bus.index
        place = {b: k for k, b in enumerate(buses.tolist())}
        kv = net.bus["vn_kv"].to_numpy(dtype=float)
        ends = [net.line[["from_bus", "to_bus"]].to_numpy()]
        trafo = net.trafo[["hv_bus", "lv_bus"]].to_numpy()
        level = np.array([[kv[place[h]], kv[place[low]]] for h, low in trafo.tolist()]).reshape(-1, 2)
        ends.append(trafo[~((level[:, 0] > REGION_KV) & (level[:, 1] <= REGION_KV))])
        couplers = net.switch[net.switch["et"] == "b"]
        ends.append(couplers[["bus", "element"]].to_numpy())
        pairs = np.array([[place[a], place[b]] for part in ends for a, b in part.tolist()]).reshape(-1, 2)
        graph = sp.csr_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(kv.size, kv.size))
        label = connected_components(graph, directed=False)[1]
        subnet = net.bus["subnet"].astype(str).str.split("_").str[0].to_numpy()
        names: dict[int, str] = {}
        for k in np.lexsort((np.arange(kv.size), -kv)).tolist():
            names.setdefault(int(label[k]), str(subnet[k]))
        station = super().places()[1]
        return [names[int(k)] for k in label], station


def hourly(profiles: pd.DataFrame) -> pd.DataFrame:
    """Return hourly means of quarter-hourly profiles, 29 February dropped: exactly 8760 rows.

    Raises
    ------
    FormatError
        The series does not cover one year in equal steps.
    """
    days = profiles["time"].str.slice(0, 5)
    values = profiles.drop(columns="time")[(days != "29.02").to_numpy()].to_numpy(dtype=np.float64)
    steps, rest = divmod(len(values), HOURS_PER_YEAR)
    if rest or not steps:
        raise FormatError(
            (Finding("profile", (), f"has {len(values)} steps a year", f"give a multiple of {HOURS_PER_YEAR}"),)
        )
    means = values.reshape(HOURS_PER_YEAR, steps, values.shape[1]).mean(axis=1)
    return pd.DataFrame(means, columns=profiles.columns.drop("time"))


def calendar_year(profiles: pd.DataFrame) -> int:
    """Return the calendar year of profiles with a column ``time`` (``31.12.2016 23:45``)."""
    return int(profiles["time"].iloc[0].split()[0].split(".")[2])


def _assign_profiles(reader: NetReader) -> None:
    """Assign profiles to loads (P and Q), static generators and exchange; keep those that are used."""
    net, tables = reader.net, reader.tables
    if "profiles" not in net:
        return
    values = {name: hourly(frame) for name, frame in net.profiles.items() if frame.shape[1] > 1}
    used: dict[str, NDArray[Any]] = {}

    def assign(element: str, key: str, quantity: str, kind: str, suffix: str, scale: FloatArray) -> None:
        names = reader.column(element, "profile", "").astype(str)
        source = values.get(kind, pd.DataFrame())
        full = np.array([f"{n}{suffix}" for n in names.tolist()])
        has = np.isin(full, list(source.columns))
        tables.note(element, int((~has).sum()), f"no profile for {quantity}: constant")
        ids = reader.ids[key].to_numpy(dtype=str)
        rows = np.flatnonzero(has)
        tables.put(
            "profile_assignment",
            device=ids[rows],
            quantity=np.full(rows.size, quantity),
            profile=full[rows],
            scale=scale[rows],
        )
        used.update({p: source[p].to_numpy() for p in dict.fromkeys(full[rows].tolist())})

    def sized(element: str, column: str) -> FloatArray:
        return np.asarray(reader.column(element, column, 0.0) * reader.column(element, "scaling", 1.0))

    if "load" in reader.ids:
        assign("load", "load", "p_mw", "load", "_pload", sized("load", "p_mw"))
        assign("load", "load (Q)", "q_mvar", "load", "_qload", sized("load", "q_mvar"))
    if "sgen" in reader.ids:
        assign("sgen", "sgen", "available_mw", "renewables", "", sized("sgen", "p_mw"))
    if "gen" in reader.ids:
        _assign_exchange(reader, values.get("powerplants", pd.DataFrame()), sized("gen", "p_mw"), used)
    if len(reader.frame("storage")):
        tables.note("storage", len(reader.frame("storage")), "profile not used: the dispatch decides")
    names = sorted(used)
    table = np.stack([used[n] for n in names], axis=1) if names else np.zeros((HOURS_PER_YEAR, 0))
    tables.put_profiles(names, table, calendar_year(next(iter(net.profiles.values()))))
    tables.note("profile", len(names), "29 February dropped, quarter-hours averaged: 8760 hours")


def _assign_exchange(
    reader: NetReader, plants: pd.DataFrame, scale: FloatArray, used: dict[str, NDArray[Any]]
) -> None:
    names = reader.column("gen", "profile", "").astype(str)
    imports = np.array([n.startswith("imp") and n in plants.columns for n in names.tolist()], dtype=bool)
    rows = np.flatnonzero(imports)
    reader.tables.put(
        "profile_assignment",
        device=reader.ids["gen"].to_numpy(dtype=str)[rows],
        quantity=np.full(rows.size, "available_mw"),
        profile=names[rows],
        scale=scale[rows],
    )
    used.update({n: plants[n].to_numpy() for n in dict.fromkeys(names[rows].tolist())})
    reader.tables.note("gen", int((~imports).sum()), "schedule of the source not used: the dispatch decides")
