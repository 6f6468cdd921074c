"""What breaks first when traffic doubles: a recorded load, several times over, on a model of the database it ran on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.domain.pool import PoolName
from broker.policy.admission.events import Configuration
from broker.simulation.cores import CoreFactory
from broker.simulation.engine import Engine
from broker.simulation.fit import Fit, fit
from broker.simulation.replay import load as load_of
from broker.simulation.result import quantile
from broker.simulation.traced import broker_core, play
from broker.simulation.watch import Part, Seen, Watch

LOADS = (1.0, 1.25, 1.5, 2.0, 3.0)
REFUSED, LATE = 0.01, 0.01
FEWEST = 5
"""Requests that must be refused or late; fewer are chance."""
EVERYBODY = ""
"""The tenant of a row about a whole pool."""


@dataclass(frozen=True, slots=True)
class Row:
    """A pool, or one tenant in it, under one load.

    ``refused`` and ``late`` are shares of the requests; ``wait`` is the 99th percentile in seconds, ``budget`` that of
    waits as parts of what each request was allowed to wait; ``part`` is what most refusals were for want of.
    """

    load: float
    pool: PoolName
    tenant: str
    requests: int
    refused: float
    late: float
    wait: float
    budget: float
    part: Part | None
    broken: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Use:
    """A database under one load: mean seats in use, and the share of what it could do that it did.

    It runs ``slots`` seats at full speed; ``seen`` says whether the recorded load shows that or a setting is believed.
    """

    load: float
    database: str
    slots: float
    seen: bool
    seats: float
    limit: float
    busy: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """The answer: rows for every load, pool and tenant, the use of the databases, and the whole in a sentence."""

    rows: tuple[Row, ...]
    uses: tuple[Use, ...]
    sentence: str

    @property
    def first(self) -> Row | None:
        """What breaks first, a tenant rather than its pool, or None."""
        return first_broken(self.rows)


def run(
    logs: Path | Sequence[Path],
    configuration: Configuration | None = None,
    *,
    loads: Sequence[float] = LOADS,
    seed: int = 0,
    make: CoreFactory = broker_core,
) -> Outlook:
    """Offers the load of a decision log several times over to the core of ``configuration``, or to that of the log.

    Logs of several processes are taken together, as if one broker had served all.

    Raises:
        LogError: the file is no decision log, or holds no request.
        OSError: it cannot be read.
    """
    trace = load_of(logs)
    fitted = fit(trace, seed)
    rows: list[Row] = []
    uses: list[Use] = []
    for load in sorted(loads):
        watch = Watch(configuration or trace.configuration)
        _, engine = play(
            trace, fitted, load=load, seed=seed, make=make, configuration=configuration, wrap=watch.over
        )
        rows += _rows(load, watch)
        uses += _uses(load, engine, fitted, trace.seconds)
    return Outlook(tuple(rows), tuple(uses), sentence(rows, uses))


def _rows(load: float, watch: Watch) -> list[Row]:
    pools: dict[PoolName, Seen] = {}
    for (pool, _), seen in watch.seen.items():
        pools.setdefault(pool, Seen()).add(seen)
    rows = [_row(load, pool, EVERYBODY, whole) for pool, whole in pools.items()]
    rows += [_row(load, pool, tenant, seen) for (pool, tenant), seen in watch.seen.items()]
    return sorted(rows, key=lambda row: (row.pool, row.tenant))


def _row(load: float, pool: PoolName, tenant: str, seen: Seen) -> Row:
    refused, late = seen.refused / seen.offered, seen.late / seen.offered
    budget = quantile(seen.budgets, 0.99)
    broken = [
        sign
        for sign, wrong in (
            ("refusals", refused > REFUSED and seen.refused >= FEWEST),
            ("waits", budget >= 1.0 and len(seen.budgets) >= FEWEST),
            ("late", late > LATE and seen.late >= FEWEST),
        )
        if wrong
    ]
    part = seen.parts.most_common(1)[0][0] if seen.parts else None
    wait = quantile(seen.waits, 0.99)
    return Row(load, pool, tenant, seen.offered, refused, late, wait, budget, part, tuple(broken))


def _uses(load: float, engine: Engine, fitted: Fit, seconds: float) -> list[Use]:
    [core] = engine.cores
    limits = {backend.name: float(backend.limit) for backend in core.backends()}
    seen = {each.backend.name for each in fitted.databases if each.seen}
    held = dict.fromkeys(engine.names, 0.0)
    for population, tally in zip(engine.scenario.populations, engine.recorder.tallies, strict=True):
        held[engine.scenario.database_of(population.pool).name] += tally.used / seconds
    return [
        Use(
            load,
            database.name,
            database.slots,
            database.name in seen,
            held[database.name],
            limits.get(database.name, float(database.seats or 0)),
            min(1.0, model.done / database.slots / seconds),
        )
        for database, model in zip(engine.scenario.databases, engine.models, strict=True)
    ]


def first_broken(rows: Sequence[Row]) -> Row | None:
    """Under the least load that breaks anything, what breaks most: a tenant alone, or a pool for several tenants."""
    broken = [row for row in rows if row.broken]
    if not broken:
        return None
    least = min(row.load for row in broken)
    at_once = [row for row in broken if row.load == least]
    worst = max(at_once, key=lambda row: (row.refused + row.late, row.tenant))
    alike = {row.tenant for row in at_once if row.pool is worst.pool and row.tenant != EVERYBODY}
    if len(alike) > 1:
        whole = [row for row in at_once if row.pool is worst.pool and row.tenant == EVERYBODY]
        return whole[0] if whole else worst
    return next((row for row in at_once if row.pool is worst.pool and row.tenant in alike), worst)


def sentence(rows: Sequence[Row], uses: Sequence[Use]) -> str:
    """The answer in words."""
    first = first_broken(rows)
    most = max((row.load for row in rows), default=1.0)
    if first is None:
        busiest = max(uses, key=lambda use: use.busy)
        return (
            f"Nothing breaks up to {most:g} times the recorded traffic; the database {busiest.database!r} is then "
            f"{busiest.busy:.0%} busy."
        )
    when = "Already at the recorded traffic" if first.load <= 1.0 else f"At {first.load:g} times the traffic"
    who = f"the pool {first.pool.value!r}"
    if first.tenant != EVERYBODY:
        who = f"the tenant {first.tenant!r} in {who}"
    said = f"{when} {who} breaks first: {_symptom(first)}{_cause(first, uses)}"
    tenants = [
        row for row in rows if (row.load, row.pool) == (first.load, first.pool) and row.tenant != EVERYBODY
    ]
    if first.tenant == EVERYBODY and len(tenants) > 1:
        worst = max(tenants, key=lambda row: (row.refused + row.late, row.tenant))
        said += f"; hit hardest is the tenant {worst.tenant!r}, with {worst.refused + worst.late:.1%}"
    return f"{said}."


def _symptom(row: Row) -> str:
    if "refusals" in row.broken:
        return f"{row.refused:.1%} of its requests are refused"
    if "late" in row.broken:
        return f"{row.late:.1%} of its requests miss their deadline"
    return f"its waits reach {row.wait:.2f} s at the 99th percentile, all that they may"


def _cause(row: Row, uses: Sequence[Use]) -> str:
    use = max((use for use in uses if use.load == row.load), key=lambda use: use.busy)
    full = f"the database {use.database!r} is {use.busy:.0%} busy"
    match row.part:
        case None:
            return f", and {full}"
        case Part.SEATS:
            return f" for want of seats, {use.seats:.1f} of {use.limit:g} being used on average, and {full}"
        case Part.SHARE:
            return f" because what other pools own is not lent to it, and {full}"
        case Part.DEADLINE:
            return " because its deadlines are shorter than its queries"
        case part:
            return f" because of the bound on its {part.value}, and {full}"
