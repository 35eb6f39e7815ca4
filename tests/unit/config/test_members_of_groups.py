"""What instances become as members of sync groups, and what keeps unicast ones apart (vrrp-behaviour.md 3, 6, 8)."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepalived_py.config.model import Config, Track, VrrpInstance
from tests.unit.config.helpers_config import INSTANCE, load_text

HEAD = """
vrrp_script s {
    script /bin/true
    weight 5
}
vrrp_track_process p {
    process init
    weight 5
}
track_file f {
    file /tmp/f
    weight 3
}
bfd_instance b {
    neighbor_ip 10.0.0.9
}
"""


def members(directory: Path, own: str, group: str = "", head: str = HEAD) -> tuple[Config, VrrpInstance]:
    """The first of two members with `own` lines, in a group with `group` lines."""
    first = INSTANCE.replace("virtual_ipaddress", f"{own}\n    virtual_ipaddress")
    second = INSTANCE.replace("VI_1", "VI_2").replace("51", "52").replace("0.100", "0.200")
    text = head + first + second + "vrrp_sync_group G {\n group {\n VI_1\n VI_2\n }\n" + group + "\n}\n"
    found = load_text(directory, text).config
    assert found is not None
    return found, found.vrrp.instances[0]


@pytest.mark.parametrize(
    ("own", "kept"),
    [
        ("track_interface {\n eth1 weight 5\n }", (Track(kind="interface", name="eth1"),)),
        ("track_script {\n s weight 5\n }", ()),
        ("track_script {\n s weight 0\n }", (Track(kind="script", name="s"),)),
        ("track_bfd {\n b weight 5\n }", ()),
        ("track_file {\n f weight 1\n }", (Track(kind="file", name="f"),)),
        ("track_file {\n f weight 2\n }", ()),
        ("track_process {\n p weight 5\n }", (Track(kind="process", name="p", weight=5),)),
    ],
)
def test_weights_of_members(tmp_path: Path, own: str, kept: tuple[Track, ...]) -> None:
    assert members(tmp_path, own)[1].tracks == kept


def test_weights_stay_where_the_group_says_so(tmp_path: Path) -> None:
    found = members(tmp_path, "track_script {\n s weight 7\n }", "sync_group_tracking_weight")[1]
    assert found.tracks == (Track(kind="script", name="s", weight=7),)


@pytest.mark.parametrize(("weight", "kept"), [("weight 7", ()), ("weight 0", (Track(kind="script", name="s"),))])
def test_what_the_group_tracks_too_has_its_weight_unless_the_member_has_none(
    tmp_path: Path, weight: str, kept: tuple[Track, ...]
) -> None:
    own, group = f"track_script {{\n s {weight}\n }}", "track_script {\n s weight 9\n }"
    config, found = members(tmp_path, own, f"sync_group_tracking_weight\n {group}")
    assert found.tracks == kept
    assert config.vrrp.sync_groups[0].tracks == (Track(kind="script", name="s", weight=9),)


def test_an_owner_takes_the_weights_of_the_group(tmp_path: Path) -> None:
    config, _ = members(tmp_path, "priority 255", "track_script {\n s weight 9\n }")
    assert config.vrrp.sync_groups[0].tracks == (Track(kind="script", name="s"),)


def test_a_mixture_with_an_owner_is_reported(tmp_path: Path) -> None:
    text = INSTANCE.replace("virtual_ipaddress", "priority 255\n    virtual_ipaddress")
    text += INSTANCE.replace("VI_1", "VI_2").replace("51", "52").replace("0.100", "0.200")
    result = load_text(tmp_path, text + "vrrp_sync_group G {\n group {\n VI_1\n VI_2\n }\n}\n")
    assert "mixed-group" in [problem.id for problem in result.problems]


def test_unicast_instances_that_differ_in_their_peers_are_two(tmp_path: Path) -> None:
    def unicast(name: str, peer: int) -> str:
        lines = f"unicast_src_ip 10.0.0.1\n unicast_peer {{\n 10.0.0.{peer}\n }}\n virtual_ipaddress"
        return INSTANCE.replace("VI_1", name).replace("virtual_ipaddress", lines)

    result = load_text(tmp_path, unicast("VI_1", 2) + unicast("VI_2", 3) + unicast("VI_3", 4))
    assert result.config is not None
    assert len({each.key for each in result.config.vrrp.instances}) == 3
    assert [each.ordinal for each in result.config.vrrp.instances] == [0, 1, 2]
    result = load_text(tmp_path, unicast("VI_1", 2) + unicast("VI_2", 2))
    assert "duplicate-vrid" in [problem.id for problem in result.problems]
