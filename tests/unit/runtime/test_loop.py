"""The loop's lag, on virtual time and on the real loop."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing

import pytest
import uvloop
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import NoOpTracerProvider

from broker.runtime import loop
from broker.runtime.clock import SystemClock
from broker.runtime.loop import LagMonitor
from broker.telemetry.instruments import Telemetry
from tests.support.metrics import read
from tests.support.virtual_time import START, VirtualClock, VirtualLoop, run


class Slow(VirtualClock):
    """A clock on which the loop can be seen to be late."""

    late = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.late


def monitor(clock: VirtualClock, telemetry: Telemetry | None = None, window: float = 10.0) -> LagMonitor:
    return LagMonitor(clock, telemetry or Telemetry.off(), interval=0.125, window=window)


def test_a_loop_that_keeps_up_has_no_lag() -> None:
    async def main() -> None:
        lag = monitor(VirtualClock())
        assert lag.p99 == 0.0, "nothing is known yet"
        lag.start()
        await asyncio.sleep(1.0)
        lag.stop()
        assert lag.p99 == 0.0

    run(main())


def test_what_was_late_before_a_restart_is_forgotten() -> None:
    async def main() -> None:
        clock = Slow()
        lag = monitor(clock)
        seen: list[float] = []
        lag.start()
        lag.listen(seen.append)
        clock.late = 0.5
        await asyncio.sleep(0.2)
        assert lag.p99 == max(seen) == 0.5
        clock.late = 1.0
        lag.restart()
        seen.clear()
        await asyncio.sleep(1.0)
        lag.stop()
        assert lag.p99 == max(seen) == 0.0

    run(main())


def test_a_delay_is_seen_once_and_forgotten_with_the_window() -> None:
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)

    async def main() -> None:
        clock = Slow()
        lag = monitor(clock, Telemetry(NoOpTracerProvider(), meters), window=1.0)
        lag.start()
        await asyncio.sleep(0.2)
        clock.late = 0.5
        await asyncio.sleep(0.1)
        assert lag.p99 == 0.5
        assert lag.percentile(50) == 0.0
        await asyncio.sleep(1.0)
        assert lag.p99 == 0.0
        lag.stop()
        lag.stop()

    run(main())
    assert read(reader)["querybroker.event_loop.lag"] == {(): 0.5}
    meters.shutdown()


def test_a_monitor_that_was_stopped_samples_nothing() -> None:
    async def main() -> None:
        clock = Slow()
        lag = monitor(clock)
        lag.start()
        lag.stop()
        clock.late = 1.0
        await asyncio.sleep(1.0)
        assert lag.p99 == 0.0

    run(main())


def test_work_that_holds_the_real_loop_shows_as_lag() -> None:
    async def main() -> float:
        assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
        sampled = asyncio.Event()

        class Telling(Telemetry):
            def loop_lag(self, seconds: float) -> None:
                sampled.set()

        telemetry = Telling(NoOpTracerProvider(), MeterProvider(shutdown_on_exit=False))
        lag = LagMonitor(SystemClock(), telemetry, interval=0.001)
        lag.start()
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            pass
        await sampled.wait()
        lag.stop()
        return lag.p99

    assert loop.run(main()) >= 0.04


def test_the_result_and_the_error_of_a_program_come_through() -> None:
    async def answer() -> int:
        return 7

    async def fail() -> None:
        raise ValueError("no")

    assert loop.run(answer()) == 7
    with pytest.raises(ValueError, match="no"):
        loop.run(fail())


def test_the_clock_tells_utc_and_never_goes_back() -> None:
    clock = SystemClock()
    assert clock.now().tzname() == "UTC"
    first = clock.monotonic()
    assert clock.monotonic() >= first


def test_virtual_time_jumps_and_notices_that_nothing_will_happen() -> None:
    async def main() -> None:
        await asyncio.sleep(3600.0)
        assert VirtualClock().now() > START

    run(main())
    with closing(VirtualLoop()) as empty, pytest.raises(RuntimeError, match="nothing will ever happen"):
        empty._jumping.select(None)
