import io
import math

import numpy as np
import pytest
from rich.console import Console

from bos_core.report import tables
from bos_core.report.data import Table6Row, Violation

ROWS = (
    Table6Row("Unit commitment", 377, 377, 0.5, 94.25, 0.02),
    Table6Row("N-1 verification", 365, 6_175_800, 10e-6, 30.0, 0.10),
)


def text(table, width=200):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_speed_up_is_the_papers_definition():
    assert ROWS[0].serial_s == pytest.approx(188.5)
    assert ROWS[0].speed_up == pytest.approx(2.0)
    assert ROWS[1].speed_up == pytest.approx(61.758 / 30)


def test_sampled_speed_up_uses_the_serial_sample():
    row = Table6Row("N-1", 1, 1000, 2e-3, 1.0, 0.0, serial_sample_s=1e-3)
    assert row.speed_up == pytest.approx(2.0)
    assert row.speed_up_sampled == pytest.approx(1.0)


def test_missing_times_give_no_figures_and_no_error():
    row = Table6Row("Adjustment", 3, 10)
    assert (row.serial_s, row.speed_up, row.speed_up_sampled) == (None, None, None)
    cells = tables.table6_cells((row, ROWS[0]))
    assert cells.rows[0][3:] == (tables.NONE,) * 5
    assert cells.total[4:] == (tables.NONE,) * 4


def test_total_is_the_ratio_of_sums():
    total = tables.table6_cells(ROWS).total
    assert total[1:3] == ("742", "6\u202f176\u202f177")
    serial, wall = 188.5 + 61.758, 124.25
    assert total[6] == f"{serial / wall:.2f}"
    assert total[7].startswith(f"{100 * (0.02 * 188.5 + 0.1 * 61.758) / serial:.1f}")


def test_sample_column_appears_only_with_a_sample():
    assert len(tables.table6_cells(ROWS).header) == 8
    with_sample = (*ROWS, Table6Row("x", 1, 1, 1.0, 1.0, 0.0, 0.5))
    assert len(tables.table6_cells(with_sample).header) == 9


def test_rich_table_shows_the_paper_columns():
    shown = text(tables.table6(ROWS))
    for word in ("Stage", "Subtasks", "Speed-up", "6\u202f175\u202f800", "10.0\u202fµs", "Total"):
        assert word in shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0\u202fµs"),
        (9.4e-6, "9.40\u202fµs"),
        (0.0123, "12.3\u202fms"),
        (1.5, "1.50\u202fs"),
        (119.6, "120\u202fs"),
        (600, "10.0\u202fmin"),
        (54_795, "15.2\u202fh"),
        (400_000, "4.63\u202fd"),
        (None, tables.NONE),
        (math.nan, tables.NONE),
    ],
)
def test_duration(seconds, shown):
    assert tables.duration(seconds) == shown


def test_number_has_no_negative_zero():
    assert tables.number(-0.04, 1) == "0.0"
    assert tables.number(-1234.5, 1, "MW") == "-1\u202f234.5\u202fMW"


def test_violations_have_the_unit_of_their_kind():
    rows = (
        Violation(5, "L1", "L2", "overload", 1.07, 1.0, 0.07, 12.0),
        Violation(6, "base case", "B1", "undervoltage", 0.893, 0.9, 0.007),
        Violation(7, "L3", "", "diverged"),
    )
    cells = tables.violation_cells(rows).rows
    assert cells[0][4:] == ("107.0\u202f%", "100.0\u202f%", "7.0\u202fpoints", "12.0\u202fMW")
    assert cells[1][4:] == ("0.8930\u202fp.u.", "0.9000\u202fp.u.", "0.0070\u202fp.u.", tables.NONE)
    assert cells[2][4:] == (tables.NONE,) * 4


def test_violations_say_what_is_left_out():
    rows = [Violation(h, "L", "M", "overload", 1.1, 1.0) for h in range(60)]
    shown = text(tables.violations(rows))
    assert "10 more are not shown" in shown
    assert "Nothing is violated" in text(tables.violations([]))
    assert np.isnan(rows[0].relaxation)
