"""Receive buffers as the configuration has them."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from keepalived_py.config.model import BufferSettings
from tests.unit.vrrp.builders import instance
from workers.netlink import resize
from workers.vrrp.hearing import room

MTU = BufferSettings(vrrp_rx_policy="MTU")


@pytest.mark.parametrize(
    ("own", "buffers", "expected"),
    [
        ({}, BufferSettings(), 0),
        ({}, BufferSettings(vrrp_rx_policy="70000"), 70000),
        ({"rx_buf_size": 9000}, BufferSettings(vrrp_rx_policy="70000"), 9000),
        ({}, MTU, 65536 * 3),
        ({}, BufferSettings(vrrp_rx_policy="MTU", vrrp_rx_multiplier=5), 65536 * 5),
        ({}, BufferSettings(vrrp_rx_policy="ADVERT"), (20 + 8 + 4) * 3),
    ],
)
def test_what_is_wanted_for_an_instance(own: dict[str, Any], buffers: BufferSettings, expected: int) -> None:
    assert room(instance("192.0.2.1", **own), buffers, "lo") == expected


def test_the_mtu_of_an_interface_that_is_not_there_is_that_of_ethernet() -> None:
    assert room(instance("192.0.2.1"), MTU, "nonesuch0") == 4500


@pytest.mark.parametrize(("size", "changed"), [(0, False), (50000, True)])
def test_zero_leaves_a_socket_as_it_is(size: int, changed: bool) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        before = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        resize(sock, size, False)
        after = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert after == (2 * size if changed else before)
