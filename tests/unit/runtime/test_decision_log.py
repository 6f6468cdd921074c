"""The decision log is written beside the loop, and can be played again."""

from __future__ import annotations

import asyncio
import errno
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import NoOpTracerProvider

from broker.domain.errors import BrokerError
from broker.domain.pool import PoolLimits
from broker.policy.admission.assemble import core_of
from broker.policy.admission.events import Configuration, Entry, Lost, Ticked
from broker.policy.admission.observed import ObservedCore
from broker.policy.admission.record import read
from broker.runtime import decision_log
from broker.runtime.admission import Admission
from broker.runtime.clock import SystemClock
from broker.runtime.decision_log import DecisionLog
from broker.simulation import replay
from broker.telemetry.instruments import Telemetry
from tests.support import metrics
from tests.support.seats import POOL, ask, hold
from tests.support.virtual_time import VirtualClock, run

CONFIGURATION = Configuration({POOL: PoolLimits(2, 5, 1, 1)}, seed=7)


def log_at(path: Path, size: int = 1 << 20, telemetry: Telemetry | None = None) -> DecisionLog:
    return DecisionLog(path, CONFIGURATION, SystemClock(), telemetry or Telemetry.off(), size)


def tick(number: int) -> Entry:
    return Entry(float(number), Ticked())


def events(path: Path) -> list[Entry]:
    with path.open() as lines:
        return list(read(lines)[1])


def test_what_a_broker_decided_is_decided_again(tmp_path: Path) -> None:
    path = tmp_path / "logs/decisions.jsonl"

    async def main() -> None:
        log = DecisionLog(path, CONFIGURATION, VirtualClock(), Telemetry.off(), 1 << 20)
        log.start()
        core = ObservedCore(core_of(CONFIGURATION), log.told)
        admission = Admission(core, VirtualClock(), Telemetry.off())

        async def client(number: int) -> None:
            await asyncio.sleep(number * 0.3)
            with suppress(BrokerError):
                deadline = asyncio.get_running_loop().time() + 9.0
                await hold(admission, ask(str(number), deadline, f"t{number % 3}"), 1.0)

        await asyncio.gather(*map(client, range(40)))
        admission.refusal(POOL, "t1")
        admission.drain()
        admission.close()
        log.close()

    run(main())
    played = replay.run(path)
    assert played.difference is None
    assert played.decisions["admitted"] > 20
    assert played.decisions["refused"] > 0


def test_a_full_file_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    log = log_at(path, size=4_000)
    log.start()
    count = 1_000
    for number in range(count):
        log.told(tick(number))
    log.close()
    older, newer = events(tmp_path / "d.jsonl.1"), events(path)
    assert isinstance(newer[0].event, Lost)
    assert newer[0].event.count + len(newer) - 1 == count
    assert [entry.at for entry in older[1:] + newer[1:]] == list(
        range(count - len(older) - len(newer) + 2, count)
    )
    assert path.stat().st_size < 10_000


def test_the_log_of_an_earlier_start_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    for at in (1, 2):
        log = log_at(path)
        log.start()
        log.told(tick(at))
        log.close()
    assert events(tmp_path / "d.jsonl.1") == [tick(1)]
    assert events(path) == [tick(2)]


def test_events_that_cannot_be_taken_are_counted_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision_log, "MOST_WAITING", 10)
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    log = log_at(tmp_path / "d.jsonl", telemetry=Telemetry(NoOpTracerProvider(), meters))
    for number in range(25):  # before the thread begins
        log.told(tick(number))
    log.start()
    log.close()
    found = events(tmp_path / "d.jsonl")
    assert found == [*map(tick, range(10)), Entry(9.0, Lost(15))]
    assert metrics.read(reader)["querybroker.decision_log.lost"] == {(): 15}
    meters.shutdown()


def test_a_disk_that_is_full_for_a_while_costs_events_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "d.jsonl"
    log = log_at(path)
    full, failed = threading.Event(), threading.Event()
    full.set()
    write = DecisionLog._write

    def limited(self: DecisionLog, text: str) -> None:
        if full.is_set():
            failed.set()
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, text)

    monkeypatch.setattr(DecisionLog, "_write", limited)
    log.start()
    log.told(tick(1))
    assert failed.wait(10)
    full.clear()
    log.told(tick(2))
    log.close()
    assert events(path) == [tick(2), Entry(2.0, Lost(1))]
    assert [record.getMessage() for record in caplog.records] == [
        "the decision log cannot be written: No space left on device"
    ]


def test_a_file_that_cannot_be_made_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        log_at(tmp_path / "file" / "d.jsonl").start()
