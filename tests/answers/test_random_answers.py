"""Random queries over real gRPC and a real PostgreSQL give the answers of the oracle.

A failure names the seed and shows the smallest query that still goes wrong; ANSWERS_SEED=... tries other queries.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.answers.failures import assert_right
from tests.oracle.ask import Asker
from tests.oracle.cells import AmbiguousError
from tests.oracle.check import Checker, Drawing, Question
from tests.oracle.evaluate import evaluate
from tests.oracle.generate import QuerySpace


async def test_random_queries_as_panels_and_explorations(
    asker: Asker, spaces: Sequence[QuerySpace], seed: int
) -> None:
    await assert_right(Checker(asker), Drawing(spaces, seed), 520)


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
