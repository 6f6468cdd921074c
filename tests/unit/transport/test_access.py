"""Lines in the log about calls."""

from __future__ import annotations

import asyncio
import logging

import pytest

from broker.domain.principal import Principal
from broker.transport.access import ACCESS_LOGGER, TOGETHER, UnreadLog
from tests.support.virtual_time import run

ALICE, BOB = Principal("alice", "a"), Principal("bob", "b")


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, int]]:
    """Who was refused, the call that is described, and how many it stands for."""
    found = [record.__dict__ for record in caplog.records if record.name == ACCESS_LOGGER]
    caplog.clear()
    return [(line["principal"], line["request_id"], line.get("calls", 1)) for line in found]


def test_refusals_that_are_alike_share_a_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, ACCESS_LOGGER)
    log = UnreadLog()

    def refuse(request_id: str, principal: Principal = ALICE) -> None:
        log.add("s/M", "UNAVAILABLE", 0.001, request_id, principal, "OVERLOADED")

    async def main() -> None:
        for number in range(5):
            refuse(str(number))
        refuse("other", BOB)
        assert lines(caplog) == [("alice", "0", 1), ("bob", "other", 1)]
        await asyncio.sleep(1.5 * TOGETHER)
        assert lines(caplog) == [("alice", "4", 4)]
        refuse("5")
        refuse("again", BOB)
        assert lines(caplog) == [("bob", "again", 1)], "alice has had a line for this second"
        await asyncio.sleep(TOGETHER)
        assert lines(caplog) == [("alice", "5", 1)]
        await asyncio.sleep(2 * TOGETHER)
        refuse("6")
        refuse("7")
        refuse("8")
        assert lines(caplog) == [("alice", "6", 1)]
        log.flush()
        assert lines(caplog) == [("alice", "8", 2)]
        log.flush()
        await asyncio.sleep(2 * TOGETHER)
        assert lines(caplog) == []

    run(main())


def test_the_same_name_in_two_tenants_has_two_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, ACCESS_LOGGER)
    log = UnreadLog()

    async def main() -> None:
        for tenant in ("a", "b"):
            log.add("s/M", "OK", 0.001, tenant, Principal("alice", tenant), notes={"answer-kind": "live"})
        assert lines(caplog) == [("alice", "a", 1), ("alice", "b", 1)]
        log.flush()

    run(main())
