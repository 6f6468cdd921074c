"""Where the caller lets edges be moved, the answer is that of the range that it names."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest

from querybroker import policy, query
from querybroker.v1 import answer_pb2, query_service_pb2
from tests.system.rolled.place import Place, kind_of

DAY = "2024-02-{}T00:00:00Z"
CASES: Mapping[str, tuple[dict[str, Any], tuple[str, str], tuple[str, str]]] = {
    "to quarters of an hour": (
        {"measures": ["sales", "revenue", "mean", "closing"], "dimensions": ["kind", "region"]},
        ("2024-02-05T10:07:30Z", "2024-02-20T11:31:00.000001Z"),
        ("2024-02-05T10:00:00Z", "2024-02-20T11:45:00Z"),
    ),
    "to quarters of an hour, by day of a zone": (
        {"measures": ["sales", "closing"], "grain": "day", "zone": "Asia/Kathmandu"},
        ("2024-02-05T10:07:30Z", "2024-02-20T11:31:00Z"),
        ("2024-02-05T10:00:00Z", "2024-02-20T11:45:00Z"),
    ),
    "at one end": (
        {"measures": ["sales"], "dimensions": ["level"], "where": ("level", ">", 1)},
        ("2024-02-05T10:15:00Z", "2024-02-20T11:31:00Z"),
        ("2024-02-05T10:15:00Z", "2024-02-20T11:45:00Z"),
    ),
    "to hours, which is all that the table has": (
        {"measures": ["sales", "most"], "dimensions": ["rate"]},
        ("2024-02-05T10:15:00Z", "2024-02-20T11:31:00Z"),
        ("2024-02-05T10:00:00Z", "2024-02-20T12:00:00Z"),
    ),
    "to days of a zone": (
        {"measures": ["sales"], "dimensions": ["tenant"], "where": {"region": "north"}},
        ("2024-02-05T10:15:00Z", "2024-02-20T11:31:00Z"),
        ("2024-02-05T05:00:00Z", "2024-02-21T05:00:00Z"),
    ),
    "beyond a bucket of the answer": (
        {"measures": ["sales"], "grain": "week", "gap_fill": True},
        ("2024-02-05T00:00:00Z", "2024-02-25T23:59:00Z"),
        ("2024-02-05T00:00:00Z", "2024-02-26T00:00:00Z"),
    ),
}


def moments(text: tuple[str, str]) -> tuple[datetime, datetime]:
    start, end = map(datetime.fromisoformat, text)
    return start, end


@pytest.mark.parametrize("case", CASES)
async def test_the_answer_is_that_of_the_range_that_it_names(place: Place, case: str) -> None:
    fields, asked, expected = CASES[case]
    question = query("sales", time=moments(asked), **fields)
    exact = query("sales", time=moments(expected), **fields)
    snap, forbid = policy(rollup="require", edge="snap"), policy(rollup="forbid")
    async with place.client() as client:
        explained = await client.explain(question, policy=snap, kind="dashboard")
        answers = await client.dashboard(
            {
                "snapped": query_service_pb2.Panel(query=question, policy=snap),
                "exact": query_service_pb2.Panel(query=exact, policy=forbid),
            }
        )
    status = answers["snapped"].status
    assert status.exactness == answer_pb2.EXACTNESS_SNAPPED
    assert within(status.effective_range) == moments(expected)
    assert kind_of(answers["snapped"]) == "rollup"
    assert answers["snapped"].rows() == answers["exact"].rows()
    assert not answers["exact"].status.HasField("effective_range")
    assert explained.expected_exactness == answer_pb2.EXACTNESS_SNAPPED
    told = {part.source_name for part in explained.plan}
    assert bool(explained.statements) is (
        "rows" in told
    )  # the one that is a table; segments are not read by SQL
    assert within(explained.resolved_range) == moments(expected)


async def test_the_moved_range_has_other_rows_than_the_one_that_was_asked_for(place: Place) -> None:
    question = query(
        "sales", measures="sales", time=moments(("2024-02-05T14:14:00Z", "2024-02-20T00:01:00Z"))
    )
    async with place.client() as client:
        answers = await client.dashboard(
            {
                edge: query_service_pb2.Panel(query=question, policy=policy(rollup="require", edge=edge))
                for edge in ("snap", "exact")
            }
        )
    assert answers["snap"].column("sales") > answers["exact"].column("sales")


def within(interval: answer_pb2.TimeInterval) -> tuple[datetime, datetime]:
    """Both ends."""
    zone = datetime.fromisoformat("2024-01-01T00:00:00Z").tzinfo
    return interval.start_time.ToDatetime(zone), interval.end_time.ToDatetime(zone)


UNMOVED: Mapping[str, tuple[dict[str, Any], str, str, str]] = {
    "edges that are aligned": ({"measures": ["sales"]}, DAY.format("05"), DAY.format("20"), "snap"),
    "edges that a window depends on": (
        {"measures": ["sales"], "grain": "day", "rolling": {"sales": 3}},
        DAY.format("05"),
        "2024-02-20T11:31:00Z",
        "snap",
    ),
    "edges that a comparison depends on": (
        {"measures": ["sales"], "compare_to": (1, "week")},
        "2024-02-06T11:07:00Z",
        "2024-02-20T11:31:00Z",
        "snap",
    ),
    "edges of somebody who wants them exact": (
        {"measures": ["sales"]},
        "2024-02-06T11:07:00Z",
        "2024-02-20T11:31:00Z",
        "exact",
    ),
}


@pytest.mark.parametrize("case", UNMOVED)
async def test_these_edges_stay_where_they_are(place: Place, case: str) -> None:
    fields, start, end, edge = UNMOVED[case]
    question = query("sales", time=moments((start, end)), **fields)
    panels = {
        "rolled": query_service_pb2.Panel(query=question, policy=policy(rollup="require", edge=edge)),
        "live": query_service_pb2.Panel(query=question, policy=policy(rollup="forbid")),
    }
    async with place.client() as client:
        explained = await client.explain(question, policy=panels["rolled"].policy, kind="dashboard")
        answers = await client.dashboard(panels)
    rolled = answers["rolled"]
    # Of what the rollups leave to the tables, and of nothing else.
    shown = [statement for statement in explained.statements if "FROM public.sales" in statement]
    assert bool(shown) is (explained.expected_kind == answer_pb2.ANSWER_KIND_HYBRID)
    assert all("T11:30:00+00:00' AS TIMESTAMPTZ" in statement for statement in shown)
    assert rolled.status.exactness == answer_pb2.EXACTNESS_EXACT
    assert not rolled.status.HasField("effective_range")
    assert kind_of(rolled) in ("rollup", "hybrid")
    assert rolled.rows() == answers["live"].rows()
