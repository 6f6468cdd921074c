"""A broker that holds answers is ready without its database: else nobody would get them."""

from __future__ import annotations

from typing import Any

import pytest

from broker.app.answers import HeldAnswers
from broker.app.cache import Cache
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.state import CacheState


class Tiers:
    """An answer cache with so many entries."""

    def __init__(self, count: int) -> None:
        self.count = count

    def states(self) -> tuple[CacheState, ...]:
        return (CacheState("memory", entry_count=self.count),)


def held(count: int, *, on: bool = True) -> HeldAnswers:
    tiers: Any = Tiers(count)
    some: Any = object()
    return HeldAnswers(Cache(tiers, some, on), some if on else None)


async def away() -> None:
    raise BrokerError(ErrorReason.STORE_UNAVAILABLE, "no database")


async def here() -> None:
    """It answers."""


async def test_it_is_ready_while_it_holds_answers_or_its_database_is_there() -> None:
    await held(1).ready(away)()
    await held(0).ready(here)()


@pytest.mark.parametrize("nothing", [held(0), held(5, on=False)], ids=["empty", "off"])
async def test_without_either_it_is_not(nothing: HeldAnswers) -> None:
    with pytest.raises(BrokerError, match="no database"):
        await nothing.ready(away)()
