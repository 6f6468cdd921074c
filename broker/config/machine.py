"""What the process may use of the machine it runs on, containers included."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True, slots=True)
class Machine:
    """Processors that may be used at once, at least 1."""

    processors: int


def this_machine(cgroup: Path = _CGROUP) -> Machine:
    """The processors that this process is allowed to run on, and no more than its control group (version 2) grants."""
    affinity = getattr(os, "sched_getaffinity", None)
    processors = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    try:
        quota, _, period = cgroup.read_text(encoding="ascii").partition(" ")
        if quota != "max":
            processors = min(processors, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no control groups here
        pass
    return Machine(processors)
