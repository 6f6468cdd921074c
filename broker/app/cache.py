"""Opens the tiers of the answer cache."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from random import Random
from urllib.parse import parse_qsl, urlsplit

from broker.adapters.cache_answers import Answers
from broker.adapters.cache_link import Link
from broker.adapters.cache_memory import MemoryTier
from broker.adapters.cache_news import News, listen
from broker.adapters.cache_shared import SharedTier
from broker.adapters.cache_turns import OwnTurns, SharedTurns
from broker.app.behind import behind
from broker.app.process import Process
from broker.config.settings import CacheSettings, Settings
from broker.domain.fingerprint import fingerprint
from broker.domain.model import Dataset, Model
from broker.policy.freshness import Ages
from broker.policy.removals import Removals
from broker.ports.cache import AnswerCache, Turns
from broker.ports.clock import Clock
from broker.telemetry import catalog_cache as catalog
from broker.telemetry.instruments import Telemetry

TOKEN_BITS = 128
LIBPQ = ("PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE")
"""What names a database where its address does not."""


@dataclass(frozen=True, slots=True)
class Cache:
    """The open cache; where it is off, ``answers`` holds nothing and every turn is one's own."""

    answers: AnswerCache
    turns: Turns
    enabled: bool


def ages(settings: CacheSettings, dataset: Dataset) -> Ages:
    """How old answers about a dataset may get."""
    soft = settings.soft_age if dataset.soft_age is None else dataset.soft_age
    hard = settings.hard_age if dataset.hard_age is None else dataset.hard_age
    return Ages(soft, hard, dataset.max_staleness)


def among_readers(given: CacheSettings, dsn: str, env: Mapping[str, str]) -> CacheSettings:
    """The settings, with a name in the prefix for who reads which database, unless one was given.

    The same model gives other answers elsewhere, or to a role with other rights. A new password changes nothing.
    """
    if given.prefix_given:
        return given
    parts = urlsplit(dsn)
    told = [pair for pair in parse_qsl(parts.query) if pair[0] not in ("password", "passfile")]
    unsaid = () if parts.netloc else tuple(env.get(name, "") for name in LIBPQ)
    reader = fingerprint(
        parts.username or "", parts.netloc.rpartition("@")[2], parts.path, sorted(told), unsaid
    )
    return replace(given, prefix=f"{given.prefix}:{reader[:12]}")


@asynccontextmanager
async def cache(settings: Settings, model: Model, own: Process) -> AsyncIterator[Cache]:
    """The tiers of the settings. A shared tier that cannot be reached keeps nobody from starting."""
    given = among_readers(settings.cache, settings.database.dsn, os.environ)
    longest = max((ages(given, dataset).hard for dataset in model.datasets.values()), default=given.hard_age)
    async with tiers(given, longest, own.clock, own.random, own.telemetry) as opened:
        yield opened


@asynccontextmanager
async def tiers(
    given: CacheSettings, longest: float, clock: Clock, chance: Random, telemetry: Telemetry
) -> AsyncIterator[Cache]:
    """The tiers of some settings; no answer is kept for more than ``longest`` seconds."""
    removals = Removals(longest)
    answers = Answers(MemoryTier(given.memory, given.max_entry, clock), removals, clock, telemetry)
    async with AsyncExitStack() as stack:
        stack.callback(telemetry.observe(catalog.CACHE_SIZE, answers.sizes))
        stack.callback(telemetry.observe(catalog.CACHE_ENTRIES, answers.entries))
        turns: Turns = OwnTurns()
        if given.shared:
            shared = _shared(given, longest, answers, removals, clock, chance, telemetry)
            turns = await stack.enter_async_context(shared)
        yield Cache(answers, turns, given.enabled)


@asynccontextmanager
async def _shared(
    given: CacheSettings,
    longest: float,
    answers: Answers,
    removals: Removals,
    clock: Clock,
    chance: Random,
    telemetry: Telemetry,
) -> AsyncIterator[Turns]:
    """Adds the shared tier to the answers, and keeps what works behind it going."""

    def token() -> str:
        return f"{chance.getrandbits(TOKEN_BITS):032x}"

    link = Link(given.shared, given.prefix, given.timeout, clock, chance.random)
    tier = SharedTier(link, given.max_entry, clock, telemetry)
    news = News(link, removals, longest, clock, answers.learn, token, chance.random)
    turns = SharedTurns(link, tier, clock, token, chance.random)
    answers.share(tier, news)
    hear: dict[str, Callable[[bytes], None]] = {news.channel: news.wake, turns.channel: turns.ended}
    work = {
        "cache writes": tier.write(),
        "cache news": news.watch(),
        "cache turns": turns.renew(),
        "cache messages": listen(given.shared, hear, news.wake, chance.random),
    }
    try:
        async with behind(work):
            yield turns
    finally:
        await link.close()
