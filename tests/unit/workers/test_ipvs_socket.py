"""What goes wrong between us and the kernel's IPVS: lost and stale answers, full memory, a module that went."""

from __future__ import annotations

import errno
import struct
from collections import deque
from collections.abc import Callable

import pytest

from keepalived_py.plan.ipvs import AddService, DeleteService, Service, ServiceId
from keepalived_py.values import Protocol, ip_address
from workers import netlink
from workers.checker.ipvs_kernel import BATCH, IpvsError, IpvsKernel
from workers.checker.ipvs_messages import encode
from workers.netlink import GENL, NLMSG, NLMSG_DONE, NLMSG_ERROR

FAMILY = 30
ONE, TWO = (ServiceId(4, Protocol.TCP, ip_address(f"10.0.0.{number}"), 80) for number in (1, 2))
RR = Service("rr")


def message(kind: int, sequence: int, body: bytes) -> bytes:
    return NLMSG.pack(NLMSG.size + len(body), kind, 0, sequence, 0) + body


def error(sequence: int, code: int = 0) -> bytes:
    return message(NLMSG_ERROR, sequence, struct.pack("=i", -code))


def found(sequence: int, id: ServiceId, service: Service) -> bytes:
    return message(FAMILY, sequence, GENL.pack(0, 1, 0) + encode(AddService(id, service))[1])


class Wire:
    """A netlink socket: `answer` makes the kernel's answers to the numbers of a request's messages."""

    def __init__(self, answer: Callable[[list[int]], list[bytes | OSError]]) -> None:
        self.answer, self.waiting = answer, deque[bytes | OSError]()
        self.refusal: OSError | None = None

    def sendmsg(self, parts: list[bytes]) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.waiting += self.answer([NLMSG.unpack_from(part)[3] for part in parts])

    def sendall(self, data: bytes) -> None:
        self.sendmsg([data])

    def recv(self, size: int) -> bytes:
        if not self.waiting:
            raise BlockingIOError(errno.EAGAIN, "nothing")
        answer = self.waiting.popleft()
        if isinstance(answer, OSError):
            raise answer
        return answer

    def recv_into(self, buffer: bytearray) -> int:
        answer = self.recv(len(buffer))
        buffer[: len(answer)] = answer
        return len(answer)


def kernel(answer: Callable[[list[int]], list[bytes | OSError]]) -> tuple[IpvsKernel, Wire]:
    made, wire = IpvsKernel(FAMILY), Wire(answer)
    made.close()
    made._sock = wire  # type: ignore[assignment]
    return made, wire


def test_answers_to_earlier_requests_are_nobodys() -> None:
    """Else every answer from then on would be taken for that to the next request."""
    ours, wire = kernel(lambda numbers: [found(1, TWO, RR) if numbers == [1] else message(NLMSG_DONE, 2, bytes(4))])
    wire.waiting += [error(4_000_000, errno.ESRCH), found(4_000_001, ONE, Service("wlc"))]
    entry = ours.entry(TWO)
    assert entry is not None
    assert entry.service == RR
    wire.waiting.append(error(4_000_000, errno.EINVAL))
    wire.answer = lambda numbers: [error(numbers[-1])]
    assert ours.apply([DeleteService(ONE), DeleteService(TWO)]) == []


def test_the_numbers_of_requests_begin_anew() -> None:
    """A watch that asks 200 times a second has used all of them after eight months."""
    ours, _ = kernel(lambda numbers: [error(numbers[0], errno.EINVAL), error(numbers[-1])])
    ours._sequence = 2**32 - 3
    for _ in range(3):
        assert [op for op, _ in ours.apply([DeleteService(ONE), DeleteService(TWO)])] == [DeleteService(ONE)]


LOST = OSError(errno.ENOBUFS, "lost")


@pytest.mark.parametrize("answer", [lambda numbers: [LOST, error(numbers[0], errno.EINVAL)], lambda numbers: []])
def test_answers_that_were_lost_make_the_batch_a_failure(
    answer: Callable[[list[int]], list[bytes | OSError]],
) -> None:
    """Hundreds of refusals at once are more than a small buffer takes; the last answer may be among the lost ones."""
    ours, wire = kernel(lambda numbers: answer(numbers) if len(numbers) > 1 else [error(numbers[0])])
    failed = ours.apply([AddService(ONE, RR)] * (BATCH + 1))
    assert len(failed) == BATCH
    assert {str(error) for _, error in failed} == {"IPVS: answers were lost: No buffer space available"}
    assert not wire.waiting


def test_what_cannot_be_sent_is_a_failure_too() -> None:
    ours, wire = kernel(lambda numbers: [])
    wire.refusal = OSError(errno.ENOBUFS, "full")
    assert [(op, error.code) for op, error in ours.apply([DeleteService(ONE)])] == [(DeleteService(ONE), errno.ENOBUFS)]
    with pytest.raises(IpvsError):
        ours.entry(ONE)
    with pytest.raises(IpvsError):
        ours.timeouts()


def test_a_dump_that_ends_with_an_error_is_no_empty_table() -> None:
    ours, _ = kernel(lambda numbers: [message(NLMSG_DONE, numbers[0], struct.pack("=i", -errno.EMSGSIZE))])
    with pytest.raises(IpvsError):
        ours.table()


def test_a_module_that_went_and_came_has_another_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its services went with it, so they are missing and are put back."""
    ours, _ = kernel(lambda numbers: [error(numbers[0], errno.ENOENT)])

    def gone(name: str) -> int:
        raise OSError(errno.ENOENT, "not there")

    monkeypatch.setattr(netlink, "generic_family", gone)
    with pytest.raises(IpvsError, match="the kernel has no IPVS"):
        ours.entry(ONE)
    monkeypatch.setattr(netlink, "generic_family", lambda name: FAMILY + 2)
    assert ours.entry(ONE) is None
    assert ours.family == FAMILY + 2
