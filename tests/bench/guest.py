"""Figures that need a kernel with IPVS: this program runs where one is, and leaves its figures in a file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.frame import Bench, Figures
from tests.ipvs import uml
from tests.netns.rig import Rig, children_of

CONFIG = """
vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    virtual_ipaddress {
        10.0.0.100/24
    }
}
virtual_server 10.0.0.100 80 {
    delay_loop 10
    lvs_sched rr
    lvs_method NAT
    protocol TCP
    real_server 10.0.0.11 80 {
        TCP_CHECK {
            connect_timeout 1
        }
    }
}
"""


def three_processes(program: str, _: int) -> Figures:
    """Proportional set size of parent, VRRP worker and checker, idle, in MB."""
    reason = uml.why_not()
    if reason:
        raise RuntimeError(reason)
    keep = Path(tempfile.mkdtemp(prefix="bench-", dir="/var/tmp"))
    command = [sys.executable, "-m", "tests.bench.guest", program]
    try:
        if uml.native():
            subprocess.run(["unshare", "-n", *command], env={**os.environ, "UML_KEEP": str(keep)}, check=True)
        else:
            uml.run(command, keep=keep, quiet=True)
        figures: Figures = json.loads((keep / "figures").read_text())
        return figures
    finally:
        shutil.rmtree(keep, ignore_errors=True)


def main(program: str) -> None:
    from tests.bench.vrrp import pss

    with Rig() as rig:
        lan = rig.switch("lan")
        host = rig.host("router")
        host.plug(lan, "eth0", "10.0.0.1/24")
        daemon = host.start(program, CONFIG)
        rig.wait(lambda: len(children_of(daemon.process.pid)) == 2, 30)
        time.sleep(8.0)
        pids = [daemon.process.pid, *children_of(daemon.process.pid)]
        assert len(pids) == 3, daemon.log
        figures = {"total": sum(map(pss, pids))}
    (Path(os.environ["UML_KEEP"]) / "figures").write_text(json.dumps(figures))


BENCHES = (Bench("memory-three", "MB", three_processes, runs=2, label="idle memory, all three processes"),)

if __name__ == "__main__":
    main(sys.argv[1])
