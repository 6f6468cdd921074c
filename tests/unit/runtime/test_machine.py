"""Reading how busy the processors are."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from broker.runtime.machine import ProcessorShare


class Clock:
    """Time that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def group(path: Path, quota: str, used: int) -> Path:
    (path / "cpu.max").write_text(f"{quota}\n")
    (path / "cpu.stat").write_text(f"usage_usec {used}\nuser_usec 1\nsystem_usec 2\n")
    return path


def test_a_container_is_measured_against_what_it_is_granted(tmp_path: Path) -> None:
    clock = Clock()
    share = ProcessorShare(clock, group(tmp_path, "150000 100000", 1_000_000))
    assert share.read() is None
    clock.now += 2.0
    group(tmp_path, "150000 100000", 2_500_000)
    assert share.read() == pytest.approx(0.5)
    clock.now += 1.0
    group(tmp_path, "150000 100000", 9_000_000)
    assert share.read() == 1.0
    assert share.read() is None


@pytest.mark.parametrize("quota", ["max 100000", "", None])
def test_else_the_machine_is_measured(
    quota: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = type(psutil.cpu_times())
    zero = dict.fromkeys(times._fields, 0.0)
    if quota is not None:
        group(tmp_path, quota, 5)
    guests = {"guest": 1.0} if "guest" in zero else {}
    readings = [times(**zero), times(**{**zero, "user": 3.0, "idle": 1.0, **guests})]
    monkeypatch.setattr(psutil, "cpu_times", lambda: readings.pop(0))
    share = ProcessorShare(Clock(), tmp_path)
    assert share.read() is None
    assert share.read() == pytest.approx(0.75)  # the time of guests is part of the users'
