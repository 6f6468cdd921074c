"""Builds the request path: from the ports to the application that the query servicer calls."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from broker.app.answers import HeldAnswers
from broker.app.rollups import Rollups
from broker.config.settings import Settings
from broker.domain.model import Model
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.request import CallContext
from broker.pipeline import recipes
from broker.pipeline.admitted import Seats, admin_seats
from broker.pipeline.catalog import Catalog
from broker.pipeline.classified import Classifying
from broker.pipeline.contained import Contained, StaleContained
from broker.pipeline.degraded import Degrading, Down, is_up
from broker.pipeline.early import BrownedOut, Early, nobody
from broker.pipeline.execute import Loads, Noted, Observer, SnapshotAnswers
from broker.pipeline.explain import Explainer
from broker.pipeline.foretold import Foretold
from broker.pipeline.grids import GridCache
from broker.pipeline.ladder import Ladder, LowerRung
from broker.pipeline.planner import Planner
from broker.pipeline.service import QueryService
from broker.pipeline.sized import fitting
from broker.pipeline.sql import SqlGate, SqlStream
from broker.pipeline.stage import Question
from broker.pipeline.stale_cache import StaleCache
from broker.pipeline.streamed import Limits, SnapshotStream
from broker.policy.classify import Classifier, Load, Run
from broker.ports.aggregator import Aggregator
from broker.ports.clock import Clock
from broker.ports.store import QueryStore
from broker.runtime.admission import Admission
from broker.runtime.meter import Meter
from broker.telemetry.instruments import Telemetry


def build_query_service(
    settings: Settings,
    model: Model,
    store: QueryStore,
    aggregator: Aggregator,
    admission: Admission,
    clock: Clock,
    telemetry: Telemetry,
    *,
    classifier: Classifier,
    rollups: Rollups,
    noted: Noted,
    recorded: Observer,
    held: HeldAnswers | None = None,
    down: Down = is_up,
    rungs: Sequence[LowerRung] = (),
) -> QueryService:
    """The application's side of QueryService.

    ``classifier`` predicts, and learns from what is answered; ``noted`` is told of every answer, ``recorded`` of every
    question that was read. ``held`` has the answers that are held, ``rungs`` what may answer below those. ``down`` says
    why the database of a pool cannot answer, if that is known.
    """
    explore = settings.server.explore
    workers = settings.pools[PoolName.EXPLORATION].workers
    limits = Limits(explore.max_rows, explore.max_bytes, window=workers + 1)
    ids = itertools.count()

    seats = while_up(admin_seats(admission, ids), down)
    foretold = Foretold(rollups.router, clock)
    classifying = Classifying(classifier, clock, store, seats, rollups.router, foretold)
    load = loads_of(admission)

    def observe(question: Question, run: Run) -> None:
        classifying.observe(question.classified, run)
        recorded(question, run)

    cached = held.cached if held is not None else None
    grids = GridCache()
    contained, every = None, [*rungs]
    if cached is not None:
        contained = Contained(cached, aggregator, grids)
        every = [StaleCache(cached), StaleContained(contained), *rungs]
    fits = fitting(settings.server.dashboard.max_rows, settings.server.dashboard.max_bytes)
    aside = beside(settings, admission, clock, telemetry, held, every, down)
    early: Early = nobody
    if cached is not None and aside.degrading is not None:
        early = BrownedOut(aside.degrading.ladder, cached, aside.degrading.strain)
    stacks = recipes.build(
        admission,
        ids,
        SnapshotAnswers(store, rollups.rolled, aggregator, clock, observe, noted, load),
        SnapshotStream(store, rollups.rolled, aggregator, clock, observe, noted, load, limits),
        fits,
        aside,
    )
    gate = build_gate(settings, model, store, seats)
    sql = SqlStream(gate, store, aggregator, admission, classifying, clock, limits, ids, load)
    explainer = Explainer(store, classifying, seats, rollups.sealed)
    planner = build_planner(model, telemetry, grids)
    meter = Meter(settings.tenants, settings.default_tenant, clock)
    return QueryService(
        planner, stacks, classifying, explainer, sql, telemetry, limits, cached, fits, contained, meter.take, early
    )  # fmt: skip


def beside(
    settings: Settings,
    admission: Admission,
    clock: Clock,
    telemetry: Telemetry,
    held: HeldAnswers | None,
    rungs: Sequence[LowerRung],
    down: Down,
) -> recipes.Beside:
    """What stands beside the live path."""

    def strain(pool: PoolName, principal: Principal, left: float) -> float:
        return admission.strain(pool, principal, settings.pools[pool].wait_fraction * left)

    degrading = Degrading(Ladder(rungs, clock, telemetry), strain, down) if rungs else None
    return (
        recipes.Beside(degrading=degrading)
        if held is None
        else recipes.Beside(held.cached, held.flights, degrading)
    )


def while_up(seats: Seats, down: Down) -> Seats:
    """The same seats, but none while the database is known to be away: what is asked of it then comes to nothing."""

    @asynccontextmanager
    async def seat(context: CallContext) -> AsyncIterator[object]:
        if (error := down(PoolName.ADMIN)) is not None:
            raise error
        async with seats(context) as permit:
            yield permit

    return seat


def loads_of(admission: Admission) -> Loads:
    """How busy the database of a pool is, beside the one who asks: all pools that read from it count."""
    places = {pool: i for i, backend in enumerate(admission.backends()) for pool, _ in backend.demand}

    def load(pool: PoolName) -> Load:
        if (place := places.get(pool)) is None:
            return Load()
        backend = admission.backends()[place]
        return Load(max(0, backend.seats_used - 1) / max(1, backend.limit), backend.progress)

    return load


def build_planner(model: Model, telemetry: Telemetry, grids: GridCache | None = None) -> Planner:
    """Makes plans over the model."""
    return Planner(Catalog(model), grids or GridCache(), telemetry)


def build_gate(settings: Settings, model: Model, store: QueryStore, seats: Seats) -> SqlGate:
    """Lets SQL pass, or refuses it."""
    return SqlGate(store, Catalog(model), settings.server.sql_enabled, seats)
