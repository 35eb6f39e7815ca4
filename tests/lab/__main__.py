"""The lab: a client, two directors and two web servers, and what happens when things die.

    make run            the whole story, ending with a timeline
    KEEP=1 make run     the same, and everything stays up for playing

Namespaces on this machine where its kernel has IPVS, else in a User-Mode Linux guest.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from tests.ipvs import uml
from tests.netns.rig import OURS, Daemon, Host, Rig, inside, sh
from tests.netns.rig import why_not as no_namespaces

VIP, INNER = "10.20.0.100", "10.30.0.100"
GUEST = "UML_GUEST"
HTTP_TIMEOUT = 0.3
INTERVAL = 0.5
LOWER = 50
"""Priority of director2."""
WAIT = 3 * INTERVAL + (256 - LOWER) / 256 * INTERVAL
"""Seconds of silence after which it takes over: master_down_interval of RFC 9568."""


def director(priority: int) -> str:
    """Both sides move together, so that replies of the web servers (NAT) come back through the master."""
    instance = """
vrrp_instance {name} {{
    state BACKUP
    interface {interface}
    version 3
    virtual_router_id {vrid}
    priority {priority}
    advert_int {interval}
    virtual_ipaddress {{
        {address}/24
    }}
}}
"""
    return (
        instance.format(name="outer", interface="eth0", vrid=51, priority=priority, interval=INTERVAL, address=VIP)
        + instance.format(name="inner", interface="eth1", vrid=52, priority=priority, interval=INTERVAL, address=INNER)
        + "vrrp_sync_group gateway {\n    group {\n        outer\n        inner\n    }\n}\n"
        + f"virtual_server {VIP} 80 {{\n    delay_loop 1\n    lvs_sched rr\n    lvs_method NAT\n    protocol TCP\n"
        + "".join(
            f"    real_server 10.30.0.{last} 80 {{\n        HTTP_GET {{\n            url {{\n                path /\n"
            "                status_code 200\n            }\n            connect_timeout 2\n            retry 1\n"
            "            delay_before_retry 1\n            warmup 1\n        }\n    }\n"
            for last in (11, 12)
        )
        + "}\n"
    )


class Client:
    """Asks the virtual address again and again, and remembers who answered when."""

    def __init__(self, host: Host) -> None:
        self.answers: list[tuple[float, str]] = []
        self._running = True
        self._thread = threading.Thread(target=self._run, args=(host.namespace,), daemon=True)
        self._thread.start()

    def _run(self, namespace: str) -> None:
        with inside(namespace):
            while self._running:
                with suppress(OSError):
                    body = ask()
                    self.answers.append((time.monotonic(), body))
                time.sleep(0.01)

    def outage(self, since: float) -> float:
        """Milliseconds of the longest time without an answer since then."""
        times = [since, *(at for at, _ in list(self.answers) if at >= since), time.monotonic()]
        return 1000 * max(later - earlier for earlier, later in pairwise(times))

    def answered_since(self, since: float) -> Counter[str]:
        return Counter(body for at, body in list(self.answers) if at >= since)

    def stop(self) -> None:
        self._running = False
        self._thread.join()


def ask() -> str:
    """One request through the virtual address: the name of the web server that answered. Raises OSError."""
    with socket.create_connection((VIP, 80), HTTP_TIMEOUT) as sock:
        sock.settimeout(HTTP_TIMEOUT)
        sock.sendall(b"GET / HTTP/1.0\r\nHost: lab\r\n\r\n")
        data = b""
        while more := sock.recv(4096):
            data += more
    if b" 200 " not in data[:20]:
        raise OSError("no answer")
    return data.partition(b"\r\n\r\n")[2].decode().strip()


class Lab:
    """The five hosts and their story."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.started = time.monotonic()
        self.timeline: list[tuple[float, str]] = []
        front, back = rig.switch("front"), rig.switch("back")
        self.client = rig.host("client")
        self.client.plug(front, "eth0", "10.20.0.10/24")
        self.directors = [rig.host(f"director{number}") for number in (1, 2)]
        for number, host in enumerate(self.directors, 1):
            host.plug(front, "eth0", f"10.20.0.{number}/24")
            host.plug(back, "eth1", f"10.30.0.{number}/24")
            host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.webs = [rig.host(f"web{number}") for number in (1, 2)]
        for number, host in enumerate(self.webs, 11):
            host.plug(back, "eth0", f"10.30.0.{number}/24")
            sh("ip", "-n", host.namespace, "route", "add", "default", "via", INNER)
        self.nginx: dict[str, subprocess.Popen[bytes]] = {}
        self.daemons: list[Daemon] = []

    def say(self, text: str) -> None:
        """A line of the story, now and in the timeline."""
        at = time.monotonic() - self.started
        self.timeline.append((at, text))
        print(f"{at:7.2f} s  {text}", flush=True)

    def start_web(self, host: Host) -> None:
        directory = self.rig.directory / host.name
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)
        self.rig.directory.chmod(0o755)
        (directory / "index.html").write_text(f"{host.name}\n")
        temporary = "".join(
            f" {name}_temp_path {directory}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (directory / "conf").write_text(
            f"user root; daemon off; pid {directory}/pid; error_log stderr; events {{}}\n"
            f"http {{ access_log off;{temporary} server {{ listen 80; root {directory}; }} }}\n"
        )
        self.nginx[host.name] = subprocess.Popen(
            ["ip", "netns", "exec", host.namespace, "nginx", "-c", str(directory / "conf")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop_web(self, host: Host) -> None:
        process = self.nginx.pop(host.name)
        process.terminate()
        process.wait()

    def start_director(self, number: int) -> None:
        daemon = self.directors[number].start(OURS, director(150 if number == 0 else LOWER))
        self.daemons[number : number + 1] = [daemon]

    def master(self) -> str:
        """The director that holds both addresses, "" for none or two."""
        holders = [host.name for host in self.directors if host.addresses() >= {VIP, INNER}]
        return holders[0] if len(holders) == 1 else ""

    def real_servers(self, number: int = 0) -> list[str]:
        """Real servers in a director's table."""
        lines = self.directors[number].run("ipvsadm", "-Sn").splitlines()
        return sorted(line.split(" -r ")[1].split(":")[0] for line in lines if " -r " in line)

    def show_answers(self, client: Client, during: float = 1.5) -> None:
        since = time.monotonic()
        time.sleep(during)
        found = client.answered_since(since)
        shown = ", ".join(f"{name} {count} times" for name, count in sorted(found.items())) or "nobody"
        self.say(f"requests through {VIP} were answered by: {shown}")

    def story(self) -> None:
        """Everything that is promised. AssertionError when it does not come true."""
        wait = self.rig.wait
        for host in self.webs:
            self.start_web(host)
        self.say("two web servers are up: web1 10.30.0.11, web2 10.30.0.12")
        for number in (0, 1):
            self.start_director(number)
        wait(lambda: self.master() == "director1", 30)
        self.say(f"director1 is MASTER and holds {VIP} and {INNER}; director2 waits")
        wait(lambda: self.real_servers() == ["10.30.0.11", "10.30.0.12"], 30)
        client = Client(self.client)
        try:
            wait(lambda: len(set(client.answered_since(0))) == 2, 30)
            self.show_answers(client)
            self._web_dies(client)
            self._master_dies(client)
            self._everything_returns(client)
        finally:
            client.stop()

    def _web_dies(self, client: Client) -> None:
        self.stop_web(self.webs[1])
        self.say("web2 is stopped")
        self.rig.wait(lambda: self.real_servers() == ["10.30.0.11"], 30)
        self.say("web2 has left the table of director1: " + ", ".join(self.real_servers()) + " remains")
        self.show_answers(client)
        self.start_web(self.webs[1])
        self.rig.wait(lambda: self.real_servers() == ["10.30.0.11", "10.30.0.12"], 30)
        self.say("web2 is started and back in the table")

    def _master_dies(self, client: Client) -> None:
        self.rig.wait(lambda: self.real_servers(1) == ["10.30.0.11", "10.30.0.12"], 30)
        since = time.monotonic()
        self.daemons[0].kill()
        # a machine that dies takes its interfaces with it
        for interface in ("eth0", "eth1"):
            self.directors[0].cut(interface)
        self.say("director1 is killed: all its processes and its links")
        self.rig.wait(lambda: self.directors[1].addresses() >= {VIP, INNER}, 30)
        self.rig.wait(lambda: client.answered_since(since + 0.2), 30)
        time.sleep(0.5)
        self.say(
            f"director2 is MASTER; for the client the address was gone for {client.outage(since):.0f} ms"
            f" (VRRP itself waits {1000 * WAIT:.0f} ms from the last advert)"
        )
        self.show_answers(client)

    def _everything_returns(self, client: Client) -> None:
        host = self.directors[0]
        for address, interface in ((VIP, "eth0"), (INNER, "eth1")):
            sh("ip", "-n", host.namespace, "addr", "del", f"{address}/24", "dev", interface, check=False)
        host.run("ipvsadm", "-C")
        for interface in ("eth0", "eth1"):
            host.restore(interface)
        since = time.monotonic()
        self.start_director(0)
        self.rig.wait(lambda: self.master() == "director1", 40)
        self.rig.wait(lambda: self.real_servers() == ["10.30.0.11", "10.30.0.12"], 30)
        time.sleep(0.5)
        self.say(
            f"director1 is back and MASTER again; the longest gap for the client was {client.outage(since):.0f} ms"
            f" (a request that was under way ends after its {1000 * HTTP_TIMEOUT:.0f} ms)"
        )
        self.show_answers(client)

    def show_timeline(self) -> None:
        print("\nTimeline")
        for at, text in self.timeline:
            print(f"  {at:7.2f} s  {text}")

    def how_to_enter(self) -> None:
        print("\nThe lab stays up. Enter a host, look, break something:")
        for host in (self.client, *self.directors, *self.webs):
            print(f"  ip netns exec {host.namespace} bash    # {host.name}: {', '.join(sorted(host.addresses()))}")
        for daemon, host in zip(self.daemons, self.directors, strict=True):
            print(f"  tail -f {daemon.directory}/log    # log of {host.name}")
        print(f"  ip netns exec {self.client.namespace} curl http://{VIP}/")


def reason_against() -> str:
    """What keeps the lab from running here, "" when nothing does."""
    missing = [name for name in ("nginx", "ipvsadm", "ip") if shutil.which(name) is None]
    if missing and not os.geteuid():
        return f"the lab needs {', '.join(missing)}"
    return uml.why_not() or no_namespaces()


def play() -> int:
    keep = bool(os.environ.get("KEEP"))
    rig = Rig()
    with rig:
        lab = Lab(rig)
        try:
            lab.story()
        except AssertionError as exc:
            lab.say(f"FAILED: {exc}")
            raise
        finally:
            lab.show_timeline()
            if keep:
                lab.how_to_enter()
                stay(lab)
            for process in lab.nginx.values():
                process.terminate()
                process.wait()
    return 0


def stay(lab: Lab) -> None:
    """Leave everything up: in a guest behind a shell, else until the person says so."""
    if os.environ.get(GUEST):
        print("This is a shell in the guest; `exit` ends the lab.", flush=True)
        subprocess.run(["bash", "-i"], check=False)
    else:
        print("Press Enter or Ctrl-C to take the lab down.", flush=True)
        with suppress(KeyboardInterrupt, EOFError):
            input()


def main() -> int:
    reason = reason_against()
    if reason:
        print(f"The lab cannot run here: {reason}.", file=sys.stderr)
        return 1
    if os.environ.get(GUEST) or uml.native():
        try:
            return play()
        except AssertionError:
            return 1
    print("The running kernel has no IPVS: the lab runs in a User-Mode Linux guest, which is slower.", flush=True)
    keep = bool(os.environ.get("KEEP"))
    return uml.run(
        [str(Path(sys.executable)), "-m", "tests.lab"], interactive=keep, limit=None if keep else uml.TIME_LIMIT
    )


if __name__ == "__main__":
    sys.exit(main())
