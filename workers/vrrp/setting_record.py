"""What kernel settings were before we changed them, kept in a file: a process that is killed cannot put them back.

The one that follows does. A record of an earlier boot or of another network namespace counts for nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from keepalived_py import dumpfile
from keepalived_py.records import dataclass

BOOT = Path("/proc/sys/kernel/random/boot_id")
NAMESPACE = Path("/proc/self/ns/net")
MODE = 0o600

Changed = Mapping[str, tuple[str, str]]
"""Name of a setting: what it was, what we made of it."""


def _where() -> dict[str, object]:
    return {"boot": BOOT.read_text().strip(), "namespace": NAMESPACE.stat().st_ino}


@dataclass(slots=True)
class SettingRecord:
    """The file, beside the pid file of VRRP; without a path nothing is kept."""

    path: str = ""
    _kept: Changed | None = None

    def load(self) -> dict[str, tuple[str, str]]:
        """What a killed predecessor left; nothing where there is no such file of ours."""
        if not self.path:
            return {}
        try:
            with open(os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)) as file:
                status = os.fstat(file.fileno())
                trusted = status.st_uid == os.geteuid() and not status.st_mode & 0o077
                found = json.load(file) if trusted else {}
            if {name: found.get(name) for name in ("boot", "namespace")} != _where():
                return {}
            settings = {str(name): (str(before), str(ours)) for name, (before, ours) in found["settings"].items()}
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            return {}
        return {name: values for name, values in settings.items() if ".." not in name.split("/") and name[:1] != "/"}

    def save(self, changed: Changed) -> None:
        """Keep this, or remove the file when nothing is changed any more."""
        if not self.path or changed == self._kept:
            return
        self._kept = dict(changed)
        if changed:
            dumpfile.write(self.path, json.dumps({**_where(), "settings": self._kept}), MODE)
        else:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
