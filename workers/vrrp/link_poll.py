"""Asking a driver for the state of its link, three ways. Layouts: linux/mii.h, linux/sockios.h, linux/ethtool.h."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from collections.abc import Callable, Mapping

from .rtnetlink import IFF_RUNNING, IFF_UP

SIOCGIFFLAGS, SIOCETHTOOL, SIOCGMIIPHY, SIOCGMIIREG = 0x8913, 0x8946, 0x8947, 0x8948
ETHTOOL_GLINK = 0x0A
MII_BMSR, BMSR_LSTATUS = 0x01, 0x0004
IFREQ = struct.Struct("=16s24s")
MII = struct.Struct("=HHHH")
"""PHY, register, value in, value out."""

Poll = Callable[[str], bool | None]
"""Whether the link of an interface is up; None where its driver cannot say."""


def _ioctl(number: int, name: str, data: bytes = b"") -> bytes | None:
    """The answer, 24 bytes; None when the driver refuses."""
    request = bytearray(IFREQ.pack(name.encode(), data))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            fcntl.ioctl(sock, number, request)
        except OSError:
            return None
    return bytes(request[16:])


def mii(name: str) -> bool | None:
    """Link bit of the basic mode status register, which remembers a loss: the second reading is what is now."""
    phy = _ioctl(SIOCGMIIPHY, name)
    if phy is None:
        return None
    address = MII.unpack_from(phy)[0]
    answer = None
    for _ in range(2):
        answer = _ioctl(SIOCGMIIREG, name, MII.pack(address, MII_BMSR, 0, 0))
    return None if answer is None else bool(MII.unpack_from(answer)[3] & BMSR_LSTATUS)


def ethtool(name: str) -> bool | None:
    value = ctypes.create_string_buffer(struct.pack("=II", ETHTOOL_GLINK, 0))
    if _ioctl(SIOCETHTOOL, name, struct.pack("@P", ctypes.addressof(value))) is None:
        return None
    return bool(struct.unpack_from("=II", value.raw)[1])


def flags(name: str) -> bool | None:
    """What the kernel thinks itself."""
    answer = _ioctl(SIOCGIFFLAGS, name)
    if answer is None:
        return None
    (found,) = struct.unpack_from("=H", answer)
    return bool(found & IFF_UP and found & IFF_RUNNING)


METHODS: Mapping[str, Poll] = {"MII": mii, "ETHTOOL": ethtool, "IOCTL": flags}


def choose(methods: Mapping[str, Poll], name: str, asked: str) -> tuple[str, bool | None]:
    """The method asked for, else the first that gives an answer, and that answer; ("", None) when none does."""
    for method, poll in methods.items():
        if asked in ("", method):
            up = poll(name)
            if up is not None:
                return method, up
    return "", None
