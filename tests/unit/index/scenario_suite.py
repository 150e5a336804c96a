"""What the scenario and program index must keep on every database. Fixture: `engine`."""

from __future__ import annotations

import threading

import pytest
from ledger_suite import registered
from sqlalchemy.engine import Engine

from bos_core.index.ledger import Ledger
from bos_core.index.programs import ProgramIndex
from bos_core.index.scenarios import Chunk, ScenarioIndex, content_digest
from bos_core.objects.contracts import ProgramManifest, ProgramParameters
from bos_core.objects.errors import ConflictError, NotFoundError, OptionError


@pytest.fixture
def scenarios(engine: Engine) -> ScenarioIndex:
    return ScenarioIndex(engine, "ada", "grid-2030")


def chunk(key: str, digest: str = "d") -> Chunk:
    return Chunk(key, digest, 3, 100, {"first_hour": 0})


def test_a_scenario_is_made_once(scenarios: ScenarioIndex) -> None:
    first = scenarios.create("base", "SimBench")
    assert scenarios.create("base", "other") == first
    assert (first.owner, first.project, first.description, first.versions) == ("ada", "grid-2030", "SimBench", 0)
    assert [s.name for s in scenarios.scenarios()] == ["base"]


@pytest.mark.parametrize("name", ["", "a@1", " a", "6b0d9c0e-3f8a-5f5e-9a52-9d6f2b0f7c11", "x" * 201])
def test_names_that_look_like_versions_are_refused(scenarios: ScenarioIndex, name: str) -> None:
    with pytest.raises(OptionError, match="no scenario name"):
        scenarios.create(name)


def test_versions_are_found_by_every_reference(scenarios: ScenarioIndex) -> None:
    scenarios.create("base")
    one = scenarios.add_version("base", [chunk("table/bus")], message="import")
    two = scenarios.add_version("base", [chunk("table/bus", "e")], parent=one.id)
    assert (one.number, two.number, two.label) == (1, 2, "base@2")
    for reference, wanted in (
        ("base", two), ("base@1", one), ("base@2", two), (one.id, one), (two.id[:8], two)
    ):  # fmt: skip
        assert scenarios.get(reference) == wanted
    for reference in ("base@3", "base@x", "other", "", "@1", one.id[:5], "%%%%%%%%"):
        with pytest.raises(NotFoundError, match="no scenario version"):
            scenarios.get(reference)
    assert [v.id for v in scenarios.chain(two.id)] == [two.id, one.id]
    assert [v.id for v in scenarios.versions("base")] == [one.id, two.id]


def test_equal_content_has_an_equal_digest_in_any_order(scenarios: ScenarioIndex) -> None:
    a, b = chunk("table/a", "1"), chunk("table/b", "2")
    assert content_digest([a, b]) == content_digest([b, a])
    assert content_digest([a]) != content_digest([b])
    assert content_digest([chunk("table/a", "2"), chunk("table/b", "1")]) != content_digest([a, b])
    for name in ("x", "y"):
        scenarios.create(name)
    assert scenarios.add_version("x", [a, b]).digest == scenarios.add_version("y", [b, a]).digest


def test_a_step_that_runs_again_finds_its_own_version(scenarios: ScenarioIndex, engine: Engine) -> None:
    (task,) = registered(Ledger(engine))
    scenarios.create("base")
    values = {"made_by_task": task, "trace_id": "t", "step": "unit_commitment"}
    first = scenarios.add_version("base", [chunk("table/bus")], **values)
    assert scenarios.add_version("base", [chunk("table/bus")], **values) == first
    assert scenarios.add_version("base", [chunk("table/bus", "new")], **values).number == 2
    assert [v.number for v in scenarios.versions(trace_id="t")] == [1, 2]


def test_origins_must_exist(scenarios: ScenarioIndex) -> None:
    with pytest.raises(NotFoundError, match="create it first"):
        scenarios.add_version("nowhere", [])
    scenarios.create("base")
    for wrong in ({"parent": "nobody"}, {"made_by_task": "nobody"}):
        with pytest.raises(NotFoundError, match="unknown"):
            scenarios.add_version("base", [], **wrong)
    assert scenarios.create("base").versions == 0


def test_numbers_are_dense_under_concurrency(scenarios: ScenarioIndex) -> None:
    scenarios.create("base")
    threads = [
        threading.Thread(target=scenarios.add_version, args=("base", [chunk("table/bus", str(k))]))
        for k in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [v.number for v in scenarios.versions("base")] == list(range(1, 9))


def test_chunks_come_back_as_they_were_given(scenarios: ScenarioIndex) -> None:
    scenarios.create("base")
    given = [chunk("table/bus", "1"), chunk("series/load.p_mw/by_hour", "2")]
    version = scenarios.add_version("base", given)
    assert list(scenarios.chunks(version.id).values()) == sorted(given, key=lambda c: c.key)
    assert scenarios.referenced_digests() == {"1", "2"}
    assert scenarios.chunks("nobody") == {}


class Parameters(ProgramParameters):
    """Parameters of a program."""

    gap: float = 0.01
    """Relative gap."""


def test_programs_are_recorded_by_digest(engine: Engine) -> None:
    programs = ProgramIndex(engine)
    manifest = ProgramManifest(
        "highs_uc", "unit_commitment", "1.0", "HiGHS", "MILP", Parameters, elements=("unit",)
    )
    first = programs.record(manifest, "d1")
    assert first.parameters["properties"]["gap"]["description"] == "Relative gap."
    assert list(first.elements) == ["unit"]
    again = programs.record(ProgramManifest("highs_uc", "unit_commitment", "1.0", "New title", ""), "d1")
    assert (again.title, again.created_s) == ("New title", first.created_s)
    programs.record(manifest, "d2")
    assert [p.digest for p in programs.list("unit_commitment")] == ["d2", "d1"]
    assert programs.get("unit_commitment", "highs_uc").digest == "d2"
    assert programs.get("unit_commitment", "highs_uc", "d1").title == "New title"
    with pytest.raises(NotFoundError, match="known: highs_uc"):
        programs.get("unit_commitment", "nothing")


def test_a_bare_name_means_what_the_user_put_in_not_what_a_run_made(scenarios: ScenarioIndex) -> None:
    scenarios.create("mine")
    given = scenarios.add_version("mine", [], message="imported")
    made = scenarios.add_version("mine", [], parent=given.id, message="planned", trace_id="t", step="snapshot")
    assert scenarios.get("mine").id == given.id
    assert scenarios.get(made.label).id == made.id


def test_a_version_names_its_author(scenarios: ScenarioIndex) -> None:
    scenarios.create("base")
    assert scenarios.add_version("base", []).author == "ada"


def test_a_branch_has_the_content_of_its_source(scenarios: ScenarioIndex) -> None:
    scenarios.create("base")
    source = scenarios.add_version("base", [chunk("table/bus"), chunk("edit/load.p_mw/03", "e")])
    made = scenarios.branch(source, "what if", "a question")
    assert (made.label, made.parent, made.digest, made.step) == ("what if@1", source.id, source.digest, "branch")
    assert (made.message, made.author, made.parents) == ("a question", "ada", (source.id,))
    assert scenarios.chunks(made.id) == scenarios.chunks(source.id)
    assert scenarios.branch(source, "what if", "a question") == made
    assert scenarios.get("what if") == made


def test_a_branch_does_not_take_a_name_that_is_in_use(scenarios: ScenarioIndex) -> None:
    scenarios.create("base")
    source = scenarios.add_version("base", [chunk("table/bus")])
    with pytest.raises(ConflictError, match="already, at base@1; choose another name"):
        scenarios.branch(source, "base")
    made = scenarios.branch(source, "other")
    scenarios.add_version("other", [chunk("table/bus", "e")], parent=made.id)
    with pytest.raises(ConflictError, match="already, at other@2"):
        scenarios.branch(source, "other")
    assert [v.number for v in scenarios.versions("other")] == [1, 2]
    with pytest.raises(OptionError, match="no scenario name"):
        scenarios.branch(source, "a@b")


def test_what_a_run_made_of_a_branch_does_not_stop_it_from_being_found_again(scenarios: ScenarioIndex) -> None:
    scenarios.create("base")
    source = scenarios.add_version("base", [chunk("table/bus")])
    made = scenarios.branch(source, "other")
    scenarios.add_version("other", [chunk("table/bus", "e")], parent=made.id, trace_id="t", step="snapshot")
    assert scenarios.branch(source, "other") == made


def test_who_comes_second_is_told(scenarios: ScenarioIndex) -> None:
    scenarios.create("base")
    one = scenarios.add_version("base", [chunk("table/bus")], head="")
    two = scenarios.add_version("base", [chunk("table/bus", "e")], parent=one.id, head=one.id)
    with pytest.raises(ConflictError, match="has gone on to base@2; do it again from there"):
        scenarios.add_version("base", [chunk("table/bus", "f")], parent=one.id, head=one.id)
    assert scenarios.add_version("base", [chunk("table/bus", "e")], parent=one.id, head=one.id) == two
    assert scenarios.create("base").versions == 2


def test_only_one_of_several_at_once_goes_on_from_a_version(scenarios: ScenarioIndex) -> None:
    scenarios.create("base")
    start = scenarios.add_version("base", [chunk("table/bus")])
    outcomes: list[str] = []

    def go(k: int) -> None:
        try:
            made = scenarios.add_version("base", [chunk("table/bus", str(k))], parent=start.id, head=start.id)
            outcomes.append(made.label)
        except ConflictError:
            outcomes.append("late")

    threads = [threading.Thread(target=go, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["base@2", *["late"] * 5]


def lineage(scenarios: ScenarioIndex, parents: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """Commit versions with these parents, a scenario each, and return their ids by name."""
    made: dict[str, str] = {}
    for name, of in parents.items():
        scenarios.create(name)
        ids = [made[parent] for parent in of]
        version = scenarios.add_version(
            name, [chunk("table/bus", name)], parent=next(iter(ids), None), merged=ids[1] if len(ids) > 1 else None
        )
        made[name] = version.id
    return made


@pytest.mark.parametrize(
    ("one", "other", "nearest"),
    [
        ("b", "c", "a"), ("b", "b", "b"), ("a", "c", "a"), ("m", "c", "c"), ("m", "d", "c"), ("m", "e", "b"),
        ("e", "d", "a"), ("x", "m", None), ("n", "o", "p"),
    ],
)  # fmt: skip
def test_the_nearest_common_ancestor(scenarios: ScenarioIndex, one: str, other: str, nearest: str | None) -> None:
    made = lineage(
        scenarios,
        {
            "a": (), "b": ("a",), "c": ("a",), "m": ("b", "c"), "d": ("c",), "e": ("b",), "x": (),
            "p": ("m",), "n": ("p", "e"), "o": ("p",),
        },
    )  # fmt: skip
    for pair in ((one, other), (other, one)):
        found = scenarios.common_ancestor(*(made[name] for name in pair))
        assert (found and found.scenario_name) == nearest


def test_history_goes_through_both_parents(scenarios: ScenarioIndex) -> None:
    made = lineage(scenarios, {"a": (), "b": ("a",), "c": ("a",), "m": ("b", "c"), "x": ()})
    assert [v.scenario_name for v in scenarios.history(made["m"])] == ["m", "c", "b", "a"]
    assert [v.scenario_name for v in scenarios.chain(made["m"])] == ["m", "b", "a"]


def test_a_merge_is_another_version_than_its_first_parent_alone_would_make(scenarios: ScenarioIndex) -> None:
    made = lineage(scenarios, {"a": (), "b": ("a",)})
    plain = scenarios.add_version("a", [chunk("t")], parent=made["a"])
    merged = scenarios.add_version("a", [chunk("t")], parent=made["a"], merged=made["b"])
    assert plain.id != merged.id
    assert scenarios.add_version("a", [chunk("t")], parent=made["a"], merged=made["b"]) == merged
    assert merged.parents == (made["a"], made["b"])
    with pytest.raises(NotFoundError, match="unknown"):
        scenarios.add_version("a", [chunk("t")], parent=made["a"], merged="nobody")


def test_a_version_adds_what_none_of_its_parents_has(scenarios: ScenarioIndex) -> None:
    scenarios.create("base")
    a, b, c = (Chunk(key, "d", 1, size) for key, size in (("table/a", 10), ("table/b", 200), ("table/c", 3000)))
    one = scenarios.add_version("base", [a])
    two = scenarios.add_version("base", [a, b], parent=one.id)
    three = scenarios.add_version("base", [a, c], parent=one.id)
    merged = scenarios.add_version("base", [Chunk("table/a", "e", 1, 7), b, c], parent=two.id, merged=three.id)
    assert scenarios.delta_bytes() == {one.id: 10, two.id: 200, three.id: 3000, merged.id: 7}
