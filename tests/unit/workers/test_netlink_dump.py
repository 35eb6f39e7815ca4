"""Tables that change while they are read: the kernel says so, and may have passed by what was there all the time."""

from __future__ import annotations

import errno
import socket

import pytest

from keepalived_py.values import ip_address
from workers.checker import suspend
from workers.netlink import NLM_F_DUMP_INTR, NLMSG, NLMSG_DONE, NLMSG_ERROR, TRIES, attribute, message
from workers.vrrp.link_monitor import LinkMonitor
from workers.vrrp.rtnetlink import IFA_LOCAL, IFADDRMSG, RTM_GETADDR, RTM_NEWADDR, RequestSocket

ONE, TWO = "10.0.0.1", "10.0.0.2"
MULTI = 2
INTERRUPTED, WHOLE = (NLM_F_DUMP_INTR, (TWO,)), (0, (ONE, TWO))
Answer = tuple[int, tuple[str, ...]]


class Kernel:
    """Answers of the kernel to dumps of addresses, one after the other; there are no interfaces."""

    def __init__(self, *answers: Answer, late: bool = False) -> None:
        self.answers = list(answers)
        self.late = late
        """The end alone says that something changed."""
        self._said = b""

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def setblocking(self, flag: bool) -> None:
        pass

    def send(self, data: bytes) -> None:
        _, kind, _, sequence, _ = NLMSG.unpack_from(data)
        flags, addresses = self.answers.pop(0) if kind == RTM_GETADDR else (0, ())
        head = IFADDRMSG.pack(socket.AF_INET, 24, 0, 0, 1)
        bodies = [head + attribute(IFA_LOCAL, ip_address(address).packed) for address in addresses]
        early = 0 if self.late else flags
        self._said = b"".join(message(RTM_NEWADDR, early | MULTI, body, sequence) for body in bodies)
        self._said += message(NLMSG_DONE, flags | MULTI, bytes(4), sequence)

    def recv(self, size: int) -> bytes:
        return self._said


def read(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The addresses that VRRP knows when it has read all."""
    requests = RequestSocket()
    monitor = LinkMonitor(lambda each: None, lambda: None)
    with monkeypatch.context() as patch, requests._sock, monitor._sock:
        patch.setattr(requests, "_sock", kernel)
        monitor._requests = requests
        monitor.read_all()
    return {str(key.address) for key in monitor.addresses}


@pytest.mark.parametrize("late", [False, True])
def test_vrrp_reads_again_what_changes_while_it_is_read(late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an address of ours that was passed by would be missing until the next notice about it."""
    kernel = Kernel(INTERRUPTED, INTERRUPTED, WHOLE, WHOLE, late=late)
    assert read(kernel, monkeypatch) == {ONE, TWO}
    assert kernel.answers == [WHOLE]


def test_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The adverts wait for it, and what changes all the time is told of in notices."""
    kernel = Kernel(*[INTERRUPTED] * (TRIES + 1))
    assert read(kernel, monkeypatch) == {TWO}
    assert kernel.answers == [INTERRUPTED]


def test_addresses_that_move_while_the_checker_reads_them_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the servers of one that was passed by would not be checked as long as nothing else moves."""
    kernel = Kernel(INTERRUPTED, WHOLE)
    monkeypatch.setattr(suspend, "_socket", lambda groups: kernel)
    assert {str(address) for address, _, _ in suspend._dump()} == {ONE, TWO}
    assert kernel.answers == []


def test_a_refusal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(Kernel):
        def recv(self, size: int) -> bytes:
            _, _, _, sequence, _ = NLMSG.unpack_from(self._said)
            return message(NLMSG_ERROR, 0, (-errno.EBUSY).to_bytes(4, "little", signed=True), sequence)

    with pytest.raises(OSError, match="busy") as told:
        read(Refusing(WHOLE), monkeypatch)
    assert told.value.errno == errno.EBUSY
