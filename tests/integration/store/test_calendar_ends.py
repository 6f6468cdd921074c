"""The first and the last day of Python's calendar are days like any other, and no infinity: tables close with them."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from broker.domain.model import Dataset, Dimension
from broker.domain.query import Condition, Operator, Query
from broker.domain.values import DataType
from tests.conftest import FreshDatabase
from tests.integration.store.conftest import MakeStore, condition, read
from tests.support.pg import prepare

OPEN, FIRST = date.max, date.min
LAST, BEGINNING = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
TERMS = Dataset(
    "terms",
    "terms",
    {
        "name": Dimension("name", "terms.name", DataType.STRING, ("terms",)),
        "until": Dimension("until", "terms.until", DataType.DATE, ("terms",)),
        "at": Dimension("at", "terms.at", DataType.TIMESTAMP, ("terms",)),
    },
    {},
)
ROWS = """
CREATE TABLE terms (name text, until date, at timestamptz);
INSERT INTO terms VALUES
    ('open', '9999-12-31', '9999-12-31 23:59:59.999999+00'), ('first', '0001-01-01', '0001-01-01 00:00+00'),
    ('endless', 'infinity', 'infinity'), ('ever', '-infinity', '-infinity'), ('usual', '2024-01-01', '2024-01-01')
"""


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (condition("until", Operator.EQ, OPEN), ["open"]),
        (condition("until", Operator.EQ, FIRST), ["first"]),
        (condition("until", Operator.IN, date(2024, 1, 1), OPEN), ["open", "usual"]),
        (condition("until", Operator.GE, FIRST), ["endless", "first", "open", "usual"]),
        (condition("at", Operator.EQ, LAST), ["open"]),
        (condition("at", Operator.IN, LAST, BEGINNING), ["first", "open"]),
        (condition("at", Operator.LT, LAST), ["ever", "first", "usual"]),
    ],
)
async def test_they_are_what_they_are_however_the_rows_are_read(
    terms: str, make_store: MakeStore, asked: Condition, names: list[str]
) -> None:
    store = await make_store(terms)
    query = Query("terms", dimensions=("name",), filter=asked)
    found = [
        [name for (name,) in await read(store, query, TERMS)] for _ in range(2)
    ]  # by COPY, then by parameters
    assert [sorted(map(str, each)) for each in found] == [names, names]


@pytest.fixture
async def terms(fresh_database: FreshDatabase) -> str:
    """A database with them."""
    dsn = await fresh_database()
    await prepare(dsn, ROWS, ())
    return dsn
