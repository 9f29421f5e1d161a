"""The energy counters of the processor packages (RAPL), through Linux's powercap files.

Intel and AMD processors both appear as ``intel-rapl:N``. Only the zones called ``package-N`` are summed: their
sub-zones (``intel-rapl:N:M``) are parts of them, and ``psys`` covers the whole board and would count them twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from specterm.telemetry.source import Missing

POWERCAP = Path("/sys/class/powercap")

_ZONE = re.compile(r"intel-rapl:\d+")

_ABSENT = Missing(
    "no RAPL energy counters (intel-rapl) on this machine",
    "they need Linux on an Intel or AMD processor; virtual machines and many containers hide them",
)
_DENIED = Missing(
    "RAPL is readable by root only since Linux 5.10 (CVE-2020-8694)",
    "run `sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj` (until the next boot)",
)


@dataclass(slots=True)
class _Package:
    counter: Path
    range_uj: int | None  # the value at which the counter starts again from 0
    last_uj: int
    wrapped_uj: int = 0

    def total_uj(self) -> int:
        """Microjoules since an arbitrary start, growing through wraps of the hardware's counter.

        Raises:
            OSError, ValueError: the counter cannot be read, or it fell and its range is not known.
        """
        now = _number(self.counter)
        if now < self.last_uj:
            if self.range_uj is None:
                raise ValueError(f"{self.counter} fell from {self.last_uj} to {now} and has no max_energy_range_uj")
            self.wrapped_uj += self.range_uj
        self.last_uj = now
        return self.wrapped_uj + now


class Rapl:
    """The summed energy counter of all processor packages.

    A counter wraps after minutes to hours at full load (65 kJ to 262 kJ); read it at least once a minute.
    `missing` says why there is nothing to read; it is None when there is.
    """

    def __init__(self, root: Path = POWERCAP) -> None:
        self.missing: Missing | None = None
        self._packages: list[_Package] = []
        try:
            zones = sorted(zone for zone in root.iterdir() if _ZONE.fullmatch(zone.name))
            for zone in zones:
                if (zone / "name").read_text().startswith("package"):
                    counter = zone / "energy_uj"
                    self._packages.append(_Package(counter, _range(zone), _number(counter)))
        except PermissionError:
            self._packages, self.missing = [], _DENIED
        except (OSError, ValueError):
            self._packages = []
        if not self._packages and self.missing is None:
            self.missing = _ABSENT

    @property
    def packages(self) -> int:
        """How many processor packages are summed."""
        return len(self._packages)

    def energy_j(self) -> float | None:
        """Joules of all packages since an arbitrary start; None where any of them cannot be read."""
        if not self._packages:
            return None
        try:
            return sum(package.total_uj() for package in self._packages) / 1e6
        except (OSError, ValueError):
            return None


def _number(path: Path) -> int:
    return int(path.read_text())


def _range(zone: Path) -> int | None:
    try:
        return _number(zone / "max_energy_range_uj")
    except (OSError, ValueError):
        return None
