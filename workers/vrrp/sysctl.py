"""Kernel settings of interfaces that have to be other than they were, and their way back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

logger = logging.getLogger(__name__)

ROOT = Path("/proc/sys/net")


def _nobody(_: str) -> None:
    """Hears of what was set, and does nothing."""


@dataclass(slots=True)
class Sysctls:
    """Values that were changed, with what they were: the first change of a setting remembers it."""

    root: Path = ROOT
    made: Callable[[str], None] = _nobody
    """Hears the name of every setting that has the value it has to have."""
    wanted: dict[str, str] = field(default_factory=dict)
    """What settings have to be for now."""
    _before: dict[str, str] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        return self.root / name

    def get(self, name: str) -> str | None:
        """`ipv4/conf/eth0/arp_ignore` and the like; None where there is no such setting."""
        try:
            return self.path(name).read_text().strip()
        except OSError:
            return None

    def set(self, name: str, value: str, *, remember: bool = True, always: bool = False) -> bool:
        """Whether the setting has that value now; `always` writes what it has already. A refusal is logged."""
        known = self.get(name)
        if known is None:
            return False
        if (known != value or always) and not self.write(name, value):
            return False
        if remember and known != value:
            self._before.setdefault(name, known)
        self.wanted[name] = value
        self.made(name)
        return True

    def write(self, name: str, value: str) -> bool:
        """Whether the kernel took it; a refusal is logged."""
        try:
            self.path(name).write_text(value)
        except OSError as exc:
            logger.warning("cannot set net.%s to %s: %s", name.replace("/", "."), value, exc.strerror)
            return False
        return True

    def renamed(self, before: str, after: str) -> None:
        """An interface is called otherwise now: its settings are known under that name."""
        for settings in (self._before, self.wanted):
            for name in [name for name in settings if f"/conf/{before}/" in name]:
                settings[name.replace(f"/conf/{before}/", f"/conf/{after}/")] = settings.pop(name)
        for name in [name for name in self.wanted if f"/conf/{after}/" in name]:
            self.made(name)

    def restore(self, prefix: str = "", suffix: str = "") -> None:
        """Put back what was changed and is called so, unless somebody else changed it since."""
        for name in [name for name in self.wanted if name.startswith(prefix) and name.endswith(suffix)]:
            ours = self.wanted.pop(name)
            before = self._before.pop(name, ours)
            if before != ours and self.get(name) == ours:
                self.write(name, before)
