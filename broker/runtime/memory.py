"""How much of the memory that this process may use is in use: of a limit that is set, of its container, of the machine.

What the kernel would give back at once, such as pages of files, does not count as used.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def memory_share(limit: int = 0, root: Path = ROOT, own: Path = OWN) -> Callable[[], float]:
    """A function that reads the share in use, 0 to 1 and beyond; it takes well under a millisecond.

    With a ``limit`` in bytes it is that of this process alone, without its workers, which have limits of their own.
    """
    if limit:
        process = psutil.Process()
        return lambda: float(process.memory_info().rss) / limit
    for group in _groups(root, own):
        bound = _number(group / "memory.max") or _number(group / "memory.limit_in_bytes")
        if bound and bound < psutil.virtual_memory().total:
            return partial(_share, group, bound)
    return _machine


def _machine() -> float:
    memory = psutil.virtual_memory()
    return 1.0 - float(memory.available) / float(memory.total)


def _groups(root: Path, own: Path) -> list[Path]:
    """Where the limit of this process may be: its own control group, then those above it, in both versions."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    found: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        base = root / "memory" if "memory" in controllers.split(",") else root
        if controllers and base == root:
            continue
        place = base / path.strip("/")
        found += [place, *(parent for parent in place.parents if parent.is_relative_to(base))]
    return found


def _share(group: Path, bound: int) -> float:
    used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes") or 0
    return max(0, used - _file_pages(group)) / bound


def _file_pages(group: Path) -> int:
    try:
        lines = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    known = dict(line.split(" ", 1) for line in lines if " " in line)
    return int(known.get("total_inactive_file", known.get("inactive_file", "0")))


def _number(path: Path) -> int | None:
    """The number in a file; None where there is no file, or no bound ("max")."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
