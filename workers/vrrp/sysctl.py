"""Kernel settings of interfaces that have to be other than they were, and their way back."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

logger = logging.getLogger(__name__)

ROOT = Path("/proc/sys/net")


@dataclass(slots=True)
class Sysctls:
    """Values that were changed, with what they were: the first change of a setting remembers it."""

    root: Path = ROOT
    _before: dict[str, tuple[str, str]] = field(default_factory=dict)
    """What a setting was, and what it was set to."""

    def get(self, name: str) -> str | None:
        """`ipv4/conf/eth0/arp_ignore` and the like; None where there is no such setting."""
        try:
            return (self.root / name).read_text().strip()
        except OSError:
            return None

    def set(self, name: str, value: str, *, remember: bool = True, always: bool = False) -> bool:
        """Whether the setting has that value now; `always` writes what it has already. A refusal is logged."""
        known = self.get(name)
        if known == value and not always:
            return True
        if known is None:
            return False
        try:
            (self.root / name).write_text(value)
        except OSError as exc:
            logger.warning("cannot set net.%s to %s: %s", name.replace("/", "."), value, exc.strerror)
            return False
        if remember:
            first, _ = self._before.get(name, (known, ""))
            self._before[name] = first, value
        return True

    def restore(self, prefix: str = "", suffix: str = "") -> None:
        """Put back what was changed and is called so, unless somebody else changed it since."""
        for name in [name for name in self._before if name.startswith(prefix) and name.endswith(suffix)]:
            before, ours = self._before.pop(name)
            if self.get(name) == ours:
                self.set(name, before, remember=False)
