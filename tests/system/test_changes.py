"""The database changes under a running broker: clear errors without the data in them, then answers again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from querybroker import QueryBrokerError, query
from querybroker.v1 import job_pb2, query_pb2
from tests.support.pg import Connection
from tests.system.secured import Secured

SOUND = "CREATE VIEW shifting AS SELECT 1::bigint AS id, 'secret' AS note"
QUESTIONS = {
    "grouped": query("shifting", dimensions=["id", "note"]),
    "summed": query("shifting", measures=["rows", "total"]),
    "sketched": query("shifting", measures=["middle"]),
}


@pytest.fixture
async def shifting(beside: Connection) -> AsyncIterator[Connection]:
    """What changes the view, which is as it was again afterwards."""
    yield beside
    await beside.execute(f"DROP VIEW IF EXISTS shifting; {SOUND}")


async def outcome(secured: Secured, question: query_pb2.Query, *, streamed: bool) -> QueryBrokerError | None:
    async with secured.client("boss") as client:
        try:
            if streamed:
                async with client.explore(question) as stream:
                    await stream.collect()
            else:
                await client.ask(question)
        except QueryBrokerError as error:
            return error
    return None


@pytest.mark.parametrize(
    ("changed", "condition"),
    [
        (
            "CREATE VIEW shifting AS SELECT 'secret'::text AS id, 'secret' AS note",
            "invalid_text_representation",
        ),
        ("CREATE VIEW shifting AS SELECT '{1}'::int[] AS id, 'secret' AS note", "cannot_coerce"),
        (
            "CREATE VIEW shifting AS SELECT 1e30::numeric AS id, 'secret' AS note",
            "numeric_value_out_of_range",
        ),
        ("CREATE VIEW shifting AS SELECT 'secret' AS note", "undefined_column"),
        ("SELECT 1", "undefined_table"),
    ],
)
async def test_a_view_that_does_not_fit_the_model_any_more_is_rejected_by_the_store(
    secured: Secured, shifting: Connection, changed: str, condition: str
) -> None:
    for question in QUESTIONS.values():  # so that connections have seen the view as it was
        assert await outcome(secured, question, streamed=False) is None
    await shifting.execute(f"DROP VIEW shifting; {changed}")
    for streamed in (False, True):
        error = await outcome(secured, QUESTIONS["grouped"], streamed=streamed)
        assert error is not None
        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "STORE_REJECTED")
        assert (error.metadata["condition"], error.retry_after) == (condition, None)
        for question in QUESTIONS.values():
            other = await outcome(secured, question, streamed=streamed)
            assert other is None or other.reason == "STORE_REJECTED"
            assert "secret" not in f"{error} {dict(error.metadata)} {other}", "values stay in the database"
    await shifting.execute(f"DROP VIEW IF EXISTS shifting; {SOUND}")
    for question in QUESTIONS.values():
        assert await outcome(secured, question, streamed=False) is None


async def test_an_export_fails_with_the_same_reason_and_is_not_tried_again(
    secured: Secured, shifting: Connection
) -> None:
    await shifting.execute("DROP VIEW shifting")
    async with secured.client("boss") as client:
        job = await client.jobs.submit(QUESTIONS["grouped"])
        last = [event async for event in client.jobs.watch(job.name, timeout=60)][-1]
        assert (last.state, last.attempt) == (job_pb2.JOB_STATE_FAILED, 1)
        assert QueryBrokerError.from_status(last.error).reason == "STORE_REJECTED"
