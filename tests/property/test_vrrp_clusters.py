"""Clusters of 2 to 50 hosts: one master in the end, two for a moment only, addresses exactly where the master is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.vrrp_cluster import Cluster

INTERVAL = 1.0
MOMENT = INTERVAL + 0.1
SETTLED = 10.0
"""Seconds: longer than the longest master down interval and an advert."""
seeds = st.integers(0, 10**6)


def settled(count: int, seed: int, **changes: object) -> Cluster:
    cluster = Cluster(count, seed, **changes)  # type: ignore[arg-type]
    cluster.run(SETTLED)
    assert len(cluster.masters()) == 1
    assert cluster.longest_overlap <= MOMENT
    cluster.longest_overlap = 0.0
    return cluster


def best(cluster: Cluster) -> int:
    """The highest priority among those that are alive."""
    return max(host.configs["a"].priority for host in cluster.hosts if host.alive)


def one_and_the_best(cluster: Cluster) -> None:
    (number,) = cluster.masters()
    assert cluster.hosts[number].configs["a"].priority == best(cluster)
    assert cluster.longest_overlap <= MOMENT


@given(count=st.integers(2, 50), seed=seeds)
@settings(max_examples=30)
def test_the_best_wins_and_the_next_best_follows(count: int, seed: int) -> None:
    cluster = settled(count, seed)
    one_and_the_best(cluster)
    cluster.kill(cluster.hosts[cluster.masters()[0]])
    cluster.run(SETTLED)
    one_and_the_best(cluster)


@given(count=st.integers(2, 10), seed=seeds, size=st.integers(1, 9), version=st.sampled_from([2, 3]))
@settings(max_examples=30)
def test_a_partition_has_two_masters_and_heals_within_an_interval(
    count: int, seed: int, size: int, version: int
) -> None:
    cluster = settled(count, seed, version=version)
    cluster.split(min(size, count - 1))
    cluster.run(SETTLED)
    assert len(cluster.masters()) == 2
    cluster.apart = set()
    cluster.run(SETTLED)
    one_and_the_best(cluster)


@given(seed=seeds, count=st.integers(2, 6))
@settings(max_examples=15)
def test_a_fifth_of_the_adverts_lost_is_survived(seed: int, count: int) -> None:
    cluster = Cluster(count, seed, loss=0.2)
    cluster.run(200.0)
    assert cluster.masters()
    cluster.loss = 0.0
    cluster.run(SETTLED)
    assert len(cluster.masters()) == 1


@given(
    seed=seeds,
    count=st.integers(2, 6),
    stalls=st.lists(st.tuples(st.integers(0, 5), st.floats(0.1, 12.0), st.floats(0.0, 6.0)), max_size=6),
    preempt=st.booleans(),
)
@settings(max_examples=40)
def test_processes_that_stall_find_their_place_again(
    seed: int, count: int, stalls: list[tuple[int, float, float]], preempt: bool
) -> None:
    cluster = settled(count, seed, preempt=preempt)
    for number, length, pause in stalls:
        host = cluster.hosts[number % count]
        cluster.freeze(host)
        cluster.run(length)
        cluster.thaw(host)
        cluster.run(pause)
    cluster.run(2 * SETTLED)
    assert len(cluster.masters()) == 1
    assert cluster.longest_overlap <= MOMENT


@given(seed=seeds, count=st.integers(2, 6), limit=st.sampled_from([50, 254]))
@settings(max_examples=15)
def test_timer_expired_backup_leaves_one_master(seed: int, count: int, limit: int) -> None:
    cluster = settled(count, seed, preempt=False, timer_expired_backup=limit)
    first = cluster.hosts[cluster.masters()[0]]
    cluster.freeze(first)
    cluster.run(5.0)
    cluster.thaw(first)
    cluster.run(SETTLED)
    assert len(cluster.masters()) == 1


@given(seed=seeds, count=st.integers(2, 6), gap=st.floats(0.0, 0.9))
@settings(max_examples=25)
def test_a_killed_master_that_is_adopted_in_time_stays_the_only_one(seed: int, count: int, gap: float) -> None:
    cluster = settled(count, seed)
    first = cluster.hosts[cluster.masters()[0]]
    for _ in range(5):
        cluster.kill(first)
        cluster.run(gap)
        assert cluster.masters() == []
        cluster.start(first, adopt=True)
        cluster.run(SETTLED / 5)
        assert cluster.masters() == [first.number]
    assert cluster.longest_overlap == 0.0


@given(
    seed=seeds, count=st.integers(2, 6), deaths=st.lists(st.tuples(st.integers(0, 5), st.floats(0.0, 8.0)), max_size=8)
)
@settings(max_examples=30)
def test_any_order_of_deaths_and_restarts(seed: int, count: int, deaths: list[tuple[int, float]]) -> None:
    cluster = Cluster(count, seed)
    for number, pause in deaths:
        host = cluster.hosts[number % count]
        if host.alive:
            cluster.kill(host)
        else:
            cluster.start(host)
        cluster.run(pause)
    for host in cluster.hosts:
        if not host.alive:
            cluster.start(host)
    cluster.run(2 * SETTLED)
    one_and_the_best(cluster)


def test_without_preemption_the_master_stays_when_a_better_one_comes() -> None:
    cluster = settled(3, 7, preempt=False)
    first = cluster.masters()[0]
    other = next(host for host in cluster.hosts if host.number != first)
    cluster.kill(other)
    cluster.start(other)
    cluster.run(SETTLED)
    assert cluster.masters() == [first]


@given(
    seed=seeds,
    count=st.integers(2, 4),
    faults=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from("abc"), st.booleans(), st.floats(0.0, 6.0)), max_size=10
    ),
)
@settings(max_examples=40)
def test_members_of_a_group_move_together(seed: int, count: int, faults: list[tuple[int, str, bool, float]]) -> None:
    cluster = settled(count, seed, links="abc")
    for number, link, present, pause in faults:
        cluster.fault(cluster.hosts[number % count], link, present)
        for host in cluster.hosts:
            assert len({host.state(each) for each in host.routers}) == 1
        cluster.run(pause)
    for host in cluster.hosts:
        for link in "abc":
            cluster.fault(host, link, False)
    cluster.run(3 * SETTLED)
    masters = [cluster.masters(link) for link in "abc"]
    assert masters[0] == masters[1] == masters[2]
    assert len(masters[0]) == 1
    assert cluster.longest_overlap <= MOMENT


@pytest.mark.parametrize("version", [2, 3])
def test_intervals_do_not_drift(version: int) -> None:
    cluster = settled(2, 1, version=version)
    router = cluster.hosts[cluster.masters()[0]].routers["a"].router
    first = router.deadline
    cluster.run(1000.0)
    assert first is not None
    assert router.deadline is not None
    assert (router.deadline - first) % INTERVAL == pytest.approx(0.0, abs=1e-6)
