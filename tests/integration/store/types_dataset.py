"""A dataset over a table that every database has, and whether a store finds it."""

from __future__ import annotations

import pytest

from broker.adapters.pg_store import PgStore
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dataset, Dimension, Measure, MeasureKind
from broker.domain.query import Query
from broker.domain.values import DataType
from tests.integration.store.conftest import read

CATALOG = Dataset(
    "types",
    "pg_catalog.pg_type",
    {"name": Dimension("name", "types.typname", DataType.STRING, ("types",))},
    {
        "count": Measure("count", MeasureKind.COUNT),
        "sleep": Measure("sleep", MeasureKind.MAX, "length(pg_sleep(30)::text)", tables=("types",)),
    },
)
COUNT = Query("types", measures=("count",))
SLEEP = Query("types", measures=("sleep",))


async def unavailable(store: PgStore) -> None:
    """A read finds no database, and says when to come back."""
    with pytest.raises(BrokerError) as caught:
        await read(store, COUNT, CATALOG)
    assert caught.value.reason is ErrorReason.STORE_UNAVAILABLE
    assert caught.value.retry_after is not None


async def available(store: PgStore) -> bool:
    """Whether a read finds the database."""
    try:
        return bool(await read(store, COUNT, CATALOG))
    except BrokerError:
        return False
