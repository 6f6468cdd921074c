"""Datasets that jobs made, put together: who finds them, who holds their rows, and who answers from them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from broker.app.results import result_store
from broker.config.settings import JobSettings
from broker.domain.terms import AnswerPolicy
from broker.jobs.materialised import MaterialisedDatasets
from broker.jobs.materialised_rows import MaterialisedRows
from broker.pipeline.materialised import Materialisations
from broker.pipeline.planner import Planner
from broker.pipeline.service import QueryService
from broker.ports.aggregator import Aggregator
from broker.ports.clock import Clock
from broker.ports.jobs import JobStore
from broker.transport.decode_job import decode_job_spec

HELD = 4
"""How many datasets of the largest size a process holds."""


def materialised_datasets(store: JobStore, planner: Planner, clock: Clock) -> MaterialisedDatasets:
    """Finds datasets by their names."""
    decode = partial(decode_job_spec, defaults=AnswerPolicy())
    return MaterialisedDatasets(store, planner, decode, clock)


def materialised_rows(settings: JobSettings) -> MaterialisedRows:
    """Reads their rows from the result store, and holds them."""
    return MaterialisedRows(result_store(settings), HELD * settings.materialized_bytes)


def answering(
    query: QueryService, settings: JobSettings, store: JobStore, aggregator: Aggregator, clock: Clock
) -> QueryService:
    """The same request path, which also answers from datasets that jobs made."""
    found = materialised_datasets(store, query.plan, clock)
    rows = materialised_rows(settings)
    made = Materialisations(found.find, rows, aggregator, clock, query.plan.grids)
    return replace(query, materialised=made)
