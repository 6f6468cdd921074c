"""Work behind the calls: cancelled in the end, and told of when it ends by a mistake."""

from __future__ import annotations

import asyncio

import pytest

from broker.app.behind import behind


async def test_a_mistake_is_told_of_at_once_and_ends_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    failed, ended = asyncio.Event(), asyncio.Event()

    async def failing() -> None:
        failed.set()
        raise ValueError("a mistake")

    async def going_on() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with behind({"first": failing(), "second": going_on()}):
        await failed.wait()
        await asyncio.sleep(0)
        assert [record.getMessage() for record in caplog.records] == ["first ended"]
        assert not ended.is_set()
    assert ended.is_set()
    assert len(caplog.records) == 1, "what is cancelled is no mistake"
