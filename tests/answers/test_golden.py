"""Written-down answers: the broker, the oracle and a statement that anybody can read agree on each of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import asyncpg
import pytest

from tests.answers.golden import calculations, filters, groups, measures, times
from tests.answers.golden.case import Case
from tests.oracle.ask import Asker
from tests.oracle.compare import difference, unlike
from tests.oracle.decode import Actual
from tests.oracle.evaluate import evaluate
from tests.oracle.expected import Expected
from tests.oracle.generate import QuerySpace
from tests.oracle.zones import micros

CASES = (*filters.CASES, *groups.CASES, *measures.CASES, *times.CASES, *calculations.CASES)
by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def expected(case: Case, spaces: Sequence[QuerySpace]) -> Expected:
    return evaluate(case.message, spaces[0].model, micros(datetime.now(UTC)))


def test_every_case_has_a_name_of_its_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 50


@by_name
async def test_the_written_answer_is_what_postgresql_says(case: Case, flights_dsn: str) -> None:
    connection = await asyncpg.connect(flights_dsn)
    rows = tuple(tuple(row.values()) for row in await connection.fetch(case.statement))
    await connection.close()
    assert unlike(Actual((), rows), Actual((), case.rows)) is None


@by_name
def test_the_oracle_gives_the_written_answer(case: Case, spaces: Sequence[QuerySpace]) -> None:
    found = expected(case, spaces)
    assert difference(found, Actual(found.columns, case.rows)) is None


@by_name
async def test_the_broker_gives_the_written_answer(
    case: Case, asker: Asker, spaces: Sequence[QuerySpace]
) -> None:
    answer = await asker.explore(case.message)
    assert unlike(answer, Actual(expected(case, spaces).columns, case.rows)) is None
