"""Everything that can happen to a cluster of 2 to 50 hosts, in any order: one master for each link in the end.

While a link is whole and loses nothing, two hosts are MASTER on it for no longer than the better one takes to speak
again. Addresses are there exactly while MASTER: the cluster looks after each event.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from keepalived_py.config.model import SyncGroup
from keepalived_py.values import Centiseconds
from keepalived_py.vrrp.states import State
from tests.property.vrrp_cluster import Cluster, Host

LINKS = "ab"
INTERVALS = (Centiseconds(20), Centiseconds(100))
MOMENT = 1.0 + 0.1
"""Seconds: the longest interval, and what an advert may be late by."""
SETTLED = 10.0
"""Seconds: longer than the longest master down interval and an advert."""
HAPPENINGS = ("kill", "start", "adopt", "freeze", "thaw", "split", "heal", "lose", "fault", "well", "track", "reload")
happenings = st.tuples(
    st.sampled_from(HAPPENINGS), st.integers(0, 49), st.sampled_from(LINKS), st.integers(1, 254), st.floats(0.0, 5.0)
)


def make_happen(cluster: Cluster, what: str, host: Host, link: str, value: int) -> None:
    """One event. Whoever is not in the state for it is left alone."""
    if what == "kill" and host.alive:
        cluster.kill(host)
    elif what in ("start", "adopt") and not host.alive:
        cluster.start(host, adopt=what == "adopt")
    elif what == "freeze" and host.works:
        cluster.freeze(host)
    elif what == "thaw":
        cluster.thaw(host)
    elif what == "split":
        cluster.split(1 + value % (len(cluster.hosts) - 1))
    elif what == "heal":
        heal(cluster)
    elif what == "lose":
        cluster.loss = value / 512
    elif what in ("fault", "well"):
        cluster.fault(host, link, what == "fault")
    elif what == "track":
        cluster.see(host, "file", "load", value % 100 - 50)
    elif what == "reload" and host.works:
        reload(cluster, host, link, value)


def reload(cluster: Cluster, host: Host, link: str, value: int) -> None:
    """Another priority and kind of preemption; one link less or both; a group or none."""
    links = LINKS if value % 3 else link
    configure(
        cluster, host, links, bool(value % 4), priority=value, preempt=bool(value % 2), preempt_delay=float(value % 5)
    )


def configure(cluster: Cluster, host: Host, links: str, grouped: bool, **changes: Any) -> None:
    sample = next(iter(host.configs.values()))
    groups = [SyncGroup(name="G", members=tuple(links))] if grouped and len(links) > 1 else []
    cluster.reload(host, {link: replace(sample, name=link, **changes) for link in links}, groups)


def heal(cluster: Cluster) -> None:
    """What overlaps before adverts come through again does not count."""
    cluster.apart, cluster.loss = set(), 0.0


def make_well(cluster: Cluster, grouped: bool) -> None:
    """All run, hear each other, and are on both links: hosts of which some lack a link cannot have one master each."""
    heal(cluster)
    for host in cluster.hosts:
        if not host.alive:
            cluster.start(host)
        cluster.thaw(host)
        configure(cluster, host, LINKS, grouped)
        for link in LINKS:
            cluster.fault(host, link, False)


@given(
    count=st.one_of(st.integers(2, 6), st.integers(2, 50)),
    seed=st.integers(0, 10**6),
    interval=st.sampled_from(INTERVALS),
    version=st.sampled_from([2, 3]),
    owner=st.booleans(),
    grouped=st.booleans(),
    script=st.lists(happenings, max_size=25),
)
@settings(max_examples=25)
def test_whatever_happens_one_master_is_left(
    count: int,
    seed: int,
    interval: Centiseconds,
    version: int,
    owner: bool,
    grouped: bool,
    script: list[tuple[Any, ...]],
) -> None:
    interval = Centiseconds(100) if version == 2 else interval
    cluster = Cluster(count, seed, links=LINKS, advert_int=interval, version=version)
    if owner:
        owned = {
            link: replace(each, priority=255, wants_master=True) for link, each in cluster.hosts[0].configs.items()
        }
        cluster.kill(cluster.hosts[0])
        cluster.hosts[0].configs = owned
        cluster.start(cluster.hosts[0])
    for what, number, link, value, pause in script:
        make_happen(cluster, what, cluster.hosts[number % count], link, value)
        cluster.run(pause)
    make_well(cluster, grouped)
    cluster.run(3 * SETTLED)
    assert not grouped or cluster.masters("a") == cluster.masters("b")
    for link in LINKS:
        assert len(cluster.masters(link)) == 1
        others = [host for host in cluster.hosts if link in host.routers and host.number not in cluster.masters(link)]
        assert all(host.state(link) is State.BACKUP for host in others)
    assert cluster.longest_overlap <= MOMENT


@given(
    seed=st.integers(0, 10**6),
    script=st.lists(
        st.tuples(
            st.sampled_from(("fault", "well", "reload", "reload", "kill", "adopt")),
            st.integers(0, 1),
            st.sampled_from(LINKS),
            st.integers(1, 254),
            st.sampled_from((0.0, 0.5, 4.0)),
        ),
        max_size=20,
    ),
)
@settings(max_examples=120)
def test_groups_that_are_made_and_dissolved_share_their_faults(seed: int, script: list[tuple[Any, ...]]) -> None:
    """The cluster looks after each event whether all members of a group are in FAULT or none."""
    cluster = Cluster(2, seed, links=LINKS)
    for what, number, link, value, pause in script:
        make_happen(cluster, what, cluster.hosts[number], link, value)
        cluster.run(pause)
    for host in cluster.hosts:
        for link in LINKS:
            cluster.fault(host, link, False)
    for host in filter(lambda host: host.alive, cluster.hosts):
        assert State.FAULT not in {host.state(link) for link in host.routers}
