"""keepalived_check.data where no other program can be asked: checkers of ours, settings of no other test."""

from __future__ import annotations

import pytest

from keepalived_py.checks.dump_text import CheckerSnapshot, data_text
from keepalived_py.checks.state import CheckerState
from keepalived_py.checks.virtual_server import VirtualServerState
from keepalived_py.config.model import (
    BfdCheck,
    Check,
    CheckerConfig,
    CheckTiming,
    Endpoint,
    GrpcCheck,
    RealServer,
    SslSettings,
    TcpCheck,
    VirtualServer,
)
from keepalived_py.values import Protocol, ServiceKey, ip_address

KEY = ServiceKey(Protocol.TCP, ip_address("10.0.0.1"), 80, family=4)
TIMING = CheckTiming(delay_loop=1.5, retry=0)
END = Endpoint(address=ip_address("10.1.0.1"), port=80, bind_if="eth0")
REAL = RealServer(address=END.address, port=80)
CONNECTION = ["Connection", "  Dest = [10.1.0.1]:80", "  Bind i/f = eth0", "  Timeout = 5.000000"]


def test_nothing_is_no_section() -> None:
    assert data_text([], []) == ""


@pytest.mark.parametrize(
    ("ssl", "lines"),
    [
        (SslSettings(), ["Using autogen SSL context"]),
        (
            SslSettings(password="s", ca="/a", certificate="/c", key="/k"),
            ["Password : ********", "CA-file : /a", "Certificate file : /c", "Key file : /k"],
        ),
    ],
)
def test_an_ssl_block(ssl: SslSettings, lines: list[str]) -> None:
    text = data_text([], [], config=CheckerConfig(ssl=ssl))
    assert text.splitlines() == [
        "------< SSL definitions >------",
        *(f" {line}" for line in lines),
    ]


@pytest.mark.parametrize(
    ("check", "lines"),
    [
        (TcpCheck(timing=TIMING, endpoint=END), [*CONNECTION, "Keepalive method = TCP_CHECK"]),
        (GrpcCheck(timing=TIMING, endpoint=END), [*CONNECTION, "Keepalive method = GRPC_CHECK"]),
        (BfdCheck(timing=TIMING, name="b"), ["Keepalive method = BFD_CHECK", "BFD instance = b"]),
    ],
)
def test_a_checker(check: Check, lines: list[str]) -> None:
    state = VirtualServerState(VirtualServer(key=KEY, real_servers=(REAL,)))
    found = CheckerSnapshot(service=KEY, real=REAL.key, config=check, state=CheckerState(TIMING), suspended=True)
    text = data_text([state], [found])
    assert text.startswith(
        "------< LVS Topology >------\n ------< Virtual server >------\n VS VIP = 10.0.0.1, VPORT = 80\n"
    )
    last = text[text.index("------< Health checkers >------\n") :].splitlines()
    assert last[1:3] == [" [10.0.0.1]:tcp:80 -> [10.1.0.1]:tcp:80", "   Enabled = no"]
    assert ("   Delay loop = 1500000 us" in last) is not isinstance(check, BfdCheck)
    start = last.index("   Log all failures = no") + 1
    assert last[start:] == [f"   {line}" for line in lines]
