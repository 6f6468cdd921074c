"""How busy the processors are: those of the container where it is limited, else those of the machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil

GROUP = Path("/sys/fs/cgroup")


class ProcessorShare:
    """The share in use since the last reading. ``clock`` is monotonic; ``group`` is a control group, version 2."""

    def __init__(self, clock: Callable[[], float], group: Path = GROUP) -> None:
        self._clock, self._group = clock, group
        self._last: tuple[float, float] | None = None

    def read(self) -> float | None:
        """0 to 1; None at first, and when no time has passed."""
        now = self._now()
        before, self._last = self._last, now
        if before is None or now[1] <= before[1]:
            return None
        return min(1.0, max(0.0, (now[0] - before[0]) / (now[1] - before[1])))

    def _now(self) -> tuple[float, float]:
        """Processor seconds that were used, and that there were, both since some beginning."""
        granted = self._granted()
        if granted is not None:
            return granted
        times = psutil.cpu_times()
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        return total - times.idle - getattr(times, "iowait", 0.0), total

    def _granted(self) -> tuple[float, float] | None:
        """The same of the control group; None where there is none, or it has no bound."""
        try:
            quota, _, period = (self._group / "cpu.max").read_text(encoding="ascii").partition(" ")
            if quota == "max":
                return None
            lines = (self._group / "cpu.stat").read_text(encoding="ascii").splitlines()
            used = next(int(line.split()[1]) for line in lines if line.startswith("usage_usec"))
            return used / 1e6, self._clock() * int(quota) / int(period)
        except (OSError, ValueError, StopIteration):
            return None
