"""Values, headings, tables and status lines for people."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from rich.console import Console

from broker.cli.exits import Exit
from broker.cli.failures import show_error
from broker.cli.render.cells import duration_text, formatter, heading, size_text
from broker.cli.render.status import bound_text, ladder_text, status_line
from broker.cli.render.tables import answer_table
from broker.cli.watch import outlook, show_end
from querybroker.errors import QueryBrokerError, Violation
from querybroker.v1 import answer_pb2 as pb
from querybroker.v1 import job_pb2
from querybroker.v1.answer_pb2 import ColumnSchema

MEASURE = pb.COLUMN_ROLE_MEASURE
BUCKET = pb.COLUMN_ROLE_TIME_BUCKET


def column(
    name: str, type: pb.DataType.ValueType, role: pb.ColumnRole.ValueType = MEASURE, **more: str
) -> ColumnSchema:
    return ColumnSchema(name=name, type=type, role=role, zone=more.get("zone", ""), unit=more.get("unit", ""))


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (pb.LadderStep(rung=pb.LADDER_RUNG_LIVE, verdict=pb.LADDER_VERDICT_ANSWERED), "live: answered"),
        (
            pb.LadderStep(
                rung=pb.LADDER_RUNG_ROLLUP,
                verdict=pb.LADDER_VERDICT_NOT_APPLICABLE,
                source_name="daily",
                codes=["KEYS", "STALE"],
                detail="does not store 'dest'",
            ),
            "rollup daily: not applicable (KEYS, STALE: does not store 'dest')",
        ),
    ],
)
def test_sources_that_were_considered(step: pb.LadderStep, text: str) -> None:
    assert ladder_text(step) == text


@pytest.mark.parametrize(
    ("given", "value", "text"),
    [
        (column("n", pb.DATA_TYPE_INT64), 1234567, "1,234,567"),
        (column("year", pb.DATA_TYPE_INT64, pb.COLUMN_ROLE_DIMENSION), 2013, "2013"),
        (column("x", pb.DATA_TYPE_DOUBLE), 12.639070257, "12.64"),
        (column("x", pb.DATA_TYPE_DOUBLE), -0.0520812, "-0.0521"),
        (column("x", pb.DATA_TYPE_DOUBLE), 1.5e-7, "1.5e-07"),
        (column("x", pb.DATA_TYPE_DOUBLE), 0.0, "0"),
        (column("x", pb.DATA_TYPE_DOUBLE), float("nan"), "nan"),
        (column("m", pb.DATA_TYPE_DECIMAL), Decimal("1234.50"), "1,234.50"),
        (column("n__share", pb.DATA_TYPE_DOUBLE), 0.1234, "12.3"),
        (column("n", pb.DATA_TYPE_INT64), None, "–"),
        (column("b", pb.DATA_TYPE_BOOL), True, "yes"),
        (column("d", pb.DATA_TYPE_DATE), date(2013, 1, 31), "2013-01-31"),
        (column("s", pb.DATA_TYPE_STRING), "[bold]x", "[bold]x"),
    ],
)
def test_values(given: ColumnSchema, value: object, text: str) -> None:
    assert formatter(given)(value) == text


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        (datetime(2013, 1, 31, 5, tzinfo=UTC), "2013-01-31"),
        (datetime(2013, 7, 31, 5, tzinfo=UTC), "2013-07-31 01:00"),
        (datetime(2013, 7, 31, 5, 0, 7, tzinfo=UTC), "2013-07-31 01:00:07"),
        (datetime(2013, 11, 3, 5, tzinfo=UTC), "2013-11-03 01:00-0400"),
        (
            datetime(2013, 11, 3, 6, tzinfo=UTC),
            "2013-11-03 01:00-0500",
        ),  # the same on the clock, an hour later
    ],
)
def test_buckets_are_shown_on_the_clock_of_their_zone(instant: datetime, text: str) -> None:
    assert formatter(column("t", pb.DATA_TYPE_TIMESTAMP, BUCKET, zone="America/New_York"))(instant) == text


def test_headings_put_what_was_calculated_and_the_unit_below() -> None:
    assert heading(column("dep_delay", pb.DATA_TYPE_DOUBLE, unit="min")) == "dep_delay\nmin"
    assert heading(column("n__previous", pb.DATA_TYPE_INT64)) == "n\nprevious"
    assert heading(column("n__change_ratio", pb.DATA_TYPE_DOUBLE)) == "n\nchange %"
    assert heading(column("cancellation_rate", pb.DATA_TYPE_DOUBLE), narrow=True) == "cancellation_\nrate"


def test_the_row_of_all_others_is_marked_and_its_flag_is_not_shown() -> None:
    schema = [
        column("dest", pb.DATA_TYPE_STRING, pb.COLUMN_ROLE_DIMENSION),
        column("n", pb.DATA_TYPE_INT64),
        column("dest__other", pb.DATA_TYPE_BOOL, pb.COLUMN_ROLE_CALCULATION),
    ]
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(answer_table(schema, [("ORD", 5, False), (None, 2, False), (None, 3, True)], title="[x]"))
    rows = [line.split() for line in console.export_text().splitlines() if line.strip()]
    assert rows == [["[x]"], ["dest", "n"], rows[2], ["ORD", "5"], ["–", "2"], ["(other)", "3"]]


def test_values_cannot_break_the_lines_of_a_table_or_steer_the_terminal() -> None:
    schema = [column("name", pb.DATA_TYPE_STRING, pb.COLUMN_ROLE_DIMENSION)]
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(answer_table(schema, [("a\tb\nc\\",), ("\x1b[31mred",), ("süß",)]))
    rows = [line.strip() for line in console.export_text().splitlines() if line.strip()]
    assert rows[2:] == ["a\\tb\\nc\\", "\\x1b[31mred", "süß"]


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (job_pb2.JobResult(), "succeeded; nothing was written"),
        (job_pb2.JobResult(row_count=1, byte_count=9), "1 row, 9 B"),
        (job_pb2.JobResult(parts=[job_pb2.ResultPart()]), "0 rows in 1 file, 0 B"),
    ],
)
def test_the_end_of_a_job_in_one_line(
    capsys: pytest.CaptureFixture[str], result: job_pb2.JobResult, told: str
) -> None:
    job = job_pb2.Job(name="it", state=job_pb2.JOB_STATE_SUCCEEDED, result=result)
    assert show_end(job, "") is Exit.OK
    assert capsys.readouterr().err == f"it: {told}.\n"


def test_a_status_in_one_line() -> None:
    status = pb.AnswerStatus(kind=pb.ANSWER_KIND_CACHE_STALE, degraded=True, pool="dashboard")
    status.reasons.append(pb.DEGRADATION_REASON_OVERLOAD_POOL_FULL)
    status.as_of.FromDatetime(datetime(2013, 1, 1, tzinfo=UTC))
    status.queue_duration.FromMilliseconds(12)
    status.actual_cost.duration_p50.FromMilliseconds(340)
    assert status_line(status, 20_000, 0.5) == (
        "cache_stale, degraded · overload_pool_full · 20,000 rows · as of 2013-01-01 00:00:00 UTC · queued 12 ms · "
        "worked 340 ms · here in 500 ms, 40,000 rows/s · pool dashboard"
    )


def test_a_status_tells_how_far_the_replica_was_behind() -> None:
    status = pb.AnswerStatus(kind=pb.ANSWER_KIND_LIVE)
    status.parts.add(source=pb.PART_SOURCE_LIVE).replica_lag.FromMilliseconds(0)
    assert status_line(status) == "live · from a replica, 0 ms behind · queued 0 ms"
    status.parts.add(source=pb.PART_SOURCE_ROLLUP).replica_lag.FromMilliseconds(2500)
    status.parts.add(source=pb.PART_SOURCE_ROLLUP)
    assert status_line(status) == "live · from a replica, 2.50 s behind · queued 0 ms"


def test_bounds_of_percentiles_are_in_ranks() -> None:
    kll = pb.ErrorBound(measure="p95", method=pb.BOUND_METHOD_KLL, relative_error=0.013, confidence=0.99)
    hll = pb.ErrorBound(measure="planes", method=pb.BOUND_METHOD_HLL, relative_error=0.03, confidence=0.95)
    assert bound_text(kll) == "p95 rank ± 1.3% at 99%"
    assert bound_text(hll) == "planes ± 3.0% at 95%"


def test_lengths_and_sizes() -> None:
    seconds = (0, 0.0012345, 0.25, 1.5, 125)
    assert [duration_text(s) for s in seconds] == ["0 ms", "1.23 ms", "250 ms", "1.50 s", "2 min 05 s"]
    assert [size_text(n) for n in (12, 2048, 5 << 20, 3 << 30)] == ["12 B", "2.0 KiB", "5.0 MiB", "3.0 GiB"]


def test_an_error_says_everything_it_knows(capsys: pytest.CaptureFixture[str]) -> None:
    error = QueryBrokerError(
        "INVALID_ARGUMENT",
        "strung together",
        reason="INVALID_REQUEST",
        metadata={"violation_count": "3"},
        violations=(Violation("query.limit", "must be at least 0", "OUT_OF_RANGE"),),
        retry_after=1.5,
        request_id="abc",
    )
    assert show_error(error, "here", subject="panel", within="query.") == 4
    assert capsys.readouterr().err.splitlines() == [
        "panel: INVALID_REQUEST: the question has problems",
        "  limit: must be at least 0",
        "  and 2 more",
        "Try again in 1.50 s.",
        "request abc",
    ]


def test_a_job_that_runs_tells_what_it_is_at_and_how_long_it_will_take() -> None:
    job = job_pb2.Job(state=job_pb2.JOB_STATE_RUNNING)
    assert list(outlook(job)) == []
    job.update_time.FromJsonString("2024-05-01T00:00:30Z")
    job.estimated_time.FromJsonString("2024-05-01T00:02:00Z")
    job.progress.interval.start_time.FromJsonString("2024-01-01T00:00:00Z")
    job.progress.message = "3 of 8 ranges are written, 2 under way"
    assert list(outlook(job)) == [
        "about 1 min 30 s left",
        "2024-01-01 00:00:00 UTC to …, the end excluded",
        "3 of 8 ranges are written, 2 under way",
    ]
