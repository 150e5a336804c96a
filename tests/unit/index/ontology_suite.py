"""The ontology in SQL, on whatever database `engine` is; shared with tests/integration."""

from __future__ import annotations

import threading

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from bos_core.access.digest import table_digest
from bos_core.index.database import reading
from bos_core.index.ontology_index import OntologyIndex
from bos_core.index.ontology_tables import CONTENT, ONTOLOGY
from bos_core.objects.errors import NotFoundError
from bos_core.objects.ontology import TABLES

HOSTILE = "x'); DROP TABLE t_region; -- \\N\t\"\n"


def lines(count: int = 3) -> pa.Table:
    values = {c.name: [0.5] * count for c in TABLES["line"].columns if c.type == pa.float64() and not c.nullable}
    ids = {"id": [f"l{k:04d}" for k in range(count)], "from_bus": ["a"] * count, "to_bus": ["b"] * count}
    return TABLES["line"].build({**ids, **values, "i_max_ka": [None if k % 2 else 0.1 * k for k in range(count)]})


def regions(names: list[str]) -> pa.Table:
    return TABLES["region"].build(
        {"id": [f"r{k}" for k in range(len(names))], "name": names, "system": ["s"] * len(names)}
    )


def test_rows_come_back_as_they_were(engine: Engine) -> None:
    index, table = OntologyIndex(engine), lines(1200)
    digest = table_digest(table)
    assert index.put("line", digest, table)
    assert table_digest(index.rows("line", digest)) == digest


def test_a_content_is_stored_once(engine: Engine) -> None:
    index, table = OntologyIndex(engine), lines()
    assert [index.put("line", "d1", table) for _ in range(2)] == [True, False]
    assert index.put("line", "d2", lines(2))
    assert index.contents() == {"d1", "d2"}
    assert (index.rows("line", "d1").num_rows, index.rows("line", "d2").num_rows) == (3, 2)


def test_a_content_may_be_empty(engine: Engine) -> None:
    index = OntologyIndex(engine)
    assert index.put("line", "d", lines(0))
    assert index.rows("line", "d").num_rows == 0
    assert index.contents() == {"d"}


def test_of_many_writers_one_stores(engine: Engine) -> None:
    index, stored = OntologyIndex(engine), []

    def work() -> None:
        stored.append(index.put("line", "d", lines(500)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(stored) == [False, False, False, True]
    assert index.rows("line", "d").num_rows == 500


def test_some_rows_and_columns(engine: Engine) -> None:
    index = OntologyIndex(engine)
    index.put("line", "d", lines(1200))
    wanted = [f"l{k:04d}" for k in range(0, 1200, 2)]
    found = index.rows("line", "d", [*wanted, "nobody"], ["id", "i_max_ka"])
    assert found["id"].to_pylist() == wanted
    assert found.schema.field("i_max_ka").metadata[b"unit"] == b"kA"
    assert index.rows("line", "d", []).num_rows == 0


def test_what_is_not_there_is_named(engine: Engine) -> None:
    index = OntologyIndex(engine)
    index.put("line", "d", lines())
    with pytest.raises(NotFoundError, match="no rows of line with digest other"):
        index.rows("line", "other")
    with pytest.raises(NotFoundError, match="no column colour; it has id"):
        index.rows("line", "d", columns=["colour"])


def test_texts_are_values_and_never_statements(engine: Engine) -> None:
    index, table = OntologyIndex(engine), regions(["Nord", HOSTILE, "", "Süd-Öst 東"])
    index.put("region", "d", table)
    assert index.rows("region", "d")["name"].to_pylist() == ["Nord", HOSTILE, "", "Süd-Öst 東"]
    assert index.rows("region", "d", [HOSTILE]).num_rows == 0
    index.put("region", HOSTILE, regions([HOSTILE]))
    assert index.rows("region", HOSTILE)["name"].to_pylist() == [HOSTILE]


def test_dropping_a_content_takes_its_rows_only(engine: Engine) -> None:
    index = OntologyIndex(engine)
    for digest in ("d1", "d2"):
        index.put("line", digest, lines())
    index.drop(["d1", "unknown"])
    assert index.contents() == {"d2"}
    with reading(engine) as connection:
        counts = [
            connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in (CONTENT, ONTOLOGY["line"])
        ]
    assert counts == [1, 3]


def test_rows_that_break_the_table_leave_nothing(engine: Engine) -> None:
    index, table = OntologyIndex(engine), lines()
    twice = pa.concat_tables([table, table.slice(0, 1)])
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
        index.put("line", "d", twice)
    assert index.contents() == frozenset()
