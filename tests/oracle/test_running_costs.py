"""Running costs after import and assembly are those of the source, from zero output on."""

import warnings

import numpy as np
import pandapower.networks
import pytest

from bos_core.exchange import import_grid, to_columns
from bos_core.grid.assembly import assemble
from bos_core.grid.schedule import production_cost_eur_per_h


def test_chords_meet_the_polynomials_at_both_ends() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        units = assemble(to_columns(import_grid("pandapower:case9").tables))[0].units
    given = pandapower.networks.case9().poly_cost.set_index(["et", "element"])
    polynomials = [given.loc[("gen", k), ["cp2_eur_per_mw2", "cp1_eur_per_mw", "cp0_eur"]] for k in (0, 1)]
    mine = np.array([units.name.tolist().index(f"gen {k}") for k in (0, 1)])
    assert units.committable[mine].all()
    assert (units.p_mw_min[mine] > 0).all()
    for p in (units.p_mw_min, units.p_mw_max):
        cost = production_cost_eur_per_h(units, np.ones((1, units.n), bool), p[None], units.p_mw_max[None])[0]
        wanted = [np.polyval(c, mw) for c, mw in zip(polynomials, p[mine], strict=True)]
        assert cost[mine] == pytest.approx(wanted, rel=1e-9)
