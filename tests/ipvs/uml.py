"""Run a command in a kernel with IPVS: this one where it has it, else a User-Mode Linux guest with this host's files.

    python -m tests.ipvs.uml COMMAND [ARG ...]

The guest has modules loaded, sysfs, proc and devices of its own, /run and /tmp in memory, and no network but loopback.
What must outlive it is written below the directory in $UML_KEEP.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

UML = "linux.uml"
MODULES = (
    "ip_vs",
    "ip_vs_pe_sip",
    "macvlan",
    "ipvlan",
    "vrf",
    "veth",
    "bridge",
    "dummy",
    "bonding",
    "8021q",
    "mpls_router",
    "mpls_iptunnel",
    "ila",
    "xt_ipvs",
    "nf_conntrack",
    "nf_tables",
    "nft_masq",
    "nft_chain_nat",
)
SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "fo", "ovf", "sed", "nq", "twos")
MODULE_DIRECTORY = Path("/usr/lib/uml/modules")
TIME_LIMIT = 1200


def native() -> bool:
    """Whether the running kernel has IPVS, seen from a fresh network namespace."""
    if os.geteuid() or shutil.which("ipvsadm") is None:
        return False
    return subprocess.run(["unshare", "-n", "ipvsadm", "-Sn"], capture_output=True, check=False).returncode == 0


def why_not() -> str:
    """What keeps tests of IPVS from running here, "" when nothing does."""
    if os.geteuid():
        return "needs root"
    if not native() and shutil.which(UML) is None:
        return "the kernel has no IPVS, and User-Mode Linux (Debian package user-mode-linux) is not installed"
    return ""


PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
SYS_PTRACE, PTRACE_GETREGSET, NT_X86_XSTATE = 101, 0x4204, 0x202
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL_ENODEV = 0x7FFF0000, 0x00050000 | 19
PLAIN_STRINGS = "glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-ERMS"


def _registers_too_big() -> bool:
    """Whether the processor has AMX: its registers do not fit into the buffer of User-Mode Linux, which then panics."""
    return "amx_tile" in Path("/proc/cpuinfo").read_text()


def _hide_big_registers() -> None:
    """Make User-Mode Linux fall back to the plain floating point registers: a filter refuses the big set.

    The upper halves of vector registers are not kept between threads of one process then, so the guest's C library is
    told to leave them alone.
    """
    program = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (LOAD, 0, 0, 0),
            (JUMP_EQUAL, 0, 5, SYS_PTRACE),
            (LOAD, 0, 0, 16),
            (JUMP_EQUAL, 0, 3, PTRACE_GETREGSET),
            (LOAD, 0, 0, 32),
            (JUMP_EQUAL, 0, 1, NT_X86_XSTATE),
            (RETURN, 0, 0, FAIL_ENODEV),
            (RETURN, 0, 0, ALLOW),
        )
    )
    buffer = ctypes.create_string_buffer(program)
    header = ctypes.create_string_buffer(struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def _script(command: list[str], keep: Path, memory_files: str) -> str:
    version = next(path.name for path in sorted(MODULE_DIRECTORY.iterdir()))
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in ("CI", "PATH", "LANG", "HOME", "PYTHONDONTWRITEBYTECODE", "QUICK", "BRIEF", "ONLY", "KEEP")
    }
    if _registers_too_big():
        environment["GLIBC_TUNABLES"] = PLAIN_STRINGS
    # the kernel runs modprobe with an environment of its own
    autoload = f'#!/bin/sh\nGLIBC_TUNABLES={environment.get("GLIBC_TUNABLES", "")} exec /sbin/modprobe "$@"\n'
    exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment.items())
    modules = " ".join((*MODULES, *(f"ip_vs_{name}" for name in SCHEDULERS)))
    return f"""#!/bin/sh
{exports}
export UML_KEEP={shlex.quote(str(keep))} UML_GUEST=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o {memory_files} tmpfs /run
mount -t tmpfs tmpfs /dev/shm 2>/dev/null
mkdir -p /run/keep /run/modules /run/here /lib/modules
mount --bind {shlex.quote(os.getcwd())} /run/here
mount --bind {shlex.quote(str(keep))} /run/keep
export UML_KEEP=/run/keep
mount -t tmpfs tmpfs /tmp
mkdir -p {shlex.quote(os.getcwd())}
mount --bind /run/here {shlex.quote(os.getcwd())}
mount --bind /run/modules /lib/modules
ln -s {MODULE_DIRECTORY}/{version} /lib/modules/{version}
ip link set lo up
printf %s {shlex.quote(autoload)} > /run/modprobe
chmod 755 /run/modprobe
echo /run/modprobe > /proc/sys/kernel/modprobe
modprobe -qa {modules}
cd {shlex.quote(os.getcwd())}
{shlex.join(command)}
echo $? > /run/keep/status
halt -f -p
"""


def run(
    command: list[str],
    *,
    keep: Path | None = None,
    limit: float | None = TIME_LIMIT,
    quiet: bool = False,
    interactive: bool = False,
) -> int:
    """Run `command` in the guest, its output on ours; its exit status, or 125 when the guest did not get that far.

    `interactive` gives it our standard input as well.
    """
    directory = keep or Path(tempfile.mkdtemp(prefix="uml-", dir="/var/tmp"))
    directory.mkdir(parents=True, exist_ok=True)
    script = directory / "init"
    script.write_text(_script(command, directory, "size=256m,mode=0755"))
    script.chmod(0o755)
    status = directory / "status"
    status.unlink(missing_ok=True)
    arguments = [
        UML,
        "mem=1024M",
        "root=/dev/root",
        "rootfstype=hostfs",
        "hostfs=/",
        "rw",
        f"init={script}",
        "con=null",
        "con0=fd:0,fd:1",
        "quiet",
        "loglevel=0",
    ]
    try:
        subprocess.run(
            arguments,
            stdin=None if interactive else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if quiet else None,
            stderr=subprocess.STDOUT if quiet else None,
            timeout=limit,
            check=False,
            start_new_session=not interactive,
            preexec_fn=_hide_big_registers if _registers_too_big() else None,
        )
        return int(status.read_text()) if status.exists() else 125
    finally:
        if keep is None:
            shutil.rmtree(directory, ignore_errors=True)


def main() -> int:
    reason = why_not()
    if reason:
        print(f"tests of IPVS cannot run: {reason}", file=sys.stderr)
        return 1 if os.environ.get("CI") else 0
    command = sys.argv[1:]
    if native():
        return subprocess.run(["unshare", "-n", *command], check=False).returncode
    print("The running kernel has no IPVS: using a User-Mode Linux guest", flush=True)
    return run(command)


if __name__ == "__main__":
    sys.exit(main())
