"""What is simulated: databases, populations of clients, and how load and capacity change over time. All values.

Times are seconds of the virtual clock from the start of the run; work is seconds on an idle database, in one seat.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from broker.domain.pool import LimitMode, PoolLimits, PoolName, TenantLimits
from broker.domain.principal import Criticality
from broker.policy.admission.values import Signal


class Model(StrEnum):
    """How a database behaves when many queries run; see the modules of `broker.simulation.backends`."""

    SHARING = "sharing"
    SLOTS = "slots"
    SPILL = "spill"
    CONVOY = "convoy"
    REPLICAS = "replicas"


class Retry(StrEnum):
    """What a client does with a refusal.

    NAIVE tries again after 0.1 s and 0.2 s, each time with a whole new deadline, after a timeout as well. POLITE is a
    client with a retry budget: it tries again only when a pushback says when, inside its first deadline.
    """

    NONE = "none"
    NAIVE = "naive"
    POLITE = "polite"


class Predicts(StrEnum):
    """What the broker knows of a query before it runs.

    CALIBRATED is the conditional median: of queries predicted at p, half take longer than p. ABSENT is the median of
    the class for everybody. NOISY is the true work times an error, whose lowest values are the most wrong.
    """

    CALIBRATED = "calibrated"
    ABSENT = "absent"
    NOISY = "noisy"


@dataclass(frozen=True, slots=True)
class Work:
    """Log-normal work of one kind of query: its ``median`` in seconds, the ``sigma`` of its logarithm.

    Each takes ``seats`` and has a peak of ``memory`` bytes.
    """

    median: float
    sigma: float = 0.8
    seats: int = 1
    memory: int = 0

    @property
    def mean(self) -> float:
        """Mean seat-seconds of a query."""
        return self.median * math.exp(self.sigma * self.sigma / 2) * self.seats


@dataclass(frozen=True, slots=True)
class Predictor:
    """How predictions err: ``sigma`` is of the logarithm of the error; all are multiplied by ``bias``."""

    kind: Predicts = Predicts.CALIBRATED
    sigma: float = 0.5
    bias: float = 1.0


@dataclass(frozen=True, slots=True)
class Population:
    """Clients of one kind.

    They send ``rate`` requests per second all together, or as many as make ``load`` times the nominal capacity of the
    database, at random instants; with a ``period``, all at once every period. Requests come as loads of ``panels``,
    one load group each when there are several. ``tenants`` of them differ by ``demands`` and ``sizes``, factors of
    rate and work that are repeated as needed; with ``tenants_of`` they are the tenants of another population. A client
    waits ``timeout`` seconds at most (``math.inf``: for ever, and without a deadline), or leaves sooner, after
    ``patience`` seconds on average; reading an answer takes it ``reading`` seconds on average.
    """

    name: str
    work: Work
    pool: PoolName = PoolName.EXPLORATION
    rate: float = 0.0
    load: float = 0.0
    tenants: int = 1
    tenants_of: str = ""
    demands: tuple[float, ...] = (1.0,)
    sizes: tuple[float, ...] = (1.0,)
    weights: tuple[float, ...] = (1.0,)
    timeout: float = 3.0
    patience: float = math.inf
    reading: float = 0.0
    panels: int = 1
    period: float = 0.0
    criticality: Criticality = Criticality.CRITICAL
    predictor: Predictor = Predictor()
    retry: Retry = Retry.NONE


@dataclass(frozen=True, slots=True)
class Database:
    """A backend: a model, its ``slots`` of full speed, and the pools that it serves.

    ``thrash`` is the part of the excess ratio by which throughput falls. ``memory`` in bytes bounds what fits before
    queries spill, each excess slowing all by ``spill`` of its ratio. ``serial`` is the part of every query that needs
    one lock, ``handover`` what each waiter adds to its price. ``nodes`` share the slots in the model of replicas.

    ``seats`` is the setting of the broker (None: the slots), ``mode`` says whether its limit follows the database.
    ``pressure`` is how often the database is asked how it fares, 0 for never.
    """

    name: str = "database"
    model: Model = Model.SHARING
    slots: float = 32.0
    pools: tuple[PoolName, ...] = (PoolName.EXPLORATION,)
    thrash: float = 0.25
    memory: int = 0
    spill: float = 1.0
    serial: float = 0.0
    handover: float = 0.02
    nodes: int = 1
    seats: int | None = None
    floor: int = 2
    ceiling: int = 400
    mode: LimitMode = LimitMode.STATIC
    pressure: float = 0.0


@dataclass(frozen=True, slots=True)
class Stage:
    """From ``at`` on, the populations named in ``only`` (none: all) send ``load`` times what they are set to."""

    at: float
    load: float
    only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """At ``at``, a database changes: its ``slots``, its ``speed`` (0 stands still, 1 is normal), or one ``node``.

    A ``signal`` is told to the broker at the same instant; without one it has to find out.
    """

    at: float
    database: str = "database"
    slots: float | None = None
    speed: float | None = None
    node: int | None = None
    signal: Signal | None = None


@dataclass(frozen=True, slots=True)
class Expect:
    """A figure of the result and the range it should be in, both ends included."""

    metric: str
    least: float = -math.inf
    most: float = math.inf


def one_pool(phi: float = 0.15) -> Mapping[PoolName, PoolLimits]:
    """A single pool that owns every seat; a request waits at most the part ``phi`` of its slack."""
    limits = PoolLimits(in_flight=100_000, queue=5_000, connections=0, workers=0, wait_fraction=phi)
    return {PoolName.EXPLORATION: limits}


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run, measured from ``warmup`` to ``seconds``, after which load goes on until what began could end.

    Clients that leave are told of by ``kills``: the broker ends their queries, ``kill_lag`` seconds later. Without,
    queries run on. ``brokers`` are so many processes before the same databases.
    """

    name: str
    populations: tuple[Population, ...]
    seconds: float = 220.0
    warmup: float = 20.0
    about: str = ""
    databases: tuple[Database, ...] = (Database(),)
    pools: Mapping[PoolName, PoolLimits] = field(default_factory=one_pool)
    tenants: Mapping[str, TenantLimits] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()
    steps: tuple[Step, ...] = ()
    expects: tuple[Expect, ...] = ()
    kills: bool = True
    kill_lag: float = 0.0
    brokers: int = 1

    @property
    def ends(self) -> float:
        """When the run stops: what was offered before ``seconds`` has ended by then, if it has a short deadline."""
        waits = [
            p.timeout * (4 if p.retry is Retry.NAIVE else 1) for p in self.populations if p.timeout < math.inf
        ]
        return self.seconds + min(30.0, max(waits, default=30.0))

    def database_of(self, pool: PoolName) -> Database:
        """The database that serves a pool."""
        return next(database for database in self.databases if pool in database.pools)
