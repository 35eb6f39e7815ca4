"""`python -m tests.bench.flood RATE SECONDS`: adverts for VRIDs 100 to 199 out of eth0; prints how many were sent."""

from __future__ import annotations

import socket
import sys
import time

from keepalived_py.config.model import Address, VrrpInstance
from keepalived_py.values import Centiseconds, ip_address
from keepalived_py.vrrp.packet import encode

GROUP, SOURCE = ip_address("224.0.0.18"), ip_address("10.0.0.2")
BURST = 0.001
"""Seconds between bursts."""


def main(rate: int, seconds: float) -> int:
    row = Address(address=ip_address("10.99.0.1"), prefixlen=32)
    messages = [
        encode(
            VrrpInstance(
                name="x",
                interface="eth0",
                family=4,
                vrid=vrid,
                version=3,
                advert_int=Centiseconds(10),
                addresses=(row,),
            ),
            200,
            SOURCE,
            GROUP,
        )
        for vrid in range(100, 200)
    ]
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            while sent < passed * rate:
                sock.sendto(messages[sent % len(messages)], (str(GROUP), 0))
                sent += 1
            time.sleep(BURST)
    return sent


if __name__ == "__main__":
    print(main(int(sys.argv[1]), float(sys.argv[2])))
