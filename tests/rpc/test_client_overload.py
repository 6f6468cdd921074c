"""The clients beside a server that refuses: how often they ask, when they retry, and what they hold back themselves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.request import (
    CallContext,
    DashboardAsk,
    DashboardOutcome,
    ExploreAsk,
    ExploreEvent,
    ExploreHeader,
)
from querybroker import (
    Client,
    QueryBrokerError,
    SyncClient,
    Throttle,
    ThrottledError,
    ThrottleSettings,
    query,
)
from querybroker.channel import SERVICE_CONFIG
from tests.rpc.fakes import NOON
from tests.rpc.serving import Serving

QUERY = query("flights", measures="flights")
NO_WAY_BACK = ThrottleSettings(interval=float("inf"))


def refusing(broker: Serving, reason: ErrorReason, retry_after: float | None = 0.001) -> None:
    """Makes the server refuse everything."""

    def refuse() -> None:
        raise BrokerError(reason, "Not now.", retry_after=retry_after)

    async def dashboard(_context: CallContext, _ask: DashboardAsk) -> DashboardOutcome:
        refuse()
        return DashboardOutcome(())

    async def explore(_context: CallContext, _ask: ExploreAsk) -> AsyncGenerator[ExploreEvent, None]:
        refuse()
        yield ExploreHeader((), NOON)

    broker.queries.on_dashboard, broker.queries.on_explore = dashboard, explore


def attempts(broker: Serving) -> list[int]:
    return [context.attempt for context in broker.queries.contexts]


async def fails(client: Client, *, stream: bool = False) -> QueryBrokerError:
    with pytest.raises(QueryBrokerError) as caught:
        await (client.explore(QUERY).collect() if stream else client.ask(QUERY))
    return caught.value


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reason", [ErrorReason.OVERLOADED, ErrorReason.STORE_UNAVAILABLE])
async def test_a_call_is_tried_three_times_and_the_error_has_the_hint(
    broker: Serving, reason: ErrorReason, stream: bool
) -> None:
    refusing(broker, reason)
    async with Client(broker.address) as client:
        error = await fails(client, stream=stream)
    assert attempts(broker) == [0, 1, 2]
    assert (error.reason, error.retry_after, error.retryable) == (reason.value, 0.001, True)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reason", [ErrorReason.TENANT_QUOTA, ErrorReason.DEADLINE_TOO_SHORT])
async def test_negative_pushback_is_obeyed(broker: Serving, reason: ErrorReason, stream: bool) -> None:
    refusing(broker, reason)
    async with Client(broker.address) as client:
        error = await fails(client, stream=stream)
    assert attempts(broker) == [0]
    assert error.forbidden
    assert not error.retryable


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hint_beyond_the_deadline_is_told_at_once(broker: Serving, stream: bool) -> None:
    """Else the library would wait for the deadline in vain, and say nothing but that it has passed."""
    refusing(broker, ErrorReason.STORE_UNAVAILABLE, 3_600.0)
    async with Client(broker.address, timeout=300.0) as client:
        error = await fails(client, stream=stream)
    assert attempts(broker) == [0]
    assert (error.reason, error.retry_after, error.forbidden) == ("STORE_UNAVAILABLE", 3_600.0, True)


async def test_retries_end_while_much_fails(broker: Serving) -> None:
    """100 tokens, one for every failure and a tenth back for every success: below 50 nothing is retried."""
    refusing(broker, ErrorReason.OVERLOADED)
    async with Client(broker.address, throttle=False) as client:
        for _ in range(100):
            await fails(client)
    seen = attempts(broker)
    assert seen.count(0) == 100
    assert len(seen) - 100 <= 50


async def test_a_client_that_is_refused_holds_back_most_calls_and_says_so(broker: Serving) -> None:
    refusing(broker, ErrorReason.OVERLOADED)
    throttle = Throttle(NO_WAY_BACK, chance=lambda: 0.5)
    async with Client(broker.address, throttle=throttle) as client:
        errors = [await fails(client) for _ in range(100)]
        with pytest.raises(ThrottledError):
            client.explore(QUERY)
    held = [error for error in errors if isinstance(error, ThrottledError)]
    assert len(held) == 80
    assert attempts(broker).count(0) == 20
    last = held[-1]
    assert (last.code, last.reason, last.retry_after) == ("UNAVAILABLE", "", 1.0)
    assert broker.address in last.message
    assert last.metadata["share"] == "0.95"


async def test_it_can_be_switched_off(broker: Serving) -> None:
    refusing(broker, ErrorReason.OVERLOADED)
    async with Client(broker.address, throttle=False) as client:
        errors = [await fails(client) for _ in range(60)]
    assert not any(isinstance(error, ThrottledError) for error in errors)
    assert attempts(broker).count(0) == 60


async def test_answers_and_the_callers_own_faults_hold_nothing_back(broker: Serving) -> None:
    throttle = Throttle(NO_WAY_BACK, chance=lambda: 0.0)
    async with Client(broker.address, throttle=throttle) as client:
        await asyncio.gather(*(client.ask(QUERY) for _ in range(30)))
        refusing(broker, ErrorReason.POLICY_UNSATISFIABLE)
        for _ in range(60):
            assert (await fails(client)).reason == "POLICY_UNSATISFIABLE"
            assert (await fails(client, stream=True)).reason == "POLICY_UNSATISFIABLE"


async def test_the_synchronous_client_holds_back_as_well(broker: Serving) -> None:
    refusing(broker, ErrorReason.OVERLOADED)

    def ask() -> list[type[QueryBrokerError]]:
        found: list[type[QueryBrokerError]] = []
        with SyncClient(broker.address, throttle=Throttle(NO_WAY_BACK, chance=lambda: 0.5)) as client:
            for number in range(60):
                try:
                    if number % 2:
                        client.explore(QUERY).collect()
                    else:
                        client.ask(QUERY)
                except QueryBrokerError as error:
                    found.append(type(error))
        return found

    kinds = await asyncio.to_thread(ask)
    assert kinds.count(QueryBrokerError) == 20
    assert kinds.count(ThrottledError) == 40


async def test_recovery_is_found_out_by_the_calls_that_still_go_out(broker: Serving) -> None:
    now = 0.0
    healthy = broker.queries.on_dashboard
    refusing(broker, ErrorReason.OVERLOADED)
    async with Client(broker.address, throttle=Throttle(clock=lambda: now, chance=lambda: 0.0)) as client:
        for _ in range(50):
            await fails(client)
        broker.queries.on_dashboard = healthy
        for _ in range(5):
            now += 1.0
            assert len(await client.ask(QUERY)) == 3
        for _ in range(30):
            await client.ask(QUERY)


async def test_clients_of_one_broker_and_tenant_may_share_what_they_know(broker: Serving) -> None:
    refusing(broker, ErrorReason.OVERLOADED)
    throttle = Throttle(NO_WAY_BACK, chance=lambda: 0.0)
    async with (
        Client(broker.address, throttle=throttle) as one,
        Client(broker.address, throttle=throttle) as other,
    ):
        for _ in range(20):
            await fails(one)
        assert isinstance(await fails(other), ThrottledError)


def test_the_service_config_is_the_documented_one() -> None:
    config = json.loads(SERVICE_CONFIG)
    (method,) = config["methodConfig"]
    assert method["retryPolicy"] == {
        "maxAttempts": 3,
        "initialBackoff": "0.2s",
        "maxBackoff": "5s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    assert config["retryThrottling"] == {"maxTokens": 100, "tokenRatio": 0.1}
    methods = {name.get("method") for name in method["name"]}
    assert not methods & {"WatchJob", "ReadJobResult"}  # they go on by themselves
