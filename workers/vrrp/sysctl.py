"""Kernel settings of interfaces that have to be other than they were, and their way back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path

from keepalived_py.records import dataclass

from .setting_record import SettingRecord

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
    record: SettingRecord = field(default_factory=SettingRecord)
    wanted: dict[str, str] = field(default_factory=dict)
    """What settings have to be for now."""
    _before: dict[str, str] = field(default_factory=dict)
    _adopted: set[str] = field(default_factory=set)
    """Changed by a killed predecessor, and not asked for again yet."""

    def path(self, name: str) -> Path:
        return self.root / name

    def get(self, name: str) -> str | None:
        """`ipv4/conf/eth0/arp_ignore` and the like; None where there is no such setting."""
        try:
            return self.path(name).read_text().strip()
        except OSError:
            return None

    def original(self, name: str) -> str:
        """What a setting was before we changed it, "0" where there is none."""
        return self._before.get(name) or self.get(name) or "0"

    def set(self, name: str, value: str, *, remember: bool = True, always: bool = False) -> bool:
        """Whether the setting has that value now; `always` writes what it has already. A refusal is logged."""
        return self.set_all({name: value}, remember=remember, always=always)

    def set_all(self, values: Mapping[str, str], *, remember: bool = True, always: bool = False) -> bool:
        """Whether all have their values now. What they were is on record before the first is changed."""
        known = {name: found for name in values if (found := self.get(name)) is not None}
        self._adopted.difference_update(known)
        if remember:
            changing = {name: found for name, found in known.items() if found != values[name]}
            self._before = {**changing, **self._before}
            self._keep(values)
        done = len(known) == len(values)
        for name, found in known.items():
            value = values[name]
            if (found != value or always) and not self.write(name, value):
                if name not in self.wanted:
                    self._before.pop(name, None)
                done = False
                continue
            self.wanted[name] = value
            self.made(name)
        if remember and not done:
            self._keep()
        return done

    def _keep(self, coming: Mapping[str, str] | None = None) -> None:
        """On record for a successor; `coming` has what is about to be set."""
        ours = {**self.wanted, **(coming or {})}
        self.record.save({name: (before, ours[name]) for name, before in self._before.items() if name in ours})

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
        self._keep()

    def restore(self, prefix: str = "", suffix: str = "") -> None:
        """Put back what was changed and is called so, unless somebody else changed it since."""
        self._restore([name for name in self.wanted if name.startswith(prefix) and name.endswith(suffix)])

    def _restore(self, names: list[str]) -> None:
        self._adopted.difference_update(names)
        for name in names:
            ours = self.wanted.pop(name)
            before = self._before.pop(name, ours)
            if before != ours and self.get(name) == ours:
                self.write(name, before)
        self._keep()

    # what a killed predecessor left -------------------------------------------------------------------------------

    def adopt(self) -> None:
        """Take over what is still as the predecessor made it; it knew what it was before."""
        for name, (before, ours) in self.record.load().items():
            if self.get(name) == ours:
                self._before[name], self.wanted[name] = before, ours
                self._adopted.add(name)
        self._keep()

    def claim(self, prefix: str, suffix: str) -> None:
        """What of it is called so is still needed as it is."""
        for name in [name for name in self._adopted if name.startswith(prefix) and name.endswith(suffix)]:
            self._adopted.discard(name)
            self.made(name)

    def disown(self) -> None:
        """Put back what of it nobody asked for."""
        self._restore(sorted(self._adopted))
