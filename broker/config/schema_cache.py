"""The schema of the answer cache: its tiers, and how old an answer may get."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from broker.config.base import Section
from broker.config.units import MIB, Duration, Size


class CacheConfig(Section):
    """Answers that are held, in the memory of each process and in a Redis or Valkey that processes share."""

    memory: Size = 256 * MIB
    """Bytes that answers take in the memory of each process; 0 for none, and without a shared tier for no cache."""
    shared: str = ""
    """Address of the tier that processes share, as `redis://:password@host:6379/0`, `rediss://…` with TLS, or
    `unix:///path`. Empty: none."""
    timeout: Annotated[Duration, Field(ge=0.001, le=10)] = 0.05
    """Longest wait for the shared tier; what takes longer counts as not held."""
    prefix: Annotated[str, Field(pattern=r"^[\w.:-]*$")] = ""
    """What names of keys in the shared tier begin with. Empty: `fleet.name` and a name for `database.dsn` without its
    password. Processes with one prefix share answers and must be brokers of the same database, as roles that see the
    same rows."""
    max_entry: Size = MIB
    """Largest answer that is held."""
    soft_age: Duration = 0.0
    """Age up to which an answer is fresh enough where changes of its source are not tracked; past it a newer one is
    read. 0: only answers that are known to be unchanged are given out in place of live ones."""
    hard_age: Duration = 86_400.0
    """Age up to which an answer may be given out, declared as stale, where nothing better can be had."""
    poll: Annotated[Duration, Field(ge=0.01, le=60)] = 0.25
    """Time between two looks at the change counters of tracked sources."""


class DatasetCacheConfig(Section):
    """How old answers about one dataset may get."""

    soft_age: Duration | None = None
    """Age up to which an answer is fresh enough where changes are not tracked. Unset: `cache.soft_age`."""
    hard_age: Duration | None = None
    """Age up to which an answer may be given out as stale. Unset: `cache.hard_age`."""
