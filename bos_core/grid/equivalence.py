"""Static equivalents: eliminate buses so that the rest of the network behaves as before.

The eliminated part becomes equivalent branches and shunts between the kept buses that it touched (Ward 1949,
by a sparse Schur complement), shares that move injections of eliminated buses to kept ones, and a constant
residual injection that makes the base point exact. The extended Ward equivalent (Monticelli et al. 1979) adds
the reactive support of eliminated voltage-controlled buses.

References
----------
J. B. Ward, "Equivalent circuits for power-flow studies", AIEE Transactions 68 (1949).
A. Monticelli, S. Deckmann, A. Garcia, B. Stott, "Real-time external equivalents for static security analysis",
IEEE Transactions PAS-98 (1979).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from bos_core.grid.model import BoolArray, ComplexArray, FloatArray, Grid, IntArray, Network

_COLUMNS = 256
"""Right-hand sides solved together; bounds memory."""

_ROUNDING = 1e-12
"""Entries of a Schur complement below this part of its largest one are rounding."""


@dataclass(frozen=True, eq=False)
class Equivalent:
    """A reduction in positions of the original grid; the meaning of each field is in the slot's contract."""

    kept_bus: IntArray
    kept_branch: IntArray
    g_shunt_pu: FloatArray
    b_shunt_pu: FloatArray
    residual_p_mw: FloatArray
    residual_q_mvar: FloatArray
    from_bus: IntArray
    to_bus: IntArray
    r_pu: FloatArray
    x_pu: FloatArray
    ratio: FloatArray
    shift_rad: FloatArray
    share_from: IntArray
    share_to: IntArray
    share_weight: FloatArray
    pruned: int

    @classmethod
    def of(cls, source: Any) -> Equivalent:
        """Take the fields of the same name from `source`, e.g. the outputs of an equivalence program."""
        return cls(**{f.name: getattr(source, f.name) for f in fields(cls)})


@dataclass(frozen=True, eq=False)
class Partition:
    """Kept and eliminated buses, as positions in the original network.

    `boundary` are the positions *in* `kept` of the buses with a branch into the eliminated part.
    """

    kept: IntArray
    eliminated: IntArray
    boundary: IntArray


@dataclass(frozen=True, eq=False)
class Shares:
    """Sparse shares: eliminated bus `source` gives `weight` of its injection to kept bus `target`."""

    source: IntArray
    target: IntArray
    weight: FloatArray


@dataclass(frozen=True, eq=False)
class _Branches:
    """Equivalent branches between positions in `Partition.kept`."""

    from_kept: IntArray
    to_kept: IntArray
    y_pu: ComplexArray
    shift_rad: FloatArray


def necessary_buses(grid: Grid, keep_bus: BoolArray, p_mw_large: float) -> BoolArray:
    """Return the buses to keep: the wanted ones and those that an equivalent cannot stand for.

    Added are the slack, HVDC terminals, buses of static var generators, and buses whose committable units or
    storages together reach `p_mw_large`.

    Parameters
    ----------
    grid : Grid
    keep_bus : (bus,) bool
    p_mw_large : float

    Returns
    -------
    (bus,) bool
    """
    n = grid.network.n_bus
    keep = keep_bus.copy()
    keep[grid.network.slack] = True
    keep[grid.hvdc.from_bus] = True
    keep[grid.hvdc.to_bus] = True
    keep[grid.svgs.bus] = True
    units = grid.units
    large = np.bincount(units.bus[units.committable], units.p_mw_max[units.committable], n)
    large += np.bincount(grid.storages.bus, grid.storages.p_discharge_mw_max, n)
    return np.asarray(keep | (large >= p_mw_large), dtype=np.bool_)


def unreachable_buses(network: Network, keep: BoolArray) -> IntArray:
    """Return the eliminated buses from which no kept bus can be reached; an equivalent needs none of them."""
    ones = np.ones(network.n_branch)
    shape = (network.n_bus, network.n_bus)
    graph = sp.csr_matrix((ones, (network.from_bus, network.to_bus)), shape=shape)
    _, label = connected_components(graph, directed=False)
    with_kept = np.zeros(label.max() + 1, dtype=np.bool_)
    with_kept[label[keep]] = True
    return np.flatnonzero(~with_kept[label])


def partition(network: Network, keep: BoolArray) -> Partition:
    """Split the buses and find the boundary."""
    crossing = keep[network.from_bus] != keep[network.to_bus]
    ends = np.concatenate([network.from_bus[crossing], network.to_bus[crossing]])
    kept = np.flatnonzero(keep)
    boundary = np.searchsorted(kept, np.unique(ends[keep[ends]]))
    return Partition(kept, np.flatnonzero(~keep), boundary)


def schur_complement(matrix: sp.csr_matrix, parts: Partition) -> ComplexArray:
    """Return what eliminating buses adds to the kept ones: -Y_ke Y_ee^-1 Y_ek at the boundary.

    Only the boundary columns are solved for, so the cost is that of one sparse factorization.

    Parameters
    ----------
    matrix : (bus, bus) sparse complex
    parts : Partition

    Returns
    -------
    (boundary, boundary) complex
    """
    edge = parts.kept[parts.boundary]
    if not edge.size:
        return np.zeros((0, 0), dtype=np.complex128)
    y_be = matrix[edge][:, parts.eliminated].tocsr()
    y_eb = matrix[parts.eliminated][:, edge].tocsc()
    y_ee = matrix[parts.eliminated][:, parts.eliminated].tocsc()
    solver = splu(y_ee, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.1)
    added = np.empty((edge.size, edge.size), dtype=np.complex128)
    for start in range(0, edge.size, _COLUMNS):
        columns = slice(start, start + _COLUMNS)
        added[:, columns] = -(y_be @ solver.solve(y_eb[:, columns].toarray()))
    return added


def participation(network: Network, parts: Partition, whole: BoolArray, weight_min: float) -> Shares:
    """Return where injections of eliminated buses go: DC participation -B_be B_ee^-1, rows sum to 1.

    Parameters
    ----------
    network : Network
    parts : Partition
    whole : (bus,) bool
        Eliminated buses whose injection moves undivided to the kept bus with the largest share, because a
        unit there has an on/off decision.
    weight_min : float
        Smaller (and negative) shares are dropped and the rest scaled to sum to 1; at most half the mean share.
    """
    if not parts.boundary.size:
        return Shares(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    reactance = np.where(np.abs(network.x_pu) > 1e-9, network.x_pu, np.abs(network.r_pu))
    b = 1.0 / reactance
    f, t, n = network.from_bus, network.to_bus, network.n_bus
    rows, columns = np.concatenate([f, t, f, t]), np.concatenate([f, t, t, f])
    matrix = sp.csr_matrix((np.concatenate([b, b, -b, -b]), (rows, columns)), shape=(n, n))
    edge = parts.kept[parts.boundary]
    b_ee = matrix[parts.eliminated][:, parts.eliminated].tocsc()
    b_eb = matrix[parts.eliminated][:, edge].tocsc()
    solver = splu(b_ee, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.1)
    cut = min(weight_min, 0.5 / max(edge.size, 1))
    pieces = []
    for start in range(0, edge.size, _COLUMNS):
        dense = -solver.solve(b_eb[:, start : start + _COLUMNS].toarray())
        dense[dense < cut] = 0.0
        pieces.append(sp.csr_matrix(dense))
    weights = sp.hstack(pieces, format="csr")
    return _normalised(weights, parts, edge, whole[parts.eliminated])


def _normalised(weights: sp.csr_matrix, parts: Partition, edge: IntArray, whole: BoolArray) -> Shares:
    largest = np.asarray(weights.argmax(axis=1)).ravel()
    coo = weights.tocoo()
    divided = ~whole[coo.row]
    alone = np.flatnonzero(whole)
    row = np.concatenate([coo.row[divided], alone])
    column = np.concatenate([coo.col[divided], largest[alone]])
    weight = np.concatenate([coo.data[divided], np.ones(alone.size)])
    weight = weight / np.bincount(row, weight, parts.eliminated.size)[row]
    order = np.lexsort((column, row))
    row, column = row[order].astype(np.int64), column[order].astype(np.int64)
    return Shares(parts.eliminated[row], edge[column], weight[order])


def equivalent_branches(added: ComplexArray, parts: Partition, v_pu: ComplexArray) -> _Branches:
    """Turn the off-diagonal of a Schur complement into branches.

    A pair with y_ij != y_ji (phase shifters in loops, vector groups) gets the shift half the angle between the
    two; of the two solutions half a turn apart, the one nearer to the angle across the branch. Where their
    magnitudes differ as well, a second branch in quadrature takes the rest, so that any pair is exact.

    Parameters
    ----------
    added : (boundary, boundary) complex
    parts : Partition
    v_pu : (bus,) complex
        Base-point voltages of the original network.
    """
    first, second = np.triu_indices(parts.boundary.size, 1)
    forward, backward = added[first, second], added[second, first]
    noise = _ROUNDING * np.abs(added).max(initial=0.0)
    there = (np.abs(forward) > noise) | (np.abs(backward) > noise)
    first, second, forward, backward = first[there], second[there], forward[there], backward[there]
    edge = v_pu[parts.kept[parts.boundary]]
    shift = np.angle(forward * np.conj(backward)) / 2
    behind = (edge[first] * np.conj(edge[second]) * np.exp(-1j * shift)).real < 0
    shift = np.where(behind, shift - np.copysign(np.pi, shift), shift)
    turn = np.exp(1j * shift)
    y = -(forward / turn + backward * turn) / 2
    rest = (forward / turn - backward * turn) / 2
    quadrature = np.abs(rest) > noise
    a, b = parts.boundary[first], parts.boundary[second]
    return _Branches(
        np.concatenate([a, a[quadrature]]),
        np.concatenate([b, b[quadrature]]),
        np.concatenate([y, 1j * rest[quadrature]]),
        np.concatenate([shift, shift[quadrature] + np.pi / 2]),
    )


def support_shunts(network: Network, parts: Partition, v_pu: ComplexArray, held: BoolArray) -> ComplexArray:
    """Return the shunts that make the equivalent answer to a common voltage change as the real network does.

    In the real network the eliminated buses keep their power, and those that control voltage keep their
    magnitude; in a plain Ward equivalent the moved injections are blind to both. The classical extended Ward
    equivalent hangs a fictitious generator bus behind a reactance b on each boundary bus; to first order
    that is a shunt -b/2 with a constant injection b/2 V^2, which the residual supplies. Here the shunt follows
    from the full Jacobian instead of the grounded susceptance matrix: its first-order answer to the same
    voltage change at all boundary buses is exact, active power included.

    Parameters
    ----------
    network : Network
    parts : Partition
    v_pu : (bus,) complex
        Solved base point.
    held : (bus,) bool
        Buses whose voltage magnitude is controlled.

    Returns
    -------
    (boundary,) complex
        Admittances to add, in p.u.
    """
    if not parts.boundary.size:
        return np.zeros(0, dtype=np.complex128)
    matrix = network.admittance_matrix()
    kept, out = parts.kept, parts.eliminated
    edge = kept[parts.boundary]
    y_ee, y_eb, y_be = matrix[out][:, out], matrix[out][:, edge], matrix[edge][:, out]
    v_e, v_b = v_pu[out], v_pu[edge]
    unit_e, unit_b = v_e / np.abs(v_e), v_b / np.abs(v_b)
    current = y_ee @ v_e + y_eb @ v_b
    by_angle = sp.diags(1j * v_e) @ (sp.diags(np.conj(current)) - np.conj(y_ee @ sp.diags(v_e)))
    by_magnitude = sp.diags(unit_e * np.conj(current)) + sp.diags(v_e) @ np.conj(y_ee @ sp.diags(unit_e))
    free = np.flatnonzero(~held[out])
    jacobian = sp.bmat(
        [
            [by_angle.real, by_magnitude.real[:, free]],
            [by_angle.imag[free], by_magnitude.imag[free][:, free]],
        ],
        format="csc",
    )
    push = v_e * np.conj(y_eb @ unit_b)
    solver = splu(jacobian, permc_spec="COLAMD")
    answer = -solver.solve(np.concatenate([push.real, push.imag[free]]))
    dv_e = 1j * v_e * answer[: out.size]
    dv_e[free] += unit_e[free] * answer[out.size :]
    real = unit_b * np.conj(y_be @ v_e) + v_b * np.conj(y_be @ dv_e)
    added = schur_complement(matrix, parts)
    ward = unit_b * np.conj(added @ v_b) + v_b * np.conj(added @ unit_b)
    support: ComplexArray = np.conj(real - ward) / (2 * np.abs(v_b))
    return support


def reduce_network(
    network: Network,
    parts: Partition,
    v_pu: ComplexArray,
    shares: Shares,
    support: ComplexArray | None,
    weak_mva: float,
) -> Equivalent:
    """Build the equivalent.

    Parameters
    ----------
    network : Network
    parts : Partition
    v_pu : (bus,) complex
        Solved base point: the residual makes the equivalent exact there.
    shares : Shares
    support : (boundary,) complex, optional
        Shunts of `support_shunts`; None for a plain Ward equivalent.
    weak_mva : float
        Equivalent branches with a smaller series admittance (at 1 p.u. voltage) are dropped. A dropped branch
        never enters the shunts, so row sums of the admittance matrix are those of the full equivalent.
    """
    matrix = network.admittance_matrix()
    added = schur_complement(matrix, parts)
    branches = equivalent_branches(added, parts, v_pu)
    cut = _cut_admittance(network, parts)
    shunt = cut.copy()
    shunt[parts.boundary] += np.diag(added)
    for end in (branches.from_kept, branches.to_kept):
        np.subtract.at(shunt, end, branches.y_pu)
    if support is not None:
        shunt[parts.boundary] += support
    strong = np.abs(branches.y_pu) * network.base_mva >= weak_mva
    series = 1.0 / branches.y_pu[strong]
    residual = _residual(matrix, parts, v_pu, shares, shunt - cut, branches, strong)
    keep = np.zeros(network.n_bus, dtype=np.bool_)
    keep[parts.kept] = True
    inside = keep[network.from_bus] & keep[network.to_bus]
    return Equivalent(
        kept_bus=parts.kept,
        kept_branch=np.flatnonzero(inside),
        g_shunt_pu=shunt.real.copy(),
        b_shunt_pu=shunt.imag.copy(),
        residual_p_mw=residual.real * network.base_mva,
        residual_q_mvar=residual.imag * network.base_mva,
        from_bus=parts.kept[branches.from_kept[strong]],
        to_bus=parts.kept[branches.to_kept[strong]],
        r_pu=series.real.copy(),
        x_pu=series.imag.copy(),
        ratio=np.ones(series.size),
        shift_rad=branches.shift_rad[strong],
        share_from=shares.source,
        share_to=shares.target,
        share_weight=shares.weight,
        pruned=int((~strong).sum()),
    )


def _cut_admittance(network: Network, parts: Partition) -> ComplexArray:
    """Return what branches into the eliminated part contribute to the diagonal at kept buses, (kept,)."""
    keep = np.zeros(network.n_bus, dtype=np.bool_)
    keep[parts.kept] = True
    yff, _, _, ytt = network.branch_admittances()
    f, t = network.from_bus, network.to_bus
    leaving, entering = keep[f] & ~keep[t], keep[t] & ~keep[f]
    total = np.zeros(network.n_bus, dtype=np.complex128)
    np.add.at(total, f[leaving], yff[leaving])
    np.add.at(total, t[entering], ytt[entering])
    return total[parts.kept]


def _residual(
    matrix: sp.csr_matrix,
    parts: Partition,
    v_pu: ComplexArray,
    shares: Shares,
    shunt: ComplexArray,
    branches: _Branches,
    strong: BoolArray,
) -> ComplexArray:
    """Return what the kept buses must be given besides their own and the moved injections, (kept,) in p.u."""
    injection = v_pu * np.conj(matrix @ v_pu)
    v = v_pu[parts.kept]
    f, t, y = branches.from_kept[strong], branches.to_kept[strong], branches.y_pu[strong]
    turn = np.exp(1j * branches.shift_rad[strong])
    current = matrix[parts.kept][:, parts.kept] @ v + shunt * v
    np.add.at(current, f, y * (v[f] - turn * v[t]))
    np.add.at(current, t, y * (v[t] - v[f] / turn))
    moved = np.zeros(parts.kept.size, dtype=np.complex128)
    target = np.searchsorted(parts.kept, shares.target)
    np.add.at(moved, target, shares.weight * injection[shares.source])
    residual = np.zeros(parts.kept.size, dtype=np.complex128)
    needed = v * np.conj(current) - injection[parts.kept] - moved
    residual[parts.boundary] = needed[parts.boundary]
    return residual
