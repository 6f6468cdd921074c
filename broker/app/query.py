"""Builds the request path: from the ports to the application that the query servicer calls."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from random import Random

from broker.config.settings import Settings
from broker.domain.model import Model
from broker.domain.pool import PoolLimits, PoolName
from broker.domain.request import RequestKind
from broker.pipeline import recipes
from broker.pipeline.admitted import Seats, admin_seats
from broker.pipeline.catalog import Catalog
from broker.pipeline.classified import Classifying
from broker.pipeline.execute import Live
from broker.pipeline.explain import Explainer
from broker.pipeline.grids import GridCache
from broker.pipeline.planner import Planner
from broker.pipeline.service import QueryService
from broker.pipeline.sql import SqlGate, SqlStream
from broker.pipeline.stage import Question
from broker.pipeline.streamed import Limits, LiveStream
from broker.policy.admission.scheduler import Scheduler
from broker.policy.classify import Classifier, Run
from broker.ports.aggregator import Aggregator
from broker.ports.clock import Clock
from broker.ports.store import QueryStore
from broker.runtime.admission import Admission
from broker.telemetry.instruments import Telemetry


def build_admission(
    limits: Mapping[PoolName, PoolLimits], clock: Clock, telemetry: Telemetry, random: Random
) -> Admission:
    """Seats for the pools."""
    return Admission(Scheduler(limits, random.getrandbits(64)), clock, telemetry)


def build_query_service(
    settings: Settings,
    model: Model,
    store: QueryStore,
    aggregator: Aggregator,
    admission: Admission,
    clock: Clock,
    telemetry: Telemetry,
) -> QueryService:
    """The application's side of QueryService."""
    classifying = Classifying(Classifier(), clock)
    explore = settings.server.explore
    workers = settings.pools[PoolName.EXPLORATION].workers
    limits = Limits(explore.max_rows, explore.max_bytes, window=workers + 1)
    ids = itertools.count()

    def observe(question: Question, kind: RequestKind, run: Run) -> None:
        classifying.observe(question.plan.fingerprint, kind, run)

    stacks = recipes.build(
        admission,
        ids,
        Live(store, aggregator, clock, observe),
        LiveStream(store, aggregator, clock, observe, limits),
        recipes.PanelLimits(settings.server.dashboard.max_rows, settings.server.dashboard.max_bytes),
    )
    seats = admin_seats(admission, ids)
    gate = build_gate(settings, model, store, seats)
    sql = SqlStream(gate, store, aggregator, admission, classifying, clock, limits, ids)
    explainer = Explainer(store, classifying, seats)
    return QueryService(build_planner(model, telemetry), stacks, classifying, explainer, sql, telemetry)


def build_planner(model: Model, telemetry: Telemetry) -> Planner:
    """Makes plans over the model."""
    return Planner(Catalog(model), GridCache(), telemetry)


def build_gate(settings: Settings, model: Model, store: QueryStore, seats: Seats) -> SqlGate:
    """Lets SQL pass, or refuses it."""
    return SqlGate(store, Catalog(model), settings.server.sql_enabled, seats)
