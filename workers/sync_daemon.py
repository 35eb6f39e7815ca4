"""The kernel's synchronisation of IPVS connections (vrrp-behaviour.md 17; linux/ip_vs.h).

With an instance the VRRP worker follows its state, without one the checker runs both sides: each has one `SyncDaemon`.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
from contextlib import nullcontext
from dataclasses import field
from enum import IntEnum

from keepalived_py import netns
from keepalived_py.config.model import SyncDaemon as Settings
from keepalived_py.records import dataclass

from .netlink import (
    BUFFER_SIZE,
    GENL,
    NESTED,
    NETLINK_GENERIC,
    NLM_F_ACK,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    attribute,
    generic_family,
    message,
    messages,
)

logger = logging.getLogger(__name__)

NEW_DAEMON, DEL_DAEMON = 9, 10
CMD_DAEMON = 3
STATE, INTERFACE, SYNC_ID, MAXLEN, GROUP, GROUP6, PORT, TTL = range(1, 9)


class Side(IntEnum):
    """What the kernel knows a daemon by."""

    MASTER = 1
    BACKUP = 2


BOTH = frozenset(Side)


def encode(settings: Settings, side: Side, syncid: int) -> bytes:
    """Attributes of a daemon that is to be started."""
    body = attribute(STATE, struct.pack("=I", side))
    body += attribute(INTERFACE, settings.interface.encode() + b"\0")
    body += attribute(SYNC_ID, struct.pack("=I", syncid))
    if settings.maxlen:
        body += attribute(MAXLEN, struct.pack("=H", settings.maxlen))
    if settings.group is not None:
        body += attribute(GROUP if settings.group.version == 4 else GROUP6, settings.group.packed)
    if settings.port:
        body += attribute(PORT, struct.pack("=H", settings.port))
    if settings.ttl:
        body += attribute(TTL, bytes((settings.ttl,)))
    return attribute(CMD_DAEMON | NESTED, body)


@dataclass(slots=True)
class SyncDaemon:
    """Which sides run, and with what. `namespace`: the one of IPVS, None for our own."""

    namespace: str | None = None
    running: dict[Side, tuple[Settings, int]] = field(default_factory=dict)
    _family: int = 0
    _known: bool = False

    def set(self, settings: Settings | None, sides: frozenset[Side], syncid: int = 0) -> None:
        """Run these sides, and no other; what runs already stays. Failures are logged."""
        wanted = dict.fromkeys(sorted(sides), (settings, syncid)) if settings is not None else {}
        if wanted == self.running or not (wanted or self._known):
            return
        try:
            for side in Side:
                # one that an earlier process has left may have other settings
                if self.running.get(side) != wanted.get(side) or not self._known:
                    self._stop(side)
            self._known = True
            for side, how in wanted.items():
                if side not in self.running:
                    self._request(NEW_DAEMON, encode(how[0], side, how[1]))
                    self.running[side] = how
                    logger.info("IPVS sync daemon: %s on %s, id %d", side.name, how[0].interface, how[1])
        except OSError as exc:
            logger.error("IPVS sync daemon: %s", exc.strerror)

    def _stop(self, side: Side) -> None:
        self._request(DEL_DAEMON, attribute(CMD_DAEMON | NESTED, attribute(STATE, struct.pack("=I", side))))
        self.running.pop(side, None)

    def _request(self, command: int, body: bytes) -> None:
        """Raises OSError; what does not run need not be stopped."""
        with nullcontext() if self.namespace is None else netns.inside(self.namespace):
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_GENERIC)
        with sock:
            self._family = self._family or generic_family("IPVS")
            sock.send(message(self._family, NLM_F_REQUEST | NLM_F_ACK, GENL.pack(command, 1, 0) + body, 1))
            code = _answer(sock)
        if code and not (command == DEL_DAEMON and code == errno.ESRCH):
            raise OSError(code, os.strerror(code))


def _answer(sock: socket.socket) -> int:
    """The errno in an acknowledgement."""
    for kind, _, _, body in messages(sock.recv(BUFFER_SIZE)):
        if kind == NLMSG_ERROR:
            (code,) = struct.unpack_from("=i", body)
            return -int(code)
    return 0


@dataclass(slots=True)
class InstanceFollower:
    """Runs the side that the state of one VRRP instance asks for."""

    daemon: SyncDaemon = field(default_factory=SyncDaemon)
    _settings: Settings | None = None
    _syncid: int = 0
    _master: bool | None = None
    """None: the instance does not run."""

    def configure(self, settings: Settings | None, vrid: int, master: bool | None = None) -> None:
        """`vrid` and state of the instance that it names; settings without an instance are not ours."""
        self._settings = settings if settings is not None and settings.instance else None
        self._syncid = vrid if settings is None or settings.syncid is None else settings.syncid
        self._master = master
        self._run()

    def moved(self, instance: str, master: bool | None) -> None:
        """An instance is MASTER, something else, or (None) stops."""
        if self._settings is not None and instance == self._settings.instance:
            self._master = master
            self._run()

    def _run(self) -> None:
        side = {None: frozenset[Side](), True: frozenset({Side.MASTER}), False: frozenset({Side.BACKUP})}[self._master]
        self.daemon.set(self._settings, side, self._syncid)
