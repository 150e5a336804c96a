import dataclasses
import io
import math

import numpy as np
import pytest
from rich.console import Console

from bos_core.report import tables
from bos_core.report import violations as still
from bos_core.report.collection_tasks import STAGES
from bos_core.report.data import Table6Row

ROWS = (
    Table6Row("Unit commitment", 377, 377, 0.5, 94.25, 0.02, 0.5),
    Table6Row("N-1 verification", 365, 6_175_800, 10e-6, 30.0, 0.10, 0.25),
)


def text(table, width=200):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_speed_up_is_the_papers_definition():
    assert ROWS[0].serial_s == pytest.approx(188.5)
    assert ROWS[0].speed_up == pytest.approx(2.0)
    assert ROWS[1].speed_up == pytest.approx(61.758 / 30)


def test_missing_times_give_no_figures_and_no_error():
    row = Table6Row("Adjustment", 3, 10)
    assert (row.serial_s, row.speed_up) == (None, None)
    cells = tables.table6_cells((row, ROWS[0]))
    assert cells.rows[0][3:] == (tables.NONE,) * 6
    assert cells.total[4:] == (*(tables.NONE,) * 4, "0.50\u202fGiB")


def test_total_is_the_ratio_of_sums():
    total = tables.table6_cells(ROWS).total
    assert total[1:3] == ("742", "6\u202f176\u202f177")
    serial, wall = 188.5 + 61.758, 124.25
    assert total[6] == f"{serial / wall:.2f}"
    assert total[7].startswith(f"{100 * (0.02 * 188.5 + 0.1 * 61.758) / serial:.1f}")


def test_memory_of_a_run_is_that_of_its_highest_stage():
    assert tables.table6_cells(ROWS).total[8] == "0.50\u202fGiB"
    assert "0.50\u202fGiB" in text(tables.table6(ROWS), 80)


def test_table_6_of_a_year_fits_80_columns_and_says_that_serial_time_is_an_estimate():
    stages = [dataclasses.replace(ROWS[1], stage=name, wall_s=3e4) for name in STAGES.values()]
    shown = text(tables.table6(stages), 80)
    assert all(len(row) <= 80 for row in shown.splitlines())
    for word in (
        "Stage",
        "Subtasks",
        "Speed*",
        "Reactive dispatch",
        "6\u202f175\u202f800",
        "10.0\u202fµs",
        "Total",
    ):
        assert word in shown
    assert "* estimate" in shown
    assert "…" not in shown
    assert "No serial run was measured" in tables.TABLE6_NOTE


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


def remaining(hours=3):
    """Overloads of one line after two outages, one bus once, and one outage without a solution."""
    count = 2 * hours
    known = np.array(["EHV Line 7", "EHV Line 12", "EHV Line 13", "EHV Bus 4", still.BASE_CASE])
    rising = np.arange(count) / count / 10
    parts = [
        {
            "hour": np.repeat(np.arange(hours), 2),
            "outage": still.names(known, np.tile([1, 2], hours)),
            "element": still.names(known, np.zeros(count, int)),
            "kind": still.repeated(still.OVERLOAD, count),
            "value": 1.1 + rising,
            "limit": np.ones(count),
            "relaxation": 0.1 + rising,
            "shed_mw": 100 * (0.1 + rising),
        },
        {
            "hour": np.array([1]),
            "outage": still.repeated(still.BASE_CASE, 1),
            "element": still.names(known, np.array([3])),
            "kind": still.repeated(still.UNDERVOLTAGE, 1),
            "value": np.array([0.893]),
            "limit": np.array([0.9]),
            "relaxation": np.array([0.007]),
        },
        {
            "hour": np.array([2]),
            "outage": still.names(known, np.array([2])),
            "element": still.repeated("", 1),
            "kind": still.repeated(still.DIVERGENCE, 1),
        },
    ]
    return still.table(parts)


def test_violations_come_worst_first_with_the_unit_of_their_kind():
    cells = tables.violation_cells(remaining()).rows
    assert [row[3] for row in cells] == ["diverged", *["overload"] * 6, "undervoltage"]
    assert cells[0][4:] == (tables.NONE,) * 4
    assert cells[1] == (
        *("2", "EHV Line 13", "EHV Line 7", "overload"),
        *("118.3\u202f%", "100.0\u202f%", "18.3\u202fpoints", "18.3\u202fMW"),
    )
    assert cells[-1][1] == "base case"
    assert cells[-1][4:] == ("0.8930\u202fp.u.", "0.9000\u202fp.u.", "0.0070\u202fp.u.", tables.NONE)
    assert len(tables.violation_cells(remaining(), 3).rows) == 3


def test_violations_are_grouped_by_element():
    diverged, line, bus = still.by_element(remaining())
    assert (diverged.kind, diverged.element, diverged.outages) == ("diverged", "", 1)
    assert (line.element, line.rows, line.hours, line.outages) == ("EHV Line 7", 6, 3, 2)
    assert (line.worst_outage, line.worst_hour) == ("EHV Line 13", 2)
    assert line.value == pytest.approx(1.1 + 0.5 / 6)
    assert line.relaxation == pytest.approx(0.1 + 0.5 / 6)
    assert line.shed_mw == pytest.approx(10 + 50 / 6)
    assert (bus.worst_outage, bus.outages, bus.hours) == ("base case", 0, 1)
    assert np.isnan(bus.shed_mw)
    assert still.by_element(still.table([])) == ()


def test_a_bus_and_a_branch_of_one_name_and_branches_of_one_name_do_not_break_the_groups():
    twice = np.array(["A", "A"])
    part = {
        "hour": np.array([0, 0]),
        "outage": still.repeated("B", 2),
        "element": still.names(twice, np.array([0, 1])),
        "kind": still.repeated(still.OVERLOAD, 2),
        "value": np.array([1.2, 1.3]),
        "limit": np.ones(2),
    }
    low = {**part, "kind": still.repeated(still.UNDERVOLTAGE, 2), "value": np.array([0.8, 0.7])}
    assert [(g.kind, g.rows) for g in still.by_element(still.table([part, low]))] == [
        ("undervoltage", 2),
        ("overload", 2),
    ]


def test_the_terminal_shows_the_worst_elements_in_80_columns_and_where_the_rest_is():
    shown = text(tables.violations(remaining(), adjusted=True, most=2), 80)
    assert all(len(row) <= 80 for row in shown.splitlines())
    assert "EHV Line 7" in shown
    assert "EHV Bus 4" not in shown
    assert "8 violations of 3 elements in 3 hours; 1 elements are not shown." in shown
    assert "run.violations()" in shown
    assert "…" not in shown
    assert "Still violated after adjustment" in shown
    assert "Nothing is violated any more" in text(tables.violations(still.table([]), adjusted=True))


def test_hours_that_nobody_adjusted_are_not_called_adjusted():
    assert "Violated, not adjusted" in text(tables.violations(remaining(), adjusted=False), 80)
    assert "any more" not in text(tables.violations(still.table([]), adjusted=False))


def test_an_amount_above_zero_is_never_shown_as_zero():
    tiny = remaining().slice(1, 1).set_column(6, still.SCHEMA.field("relaxation"), [[2e-4]])
    assert tables.violation_cells(tiny).rows[0][6] == "< 0.1\u202fpoints"
