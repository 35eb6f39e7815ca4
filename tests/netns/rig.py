"""Hosts made of network namespaces: build them, run daemons in them, watch the wire, break it, leave nothing behind.

    with Rig() as rig:
        lan = rig.switch("lan")
        one, two = rig.host("one"), rig.host("two")
        one.plug(lan, "eth0", "10.0.0.1/24")
        two.plug(lan, "eth0", "10.0.0.2/24")
        master = one.start(OURS, config_text)
        rig.wait(lambda: one.has("10.0.0.100"), 5)
        master.kill()

Names carry the pid, so that runs do not meet; what runs that died left is removed at the start of the next.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

OURS, THEIRS = "keepalived-py", "keepalived"
PREFIX = "kp"
CLONE_NEWNET = 0x40000000
ETH_P_ALL = 0x0003
SO_TIMESTAMPNS, SO_RCVBUFFORCE = 35, 33
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x8913, 0x8914, 0x1, 0x40
RTM_NEWADDR, RTM_GETADDR, IFA_ADDRESS, IFA_LOCAL = 20, 22, 1, 2
NLM_F_REQUEST, NLM_F_DUMP, NLM_F_DUMP_INTR = 0x1, 0x300, 0x10


def patience(seconds: float) -> float:
    """How long to wait for what takes `seconds` at most: longer where there is more to do than processors for it."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def sh(*command: str, check: bool = True) -> str:
    """Run a command; its output. CalledProcessError carries what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread in another network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as back, open(f"/run/netns/{namespace}") as there:
        if libc.setns(there.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
        try:
            yield
        finally:
            libc.setns(back.fileno(), CLONE_NEWNET)


def batch(namespace: str, *lines: str, family: str = "") -> None:
    """Commands of ip(8) in one process: to start one takes longer than what it does, in a guest kernel above all."""
    options = [*([family] if family else []), *(["-n", namespace] if namespace else [])]
    done = subprocess.run(
        ["ip", *options, "-batch", "-"], input="\n".join(lines), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{lines}: {done.stderr.strip()}")


def settings(namespace: str, *names: str) -> None:
    """Kernel settings below net/, as in `ipv4/ip_forward=1`."""
    with inside(namespace):
        for name, _, value in (each.partition("=") for each in names):
            Path("/proc/sys/net", name).write_text(value)


def flags(namespace: str, interface: str, more: int = 0) -> int:
    """Those of a link (netdevice(7)), with `more` set."""
    request = struct.Struct("16sH14x")
    with inside(namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        found: int = request.unpack(fcntl.ioctl(sock, SIOCGIFFLAGS, request.pack(interface.encode(), 0)))[1]
        if more & ~found:
            fcntl.ioctl(sock, SIOCSIFFLAGS, request.pack(interface.encode(), found | more))
    return found | more


def addresses_in(namespace: str, interface: str = "") -> set[str]:
    """Of one interface, or of all. Without a process, since many tests look again and again.

    OSError where there is no such interface.
    """
    request = struct.pack("=IHHIIB7x", 24, RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, 1, 0, socket.AF_UNSPEC)
    with inside(namespace), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        index = socket.if_nametoindex(interface) if interface else 0
        while True:
            sock.send(request)
            found, whole = _dumped(sock, index)
            if whole:
                return found


def _dumped(sock: socket.socket, index: int) -> tuple[set[str], bool]:
    """The addresses, and whether none changed meanwhile (rtnetlink(7))."""
    found, whole = set[str](), True
    while True:
        data = sock.recv(1 << 16)
        while data:
            size, kind, marks = struct.unpack_from("=IHH", data)
            whole = whole and not marks & NLM_F_DUMP_INTR
            if kind != RTM_NEWADDR:
                return found, whole
            attributes, rows = data[24:size], {}
            while attributes:
                length, name = struct.unpack_from("=HH", attributes)
                rows[name] = attributes[4:length]
                attributes = attributes[(length + 3) & ~3 :]
            if index in (0, int.from_bytes(data[20:24], sys.byteorder)):
                found.add(socket.inet_ntop(data[16], rows.get(IFA_LOCAL, rows.get(IFA_ADDRESS, b""))))
            data = data[(size + 3) & ~3 :]


@dataclass(frozen=True, slots=True)
class Frame:
    """A captured frame and when it came, on CLOCK_MONOTONIC."""

    time: float
    data: bytes

    @property
    def protocol(self) -> int:
        """EtherType."""
        return int.from_bytes(self.data[12:14])

    @property
    def vrrp(self) -> bytes | None:
        """The VRRP message, None for other frames."""
        if self.protocol == 0x0800 and self.data[23] == 112:
            return self.data[14 + (self.data[14] & 0xF) * 4 :]
        if self.protocol == 0x86DD and self.data[20] == 112:
            return self.data[54:]
        return None

    @property
    def source(self) -> str:
        """IP source address."""
        if self.protocol == 0x0800:
            return socket.inet_ntop(socket.AF_INET, self.data[26:30])
        return socket.inet_ntop(socket.AF_INET6, self.data[22:38])


class Capture:
    """Everything that passes an interface, from now on."""

    def __init__(self, namespace: str, interface: str) -> None:
        self.frames: list[Frame] = []
        with inside(namespace):
            self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self._sock.bind((interface, 0))
        self._sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self._sock.settimeout(0.1)
        self._running = True
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while self._running:
            with suppress(OSError):
                data, ancillary, _, _ = self._sock.recvmsg(65536, 64)
                stamp = time.clock_gettime(time.CLOCK_MONOTONIC)
                for level, kind, value in ancillary:
                    if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                        seconds, nanoseconds = struct.unpack("=qq", value[:16])
                        lag = time.time() - (seconds + nanoseconds / 1e9)
                        stamp -= lag
                self.frames.append(Frame(stamp, data))

    def adverts(self, source: str | None = None) -> list[Frame]:
        """VRRP frames, of one sender if named."""
        return [frame for frame in list(self.frames) if frame.vrrp and source in (None, frame.source)]

    def frames_of(self, protocol: int) -> list[Frame]:
        """Packets of an IPv4 protocol."""
        return [frame for frame in list(self.frames) if frame.protocol == 0x0800 and frame.data[23] == protocol]

    def announcements(self, address: str) -> list[Frame]:
        """Gratuitous ARP or unsolicited NA for an address."""
        packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
        if len(packed) == 4:
            return [f for f in list(self.frames) if f.protocol == 0x0806 and f.data[28:32] == packed == f.data[38:42]]
        return [
            f
            for f in list(self.frames)
            if f.protocol == 0x86DD and f.data[20] == 58 and f.data[54] == 136 and f.data[62:78] == packed
        ]

    def write_pcap(self, path: Path) -> None:
        """For tcpdump and tshark."""
        with open(path, "wb") as file:
            file.write(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
            for frame in self.frames:
                whole = int(frame.time)
                size = len(frame.data)
                file.write(struct.pack("=IIII", whole, int((frame.time - whole) * 1e6), size, size) + frame.data)

    def close(self) -> None:
        if self._running:
            self._running = False
            self._thread.join()
            self._sock.close()


class Logged:
    """What a daemon logs, in a file."""

    directory: Path

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def said(self, words: str, times: int | None = None, within: float = 10) -> None:
        """Wait until the log has `words`, just so many times if that is given.

        A log is written aside: whoever sees what a daemon did may be ahead of the line that tells of it.
        """
        until = time.monotonic() + patience(within)
        while not (words in self.log if times is None else self.log.count(words) == times):
            assert time.monotonic() < until, f"not within {within:g}s in the log: {words}"
            time.sleep(0.01)


@dataclass(slots=True)
class Daemon(Logged):
    """A daemon in a host: ours or Debian's."""

    program: str
    process: subprocess.Popen[bytes]
    directory: Path

    def pid_of(self, name: str) -> int:
        """Pid of `vrrp` or `checkers`, from its pid file."""
        return int((self.directory / f"{name}.pid").read_text())

    def rewrite(self, text: str) -> None:
        """Another configuration, not loaded yet."""
        (self.directory / "conf").write_text(text)

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def stop(self, within: float = 10) -> int:
        """SIGTERM and wait; the exit code."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.process.wait(patience(within))

    def kill(self) -> None:
        """SIGKILL to every process of the daemon at the same time, as when a machine dies."""
        family = [self.process.pid, *children_of(self.process.pid)]
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def children_of(pid: int) -> list[int]:
    """All descendants of a process."""
    try:
        direct = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [*direct, *(below for child in direct for below in children_of(child))]


@dataclass(slots=True)
class Switch:
    """A bridge in a namespace of its own."""

    namespace: str
    rig: Rig

    def capture(self) -> Capture:
        """What passes the bridge itself: all multicast and broadcast."""
        return self.rig.keep(Capture(self.namespace, "br0"))


@dataclass(slots=True)
class Host:
    """A namespace with interfaces and daemons."""

    name: str
    namespace: str
    rig: Rig
    interfaces: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Switch namespace and port by interface."""
    daemons: list[Daemon] = field(default_factory=list)

    def run(self, *command: str, check: bool = True) -> str:
        return sh("ip", "netns", "exec", self.namespace, *command, check=check)

    def plug(self, switch: Switch, interface: str, *addresses: str, mac: str = "") -> None:
        """A link to a switch, up, with addresses that are usable at once; `mac`: that of the link, not a chance one."""
        port = f"p{len(switch.rig.ports)}"
        switch.rig.ports.append(port)
        own = f"address {mac} " if mac else ""
        peer = f"peer name {port} netns {switch.namespace}"
        batch("", f"link add {interface} netns {self.namespace} {own}type veth {peer}")
        batch(switch.namespace, f"link set {port} master br0 up")
        ipv6 = f"ipv6/conf/{interface}"
        settings(self.namespace, f"{ipv6}/accept_dad=0", f"{ipv6}/dad_transmits=0")
        given = (f"addr add {each} dev {interface}" + (" nodad" if ":" in each else "") for each in addresses)
        batch(self.namespace, *given, f"link set {interface} up")
        self.interfaces[interface] = (switch.namespace, port)
        # a busy kernel takes up to a second to notice a carrier, and daemons would find the link down
        self.rig.wait(lambda: flags(self.namespace, interface) & IFF_RUNNING, 5)

    def cut(self, interface: str) -> None:
        """The cable is out: the switch's port goes down."""
        namespace, port = self.interfaces[interface]
        sh("ip", "-n", namespace, "link", "set", port, "down")

    def restore(self, interface: str) -> None:
        namespace, port = self.interfaces[interface]
        sh("ip", "-n", namespace, "link", "set", port, "up")

    def deaf(self, interface: str) -> None:
        """One-way loss: this host hears no VRRP, the others still hear it."""
        rules = "add table netdev rig; "
        rules += f"add chain netdev rig in {{ type filter hook ingress device {interface} priority 0; }}; "
        rules += "add rule netdev rig in ip protocol 112 drop; add rule netdev rig in ip6 nexthdr 112 drop"
        self.run("nft", rules)

    def hearing(self) -> None:
        self.run("nft", "delete table netdev rig")

    def addresses(self) -> set[str]:
        return addresses_in(self.namespace)

    def has(self, address: str) -> bool:
        return address in self.addresses()

    def capture(self, interface: str) -> Capture:
        return self.rig.keep(Capture(self.namespace, interface))

    def start(self, program: str, config: str, *options: str, command: Sequence[str] = ()) -> Daemon:
        """Start a daemon in the foreground with files of its own; `command` starts it in another way than its name."""
        directory = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=self.rig.directory))
        (directory / "conf").write_text(config)
        executable = [str(Path(sys.executable).with_name("keepalived-py"))] if program == OURS else [THEIRS]
        words = [*(command or executable), "-n", "-l", "-D", "-G", "-f", str(directory / "conf")]
        for option, name in (("-p", "parent"), ("-r", "vrrp"), ("-c", "checkers")):
            words += [option, str(directory / f"{name}.pid")]
        environment = {**os.environ, "TMPDIR": str(directory)}
        with open(directory / "log", "wb") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *words, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )
        daemon = Daemon(program, process, directory)
        self.daemons.append(daemon)
        return daemon


class Rig:
    """Everything of one test; a context manager that always cleans up."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="rig-"))
        self.hosts: list[Host] = []
        self.ports: list[str] = []
        self._namespaces: list[str] = []
        self._captures: list[Capture] = []

    def __enter__(self) -> Rig:
        remove_left_overs()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.show_logs()
        self.close()

    def show_logs(self) -> None:
        for host in self.hosts:
            for daemon in host.daemons:
                print(f"--- {host.name}: {daemon.program}\n{daemon.log}", file=sys.stderr)

    def close(self) -> None:
        for capture in self._captures:
            capture.close()
        for host in self.hosts:
            for daemon in host.daemons:
                if daemon.process.poll() is None:
                    daemon.kill()
        for namespace in self._namespaces:
            sh("ip", "netns", "del", namespace, check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _namespace(self, name: str) -> str:
        namespace = f"{PREFIX}{os.getpid()}-{len(self._namespaces)}{name}"
        sh("ip", "netns", "add", namespace)
        self._namespaces.append(namespace)
        flags(namespace, "lo", IFF_UP)
        return namespace

    def switch(self, name: str) -> Switch:
        namespace = self._namespace(name)
        batch(namespace, "link add br0 type bridge mcast_snooping 0 forward_delay 0", "link set br0 up")
        return Switch(namespace, self)

    def host(self, name: str) -> Host:
        host = Host(name, self._namespace(name), self)
        self.hosts.append(host)
        return host

    def keep(self, capture: Capture) -> Capture:
        self._captures.append(capture)
        return capture

    @staticmethod
    def wait(condition: Callable[[], object], within: float, every: float = 0.01) -> float:
        """Seconds until `condition` held. AssertionError when it does not within `within` seconds (see patience)."""
        started, within = time.monotonic(), patience(within)
        while not condition():
            assert time.monotonic() - started < within, f"not within {within:g}s: {condition}"
            time.sleep(every)
        return time.monotonic() - started

    @staticmethod
    def holds(condition: Callable[[], object], during: float, every: float = 0.05) -> None:
        """AssertionError as soon as `condition` does not hold."""
        until = time.monotonic() + during
        while time.monotonic() < until:
            assert condition(), f"did not hold: {condition}"
            time.sleep(every)


def remove_left_overs() -> None:
    """Namespaces of runs whose process is gone."""
    for line in sh("ip", "netns", "list").splitlines():
        name = line.split()[0]
        owner = name.removeprefix(PREFIX).partition("-")[0]
        if name.startswith(PREFIX) and owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            for pid in sh("ip", "netns", "pids", name, check=False).split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            sh("ip", "netns", "del", name, check=False)


def why_not() -> str:
    """What keeps tests in namespaces from running here, "" when nothing does."""
    if os.geteuid():
        return "needs root"
    if shutil.which("ip") is None:
        return "needs iproute2"
    done = subprocess.run(
        ["unshare", "-n", "ip", "link", "add", "ve0", "type", "veth", "peer", "name", "ve1"],
        capture_output=True,
        check=False,
    )
    return "" if done.returncode == 0 else "the kernel has no network namespaces or no veth"
