"""Opens the tiers of the answer cache."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from broker.adapters.cache_answers import Answers
from broker.adapters.cache_memory import MemoryTier
from broker.adapters.cache_turns import OwnTurns
from broker.app.process import Process
from broker.config.settings import CacheSettings, Settings
from broker.domain.model import Dataset, Model
from broker.policy.freshness import Ages
from broker.policy.removals import Removals
from broker.ports.cache import AnswerCache, Turns


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


@asynccontextmanager
async def cache(settings: Settings, model: Model, own: Process) -> AsyncIterator[Cache]:
    """The tiers of the settings. A shared tier that cannot be reached keeps nobody from starting."""
    given = settings.cache
    memory = MemoryTier(given.memory, given.max_entry, own.clock)
    longest = max((ages(given, dataset).hard for dataset in model.datasets.values()), default=given.hard_age)
    removals = Removals(longest)
    yield Cache(Answers(memory, removals, own.clock), OwnTurns(), given.enabled)
