"""Pieces of the model that several sections share."""

from __future__ import annotations

from keepalived_py.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A command and the identity it runs under (config-language.md 4.2 and 11), resolved when the file was read.

    `argv` has quotes and escapes already undone. `uid` and `gid` are None for the daemon's own identity;
    `groups` are the supplementary groups or None to leave them out. `readable_only` marks the `</path` form: not a
    command but the question whether the file can be read. `path` is the file that the security checks looked at, and
    that is executed: where the command leads by links and PATH; "" where that is the command itself.
    """

    argv: tuple[str, ...]
    user: str = ""
    group: str = ""
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None
    readable_only: bool = False
    path: str = ""

    def __str__(self) -> str:
        return " ".join(self.argv)

    @property
    def executed(self) -> str:
        """The file to execute."""
        return self.path or self.argv[0]

    @property
    def quoted(self) -> str:
        """For dumps: each word in single quotes."""
        return " ".join(f"'{word}'" for word in (self.executed, *self.argv[1:]))

    @property
    def owner(self) -> str:
        """For dumps: whose identity it has."""
        return f"uid:gid {self.uid or 0}:{self.gid or 0}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fifo:
    """A notify FIFO, its owner and the program started with it."""

    path: str
    uid: int | None = None
    gid: int | None = None
    script: Script | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessTuning:
    """Scheduling and memory of one process (vrrp_priority, vrrp_rt_priority and their likes)."""

    name: str = ""
    nice: int = 0
    rt_priority: int = 0
    rlimit_rttime: int = 10000
    """Microseconds; the soft limit is half of it."""
    no_swap: bool = False
    cpu_affinity: tuple[int, ...] = ()
