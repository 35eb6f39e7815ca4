"""How long the addresses of a dead VRRP worker stay, and what its successor is told."""

from __future__ import annotations

from typing import Any

import pytest

from ipc.messages import VrrpStateChanged
from keepalived_py.config.model import Config, VrrpConfig
from keepalived_py.parent.absence import give_up_mastership, masters, patience
from keepalived_py.values import Centiseconds
from tests.unit.vrrp.builders import instance


def changed(name: str, new: str) -> VrrpStateChanged:
    return VrrpStateChanged(kind="INSTANCE", name=name, old="INIT", new=new, priority=100, reason="startup", time=1.0)


def test_the_fastest_instance_decides() -> None:
    slow, fast = instance(advert_int=Centiseconds(100)), instance(name="b", vrid=7, advert_int=Centiseconds(20))
    config = Config(vrrp=VrrpConfig(instances=(slow, fast)))
    assert patience(config, frozenset((slow.name, "b"))) == pytest.approx(0.6)
    assert patience(config, frozenset((slow.name,))) == pytest.approx(3.0)
    assert patience(config, frozenset()) == 0


def test_no_instance_was_master_in_the_end() -> None:
    reports: dict[Any, Any] = {1: changed("a", "MASTER"), 2: changed("b", "FAULT"), 3: "other"}
    assert masters(reports) == {"a"}
    give_up_mastership(reports)
    assert masters(reports) == frozenset()
    assert (reports[1].old, reports[1].new) == ("MASTER", "BACKUP")
    assert reports[2] == changed("b", "FAULT")
