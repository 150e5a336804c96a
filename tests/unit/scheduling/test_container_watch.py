"""The watch: observations in, changes of the index out, at times that the test sets."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from bos_core.objects.container import (
    ENDED,
    EXECUTOR,
    Changes,
    Container,
    Sample,
    Server,
    ServerKind,
    ServerState,
    ServiceInstance,
)
from bos_core.scheduling.container_watch import (
    NOT_WATCHED,
    UNSEEN,
    ContainerWatch,
    Gone,
    Looked,
    Lost,
    Measured,
    Reading,
    Seen,
)

URL = "unix:///d"
SERVER = Server("s", "vm", ServerKind.DOCKER, URL, cpu_cores=2.0, memory_mb=8_000)
A = Container("a", "s", "a", instances=(ServiceInstance(EXECUTOR, "a"),), memory_mb=500)
B = Container("b", "s", "b")


def watched(*containers: Container, server: Server = SERVER) -> ContainerWatch:
    watch = ContainerWatch("m")
    watch.see(Looked(server, containers, 1.0))
    return watch


def measured(at_s: int, machine: Reading | None = None, **readings: Reading) -> Measured:
    return Measured("s", at_s, readings, machine)


def test_what_is_first_seen_is_new_and_then_nothing_is() -> None:
    watch = ContainerWatch("m")
    changes = watch.see(Looked(SERVER, (A, B), 1.0))
    assert changes == Changes((replace(SERVER, monitor="m", seen_s=1.0),), (A, B))
    assert not watch.see(Looked(SERVER, (A, B), 2.0))
    assert not watch.see(Seen(A, 3.0))
    assert watch.live == (A, B)


def test_a_change_is_told_whole() -> None:
    watch = watched(A)
    assert watch.see(Seen(replace(A, memory_mb=900), 2.0)).containers == (replace(A, memory_mb=900),)
    assert watch.see(Looked(replace(SERVER, memory_mb=9_000), (A,), 3.0)) == Changes(
        (replace(SERVER, memory_mb=9_000, monitor="m", seen_s=3.0),), (A,)
    )


def test_a_container_ends_once_whatever_is_seen_of_it_and_in_any_order() -> None:
    ended = replace(A, state="exited", ended_s=5.0, message="exit code 0")
    ways = (Seen(ended, 6.0), Gone("a", 6.0, "removed"), Looked(SERVER, (), 6.0), Looked(SERVER, (ended,), 6.0))
    for order in permutations(ways):
        watch = watched(A)
        told = [change for way in order for change in watch.see(way).containers]
        assert [(c.id, c.state) for c in told] == [("a", ENDED)]
        assert watch.live == ()


@pytest.mark.parametrize(
    ("way", "message", "ended_s"),
    [
        (Seen(replace(A, state="removing"), 6.0), "", 6.0),
        (Seen(replace(A, state="dead", ended_s=5.5, message="exit code 1"), 6.0), "exit code 1", 5.5),
        (Gone("a", 6.0, "removed"), "removed", 6.0),
        (Looked(SERVER, (B,), 6.0), UNSEEN, 6.0),
    ],
)
def test_how_and_when_it_ended_is_kept(way: Seen | Gone | Looked, message: str, ended_s: float) -> None:
    (told,) = [c for c in watched(A).see(way).containers if c.id == "a"]
    assert (told.state, told.message, told.ended_s) == (ENDED, message, ended_s)


def test_what_had_ended_before_is_no_news() -> None:
    assert watched(replace(A, state="exited")).live == ()
    assert not watched().see(Gone("stranger", 2.0, ""))


def test_a_lost_server_keeps_its_containers_and_comes_back() -> None:
    watch = watched(A)
    (lost,) = watch.see(Lost(URL, 2.0, "connection refused")).servers
    assert (lost.id, lost.state, lost.message, lost.seen_s) == ("s", ServerState.LOST, "connection refused", 2.0)
    assert not watch.see(Lost(URL, 3.0, "connection refused"))
    assert watch.live == (A,)
    back = watch.see(Looked(SERVER, (), 4.0))
    assert back.servers[0].state is ServerState.UP
    assert [c.message for c in back.containers] == [UNSEEN]


def test_a_server_that_was_never_reached_has_its_address_for_an_id_until_it_is() -> None:
    watch = ContainerWatch("m")
    (lost,) = watch.see(Lost(URL, 1.0, "no such file", "one")).servers
    assert (lost.id, lost.name, lost.address, lost.state) == (URL, "one", URL, ServerState.LOST)
    told = {s.id: s.state for s in watch.see(Looked(SERVER, (), 2.0)).servers}
    assert told == {URL: ServerState.REMOVED, "s": ServerState.UP}


def test_another_daemon_at_the_same_address_replaces_the_one_before() -> None:
    watch = watched(A)
    changes = watch.see(Looked(replace(SERVER, id="t"), (replace(B, server="t"),), 2.0))
    assert {s.id: s.state for s in changes.servers} == {"s": ServerState.REMOVED, "t": ServerState.UP}
    assert [(c.id, c.message) for c in changes.containers] == [("a", NOT_WATCHED), ("b", "")]


def test_servers_that_are_named_no_more_are_given_up() -> None:
    other = Server("t", "t", ServerKind.DOCKER, "unix:///t")
    watch = ContainerWatch("m", Changes((SERVER, other), (A, replace(B, server="t"))))
    changes = watch.keep_only([URL], 9.0)
    assert [(s.id, s.state) for s in changes.servers] == [("t", ServerState.REMOVED)]
    assert [(c.id, c.ended_s, c.message) for c in changes.containers] == [("b", 9.0, NOT_WATCHED)]
    assert not watch.keep_only([URL], 10.0)


def test_what_the_index_held_and_is_not_there_any_more_ends() -> None:
    watch = ContainerWatch("m", Changes((SERVER,), (A, B)))
    assert [c.id for c in watch.see(Looked(SERVER, (B,), 2.0)).containers] == ["a"]


def test_counters_become_use_over_the_time_between_them() -> None:
    watch = watched(A)
    assert not watch.see(measured(10, a=Reading(5.0, 100.0, 1000.0)))
    changes = watch.see(measured(12, a=Reading(6.0, 120.0, 1002.0)))
    assert changes.samples == (Sample("a", 12, 0.5, 120.0), Sample("s", 12, 0.5, 120.0))


def test_a_server_counts_what_the_machine_says_or_the_sum_of_its_containers() -> None:
    watch = watched(A, B)
    first, second = Reading(1.0, 50.0, 0.0), Reading(2.0, 60.0, 1.0)
    watch.see(measured(1, a=first, b=first, machine=Reading(10.0, 900.0, 0.0)))
    told = watch.see(measured(2, a=second, b=second, machine=Reading(11.5, 950.0, 1.0))).samples
    assert [s for s in told if s.subject == "s"] == [Sample("s", 2, 1.5, 950.0)]
    watch = watched(A, B)
    watch.see(measured(1, a=first, b=first))
    assert watch.see(measured(2, a=second, b=second)).samples[-1] == Sample("s", 2, 2.0, 120.0)


def test_a_counter_that_began_anew_and_a_second_that_comes_twice_give_no_sample() -> None:
    watch = watched(A)
    watch.see(measured(1, a=Reading(5.0, 1.0, 1.0)))
    assert watch.see(measured(2, a=Reading(0.1, 1.0, 2.0))).samples == ()
    assert watch.see(measured(3, a=Reading(0.2, 1.0, 3.0))).samples[0].subject == "a"
    assert watch.see(measured(3, a=Reading(0.3, 1.0, 4.0))).samples == ()


def test_a_container_is_measured_from_the_start_again_after_its_server_was_lost() -> None:
    watch = watched(A)
    watch.see(measured(1, a=Reading(5.0, 1.0, 1.0)))
    watch.see(Lost(URL, 2.0, "gone"))
    assert watch.see(measured(60, a=Reading(90.0, 1.0, 60.0))).samples == ()
    assert [s.cpu_cores for s in watch.see(measured(61, a=Reading(90.5, 1.0, 61.0))).samples] == [0.5, 0.5]


def test_an_idle_server_uses_nothing_and_what_is_not_in_the_tree_is_not_measured() -> None:
    watch = watched()
    assert watch.see(measured(1)).samples == (Sample("s", 1, 0.0, 0.0),)
    for second in (2, 3):
        assert watch.see(measured(second, unknown=Reading(float(second), 1.0, float(second)))).samples == ()
