"""Reading big configurations with -t."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.frame import Bench, Figures
from tests.netns.rig import OURS

CHECK = """        TCP_CHECK {
            connect_timeout 3
            retry 3
            delay_before_retry 3
        }
"""


def servers(virtual: int, real: int) -> str:
    """`virtual` servers with `real` real servers each, 7 lines a real server."""
    out = []
    for number in range(virtual):
        out.append(
            f"virtual_server 10.{number // 65536}.{number // 256 % 256}.{number % 256} 80 {{\n"
            "    delay_loop 6\n    lb_algo rr\n    lb_kind NAT\n    protocol TCP\n"
        )
        for each in range(real):
            address = f"172.{16 + each // 62500}.{each // 250 % 250}.{each % 250 + 1}"
            out.append(f"    real_server {address} 80 {{\n{CHECK}    }}\n")
        out.append("}\n")
    return "".join(out)


def config_test(program: str, text: str) -> Figures:
    """Seconds and MB of one -t."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(text)
        file.flush()
        command = [str(Path(sys.executable).with_name(OURS))] if program == OURS else [program]
        started = time.monotonic()
        process = subprocess.Popen([*command, "-t", "-f", file.name], stderr=subprocess.DEVNULL)
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
        took = time.monotonic() - started
    return {"seconds": took, "MB": _megabytes(usage)}


def _megabytes(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / 1024


def many_virtual(program: str, size: int) -> Figures:
    return config_test(program, servers(size, 100))


def one_virtual(program: str, size: int) -> Figures:
    return config_test(program, servers(1, size))


BENCHES = (
    Bench("config", "s, MB", many_virtual, sizes=(5, 500), label="-t of {size} x 100 servers"),
    Bench("config-one", "s, MB", one_virtual, sizes=(100, 5000, 50000), runs=3, label="-t of 1 x {size} servers"),
)
