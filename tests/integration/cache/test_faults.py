"""A shared tier that fails costs nothing, and comes back by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from aiocache.backends.redis import RedisCache

from broker.adapters.cache_link import FaultError, Link
from broker.config.settings import CacheSettings
from broker.domain.held import Selection
from broker.runtime.clock import SystemClock
from tests.integration.cache.conftest import Open, answer, found, gone, up
from tests.support.eventually import eventually
from tests.support.proxy import Way, proxied
from tests.support.valkey import Valkey, valkey_server

KEY = "k" * 32


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """A server of this test's own, to be stopped."""
    with valkey_server() as server:
        yield server


async def test_a_server_that_dies_or_halts_is_passed_by_until_it_is_back(
    process: Open, own_valkey: Valkey
) -> None:
    given = {"shared": own_valkey.url, "prefix": "faults", "timeout": 0.25}
    one, other = await process(**given), await process(**given)
    held = answer()
    one.answers.keep(held, 100.0)
    assert await found(other) == held

    for fault, repair in (
        (own_valkey.kill, own_valkey.start),
        (own_valkey.stop, own_valkey.start),
        (own_valkey.halt, own_valkey.go_on),
    ):
        fault()
        while one.answers.states()[-1].available:
            assert await one.answers.find("x" * 32, 5.0) is None
        assert await one.answers.find(KEY, 5.0) == held  # its own
        async with one.turns.turn(KEY) as mine, one.turns.turn(KEY) as again:
            assert mine.mine
            assert again.mine
        one.answers.keep(answer("y" * 32), 100.0)
        repair()
        await up(one)
        await up(other)
        held = answer(age=0.0)
        one.answers.keep(held, 100.0)
        third = await process(**given)
        assert await found(third) == held


async def test_what_uvloop_says_of_a_connection_that_was_just_cut_is_a_fault(own_valkey: Valkey) -> None:
    link = Link(own_valkey.url, "cut", 2.0, SystemClock(), lambda: 0.5)

    async def cut(_cache: RedisCache) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    try:
        await link.trial(lambda cache: cache.client.ping())
        assert link.up
        with pytest.raises(FaultError, match="RuntimeError"):
            await link.call(cut)
    finally:
        await link.close()


async def test_a_removal_reaches_those_who_were_cut_off_and_outlives_the_server(
    process: Open, own_valkey: Valkey
) -> None:
    async with proxied(own_valkey.url) as (proxy, behind):
        given = {"prefix": "cut", "timeout": 0.25}
        one = await process(shared=own_valkey.url, **given)
        cut = await process(shared=behind, **given)
        for key in (KEY, "m" * 32):
            one.answers.keep(answer(key, dataset="flights" if key == KEY else "weather"), 100.0)
            await found(cut, key)

        proxy.way = Way.RESET
        proxy.cut()
        assert await one.answers.remove(Selection("flights")) == 1
        await up(cut, really=False)
        assert cut.answers.near(KEY) is not None  # it cannot know
        own_valkey.kill()
        own_valkey.start()
        await up(one)  # it tells the empty server what it knows
        proxy.way = Way.THROUGH
        await gone(cut)
        assert cut.answers.near("m" * 32) is not None

        late = answer()  # read before the removal
        cut.answers.keep(late, 100.0)
        assert cut.answers.near(KEY) is None


async def test_a_removal_while_the_server_is_away_is_told_when_it_is_back(
    process: Open, own_valkey: Valkey
) -> None:
    given = {"shared": own_valkey.url, "prefix": "away", "timeout": 0.25}
    one, other = await process(**given), await process(**given)
    one.answers.keep(answer(), 100.0)
    await found(other)
    own_valkey.halt()
    assert await one.answers.remove(Selection()) == 1
    own_valkey.go_on()
    await gone(other)
    assert await other.answers.find(KEY, 5.0) is None


async def test_an_emptied_server_holds_nothing_and_takes_answers_again(
    process: Open, shared_valkey: Valkey, settings: CacheSettings
) -> None:
    one, other = await process(), await process()
    one.answers.keep(answer(), 100.0)
    await found(other)
    third = await process()
    with shared_valkey.client() as client:
        client.delete(*client.keys(f"{settings.prefix}:*"))
    assert await third.answers.find(KEY, 5.0) is None
    assert one.answers.near(KEY) is not None
    newer = replace(answer(), seconds=9.0)
    other.answers.keep(newer, 100.0)
    assert await found(third) == newer


async def test_addresses_have_passwords_and_sockets(process: Open, caplog: pytest.LogCaptureFixture) -> None:
    with valkey_server() as server, server.client() as client:
        client.config_set("requirepass", "secret")
        one = await process(shared=server.url.replace("//", "//:secret@"), prefix="named")
        other = await process(shared=f"unix://:secret@{server.socket}", prefix="named")
        one.answers.keep(answer(), 100.0)
        await found(other)

        async def heard() -> bool:
            return bool(client.pubsub_numsub("named:removed")[0][1] == 2)

        await eventually(heard, "both hear messages")
        assert await other.answers.remove(Selection()) == 1
        await gone(one)
        assert "secret" not in caplog.text
