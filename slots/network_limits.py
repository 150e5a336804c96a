"""Branch limits generated when they are violated: rows of the PTDF matrix with priced slacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bos_core.grid.dc import phase_shift_flow, ptdf
from bos_core.grid.model import BoolArray, FloatArray, IntArray, Network
from slots.linear_model import INF, LinearModel


@dataclass(frozen=True, eq=False)
class PointInjection:
    """Columns that inject at one bus each: factor x column MW.

    Attributes
    ----------
    columns : (period, device)
    bus : (device,)
    factor : (device,) or (period, device)
    """

    columns: IntArray
    bus: IntArray
    factor: FloatArray


@dataclass(frozen=True, eq=False)
class SpreadInjection:
    """One column a period, (period,), injected at all buses by shares (period, bus)."""

    columns: IntArray
    share: FloatArray


def recentred_ptdf(network: Network) -> FloatArray:
    """Return the PTDF with each row shifted so that most of its entries are small, (branch, bus).

    Flows of balanced injections do not change, but the rows of a model hold fewer relevant entries.
    """
    factors = ptdf(network)
    return np.asarray(factors - np.median(factors, axis=1, keepdims=True))


class NetworkLimits:
    """Limits of a model's branch flows, generated lazily.

    Parameters
    ----------
    model : LinearModel
    network : Network
    limit_mw : (branch,)
        inf = none.
    fixed_mw : (period, bus)
        Injections that no column describes.
    points, spreads
        All injections by columns; the model must hold their balance as a row of every period.
    overload_eur_per_mw : float
        Price of the slack for a whole period.
    factors : (branch, bus)
        From `recentred_ptdf`.
    """

    def __init__(
        self,
        model: LinearModel,
        network: Network,
        limit_mw: FloatArray,
        fixed_mw: FloatArray,
        points: Sequence[PointInjection],
        spreads: Sequence[SpreadInjection],
        overload_eur_per_mw: float,
        factors: FloatArray | None = None,
    ) -> None:
        self.model = model
        self.limit_mw = limit_mw
        self.factors = recentred_ptdf(network) if factors is None else factors
        n_period = fixed_mw.shape[0]
        self._fixed_mw = fixed_mw
        self._columns = np.concatenate([p.columns for p in points], axis=1)
        self._bus = np.concatenate([p.bus for p in points])
        self._factor = np.concatenate(
            [np.broadcast_to(p.factor, (n_period, p.bus.size)) for p in points], axis=1
        ).astype(float)
        self._spreads = tuple(spreads)
        self._spread_factors = [s.share @ self.factors.T for s in spreads]
        self._shift_mw = phase_shift_flow(network)
        self._fixed_flow = fixed_mw @ self.factors.T + self._shift_mw
        self._price = overload_eur_per_mw
        self.generated: BoolArray = np.zeros((n_period, limit_mw.size), bool)
        self._buses = np.unique(self._bus)
        self._bus_columns = np.full((n_period, self._buses.size), -1)
        self._rows: list[tuple[IntArray, IntArray, IntArray]] = []
        self._slacks: list[tuple[IntArray, IntArray, IntArray]] = []

    def injection_mw(self, x: FloatArray) -> FloatArray:
        """Return bus injections of a solution, (period, bus)."""
        injection = self._fixed_mw.copy()
        values = x[self._columns] * self._factor
        for t in range(injection.shape[0]):
            injection[t] += np.bincount(self._bus, values[t], minlength=injection.shape[1])
        for spread in self._spreads:
            injection += spread.share * x[spread.columns][:, None]
        return injection

    def flow_mw(self, x: FloatArray) -> FloatArray:
        """Return branch flows of a solution, (period, branch)."""
        return np.asarray(self.injection_mw(x) @ self.factors.T + self._shift_mw)

    def excess_mw(self, x: FloatArray) -> FloatArray:
        """Return how far flows pass their limits, (period, branch), whether priced or not."""
        return np.asarray(np.maximum(np.abs(self.flow_mw(x)) - self.limit_mw, 0.0))

    def violated(
        self, x: FloatArray, tolerance_mw: float, per_period_max: int, relative: float = 0.0
    ) -> tuple[IntArray, IntArray]:
        """Return (period, branch) of limits without a row that the solution breaks, the worst of each period."""
        excess = self.excess_mw(x)
        excess[self.generated] = 0.0
        over = excess > np.maximum(tolerance_mw, relative * np.minimum(self.limit_mw, 1e9))
        rank = np.argsort(np.argsort(-excess, axis=1, kind="stable"), axis=1, kind="stable")
        return np.nonzero(over & (rank < per_period_max))

    def add(self, period: IntArray, branch: IntArray) -> None:
        """Add the rows ``-limit <= flow - over + under <= limit`` of some (period, branch)."""
        if not period.size:
            return
        slack = self.model.add_columns((period.size, 2), 0.0, INF, self._price)
        self._add_bus_columns(np.unique(period))
        coefficient = self.factors[np.ix_(branch, self._buses)]
        coefficient[np.abs(coefficient) < 1e-9] = 0.0
        terms = [(self._bus_columns[period], coefficient), (slack, np.array([[-1.0, 1.0]]))]
        terms += [
            (s.columns[period], factor[period, branch])
            for s, factor in zip(self._spreads, self._spread_factors, strict=True)
        ]
        limit, fixed = self.limit_mw[branch], self._fixed_flow[period, branch]
        rows = self.model.add_rows(terms, -limit - fixed, limit - fixed, (period.size,))
        self.generated[period, branch] = True
        self._rows.append((period, branch, rows))
        self._slacks.append((period, branch, slack))

    def _add_bus_columns(self, period: IntArray) -> None:
        """Add a column for the injection at each bus with devices: rows of limits stay short that way."""
        new = period[self._bus_columns[period, 0] < 0]
        if not new.size:
            return
        columns = self.model.add_columns((new.size, self._buses.size), -INF, INF)
        self._bus_columns[new] = columns
        rows = self.model.add_rows([(columns, -1.0)], 0.0, 0.0, columns.shape)
        place = rows[:, np.searchsorted(self._buses, self._bus)]
        self.model.add_entries(place, self._columns[new], self._factor[new])

    def congestion_eur_per_mwh(self, row_dual: FloatArray, period_h: int) -> FloatArray:
        """Return the network part of the price at each bus, (period, bus), from the duals of the rows.

        Limits that were generated after the solution have no price in it.
        """
        price = np.zeros((self.generated.shape[0], self.factors.shape[1]))
        for period, branch, rows in self._rows:
            if rows[-1] < row_dual.size:
                np.add.at(price, period, row_dual[rows][:, None] * self.factors[branch])
        return price / period_h

    def priced_overload_mw(self, x: FloatArray) -> FloatArray:
        """Return the slack that the model paid for, (period, branch)."""
        paid = np.zeros(self.generated.shape)
        for period, branch, slack in self._slacks:
            paid[period, branch] = x[slack].sum(1)
        return paid

    @property
    def n_generated(self) -> int:
        """Number of limits in the model."""
        return int(self.generated.sum())
