"""The oracle's datasets over the shared flights, and ways to ask the shared broker."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest

from tests.oracle.ask import Asker, channel_to
from tests.oracle.flights import all_models
from tests.oracle.generate import QuerySpace
from tests.oracle.zones import micros
from tests.support.flights_frames import FlightsFrames
from tests.support.server import RunningBroker


@pytest.fixture(scope="session")
def seed() -> int:
    """Seed of the random queries; the environment variable ANSWERS_SEED asks for another one."""
    return int(os.environ.get("ANSWERS_SEED", "2013"))


@pytest.fixture(scope="session")
def spaces(flights_frames: FlightsFrames) -> Sequence[QuerySpace]:
    """The queries that can be asked now, by dataset; the flights first."""
    now = micros(datetime.now(UTC))
    return [QuerySpace.over(model, now) for model in all_models(flights_frames)]


@pytest.fixture
async def asker(broker_server: RunningBroker) -> AsyncIterator[Asker]:
    """Asks the shared broker."""
    async with channel_to(broker_server.address) as channel:
        yield Asker(channel)
