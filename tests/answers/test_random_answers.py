"""Random queries over real gRPC and a real PostgreSQL give the answers of the oracle.

A failure names the seed and shows the smallest query that still goes wrong; ANSWERS_SEED=... tries other queries.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from google.protobuf import text_format
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from querybroker.v1 import query_pb2 as q
from querybroker.v1 import query_service_pb2 as s
from tests.answers.failures import assert_right
from tests.oracle.ask import Asker
from tests.oracle.cells import AmbiguousError
from tests.oracle.check import Checker, Drawing, Question
from tests.oracle.compare import difference
from tests.oracle.decode import from_stream
from tests.oracle.evaluate import evaluate
from tests.oracle.generate import QuerySpace


async def test_random_queries_as_panels_and_explorations(
    asker: Asker, spaces: Sequence[QuerySpace], seed: int
) -> None:
    await assert_right(Checker(asker), Drawing(spaces, seed), 520)


LARGE = {
    "in one pass": "",
    "with a time grain": """time { grain: TIME_GRAIN_DAY zone: "Pacific/Chatham"
        dates { start_date { year: 2013 month: 1 day: 1 } end_date { year: 2014 month: 1 day: 2 } } }""",
    "with shares": 'calculations { shares { measure: "miles" within: "carrier" } }',
}


@pytest.mark.parametrize(
    "format_", [s.RESULT_FORMAT_COLUMNS, s.RESULT_FORMAT_ARROW], ids=["columns", "arrow"]
)
@pytest.mark.parametrize("more", LARGE.values(), ids=LARGE)
async def test_an_answer_of_many_batches(
    asker: Asker, spaces: Sequence[QuerySpace], more: str, format_: s.ResultFormat.ValueType
) -> None:
    text = f"""dataset: "flights" measures: "flights" measures: "miles" measures: "dep_delay" {more}
        dimensions: "tailnum" dimensions: "flight_number" dimensions: "dest_name" dimensions: "carrier" """
    query = text_format.Parse(text, q.Query())
    events = await asker.events(query, format_)
    assert sum(event.HasField("batch") for event in events) > 1
    assert difference(evaluate(query, spaces[0].model, spaces[0].now), from_stream(events)) is None


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
async def test_queries_that_hypothesis_finds(
    asker: Asker, spaces: Sequence[QuerySpace], data: st.DataObject
) -> None:
    space = data.draw(st.sampled_from(spaces))
    query = data.draw(space.strategy())
    try:
        question = Question(space, query, evaluate(query, space.model, space.now))
    except AmbiguousError:
        assume(condition=False)
        raise
    assert await Checker(asker).explore(question) is None
